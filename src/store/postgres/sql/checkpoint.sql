-- Bytes for a successor. A row: done; none: stale.
--
-- $1 id  $2 token: bytea  $3 epoch: bigint  $4 checkpoint: bytea
UPDATE {schema}.onceflight_records SET checkpoint = $4::bytea
WHERE id = $1::bytea AND token = $2::bytea AND epoch = $3::bigint AND state = 1
RETURNING id
