-- Drops records that expired ten seconds ago or before: who followed their flights may read them until
-- then. A row each. Records that another purge, or a claim, is about to change are left to it.
--
-- $1 how many at most: bigint
DELETE FROM {schema}.onceflight_records
WHERE id = ANY (ARRAY(
    -- statement_timestamp(), since an index can't be searched for a time that moves
    SELECT id FROM {schema}.onceflight_records
    WHERE expires_at <= statement_timestamp() - interval '10 s'
    ORDER BY expires_at LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED))
RETURNING id
