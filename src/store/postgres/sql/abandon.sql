-- A lead ends without a response, and it may have happened: its lease passes now, and the lead is nobody's.
-- A row: done; none: `look` tells why.
--
-- $1 id  $2 token: bytea  $3 epoch: bigint
UPDATE {schema}.onceflight_records 
SET lease_until = clock_timestamp(), token = decode(repeat('00', 16), 'hex')
WHERE id = $1::bytea AND token = $2::bytea AND epoch = $3::bigint AND state = 1
RETURNING {tell} AS told
