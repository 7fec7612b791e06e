-- Version 1. Run once in a schema, in a transaction, by whoever comes first.

-- Not owned by the table: TRUNCATE ... RESTART IDENTITY would let epochs go back.
CREATE SEQUENCE {schema}.onceflight_epochs;

CREATE TABLE {schema}.onceflight_records (
    id bytea PRIMARY KEY,             -- 16 bytes: the hash of scope and key
    scope bytea NOT NULL,
    key bytea NOT NULL,
    fingerprint bytea,
    state smallint NOT NULL,          -- 1 in progress, 2 completed, 3 released
    token bytea NOT NULL,             -- 16 bytes: whose claim it is; zeros once it is abandoned
    epoch bigint NOT NULL,
    attempt integer NOT NULL,
    taken_over boolean NOT NULL,      -- from a lead that was lost
    lease_until timestamptz NOT NULL, -- 'infinity': no lease
    keep interval,                    -- how long past its lease a lost lead is remembered; NULL: for ever
    expires_at timestamptz NOT NULL,  -- 'infinity': never
    status integer,
    body bytea,
    checkpoint bytea,
    watched boolean NOT NULL,         -- somebody waits elsewhere
    created_at timestamptz NOT NULL   -- when the flight began
);

CREATE INDEX onceflight_records_by_scope ON {schema}.onceflight_records (scope, id);
CREATE INDEX onceflight_records_by_expiry ON {schema}.onceflight_records (expires_at);
