-- Drops a record that nobody leads. A row: there was one; `live`: it hadn't expired.
--
-- $1 id  $2 scope  $3 key: bytea
DELETE FROM {schema}.onceflight_records
WHERE id = $1::bytea AND scope = $2::bytea AND key = $3::bytea AND state <> 1
RETURNING expires_at > clock_timestamp() AS live
