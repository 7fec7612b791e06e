-- The lease begins anew. A row: done; none: stale.
--
-- $1 id  $2 token: bytea  $3 epoch: bigint  $4 lease: bigint, microseconds, or NULL (none)
UPDATE {schema}.onceflight_records
SET lease_until = coalesce(clock_timestamp() + $4::bigint * interval '1 us', 'infinity'),
    expires_at = coalesce(clock_timestamp() + $4::bigint * interval '1 us' + keep, 'infinity')
WHERE id = $1::bytea AND token = $2::bytea AND epoch = $3::bigint AND state = 1
RETURNING id
