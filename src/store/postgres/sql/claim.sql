-- Who leads? One row; which columns of it count, the verdict tells:
--
--   granted      epoch, attempt, taken_over, checkpoint
--   completed    status, body
--   in progress  epoch, lease_left (seconds; infinity: no lease)
--   mismatch, unknown
--   foreign      scope, key: whose record has this id
--   corrupt      the record isn't what it must be
--
-- $1 id  $2 scope  $3 key  $4 fingerprint or NULL  $5 token: bytea
-- $6 lease or NULL (none)  $7 keep or NULL (for ever): bigint, microseconds
-- $8 take over where a lead was lost?  $9 watch?: boolean  $10 epoch that is followed, or NULL: bigint
SELECT verdict, epoch, attempt, taken_over, checkpoint, lease_left, status, body, scope, key
FROM {schema}.onceflight_claim(
    $1::bytea, $2::bytea, $3::bytea, $4::bytea, $5::bytea,
    $6::bigint, $7::bigint, $8::boolean, $9::boolean, $10::bigint)
