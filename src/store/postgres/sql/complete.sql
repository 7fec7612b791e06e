-- A lead completes. One row changed: done; none: `look` tells why. Here as elsewhere, it is told only if
-- somebody waits, since NOTIFY makes commits go one by one. By SET and not by RETURNING: a row to give
-- back would be a twelfth of what the statement costs the server.
--
-- $1 id  $2 token: bytea  $3 epoch: bigint
-- $4 status: integer  $5 body: bytea  $6 ttl: bigint, microseconds, or NULL (for ever)
UPDATE {schema}.onceflight_records
SET state = 2, status = $4::integer, body = $5::bytea, checkpoint = NULL,
    expires_at = coalesce(clock_timestamp() + $6::bigint * interval '1 us', 'infinity'),
    watched = {tell} IS NOT NULL
WHERE id = $1::bytea AND token = $2::bytea AND epoch = $3::bigint AND state = 1
