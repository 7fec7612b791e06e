-- A lead ends without a response, and nothing happened: its record goes, or stays for a successor if there
-- is a checkpoint, or somebody waits.
-- A row: done; none: `look` tells why.
--
-- $1 id  $2 token: bytea  $3 epoch: bigint
-- $4 its successor is about to claim: boolean  $5 how long what stays is kept: bigint, microseconds, or NULL (for ever)
WITH kept AS (
    UPDATE {schema}.onceflight_records
    SET state = 3, expires_at = coalesce(clock_timestamp() + $5::bigint * interval '1 us', 'infinity')
    WHERE id = $1::bytea AND token = $2::bytea AND epoch = $3::bigint AND state = 1
        AND ($4::boolean OR watched OR checkpoint IS NOT NULL)
    RETURNING {tell} AS told
), dropped AS (
    DELETE FROM {schema}.onceflight_records
    WHERE id = $1::bytea AND token = $2::bytea AND epoch = $3::bigint AND state = 1
        AND NOT ($4::boolean OR watched OR checkpoint IS NOT NULL)
    RETURNING {tell} AS told
)
TABLE kept UNION ALL TABLE dropped
