-- Whose a record is, and its state. After a settle without a row, they say why.
--
-- $1 id: bytea
SELECT token, epoch, state, attempt FROM {schema}.onceflight_records WHERE id = $1::bytea
