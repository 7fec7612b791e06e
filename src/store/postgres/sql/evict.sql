-- Drops a record whatever it is. A row: there was one. Of that id alone: the way out for one that is corrupt.
--
-- $1 id: bytea
DELETE FROM {schema}.onceflight_records
WHERE id = $1::bytea
RETURNING {tell} AS told
