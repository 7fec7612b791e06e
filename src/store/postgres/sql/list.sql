-- The records of a scope that haven't expired, by id, without their responses.
--
-- $1 scope: bytea  $2 the id after which to begin, or NULL: bytea  $3 how many at most: bigint
SELECT id, scope, key, state, fingerprint, epoch, attempt,
    (extract(epoch FROM lease_until) - extract(epoch FROM clock_timestamp()))::double precision AS lease_left,
    (extract(epoch FROM expires_at) - extract(epoch FROM clock_timestamp()))::double precision AS expires_in,
    NULL::integer AS status, NULL::bytea AS body, NULL::bytea AS checkpoint
FROM {schema}.onceflight_records
WHERE scope = $1::bytea AND id > coalesce($2::bytea, '') AND expires_at > clock_timestamp()
ORDER BY id LIMIT $3::bigint
