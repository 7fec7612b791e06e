-- A record, expired or not.
--
-- $1 id: bytea
SELECT id, scope, key, state, fingerprint, epoch, attempt,
    (extract(epoch FROM lease_until) - extract(epoch FROM clock_timestamp()))::double precision AS lease_left,
    (extract(epoch FROM expires_at) - extract(epoch FROM clock_timestamp()))::double precision AS expires_in,
    status, body, checkpoint
FROM {schema}.onceflight_records WHERE id = $1::bytea
