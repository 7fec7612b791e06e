-- Drops a record whatever it is. A row: there was one.
--
-- $1 id  $2 scope  $3 key: bytea
DELETE FROM {schema}.onceflight_records
WHERE id = $1::bytea AND scope = $2::bytea AND key = $3::bytea
RETURNING {tell} AS told
