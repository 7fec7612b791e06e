-- The tables as version 1 made them, for a test that brings them up to date.
CREATE TABLE onceflight_schema (version integer NOT NULL);
INSERT INTO onceflight_schema VALUES (1);
-- Not owned by the table: TRUNCATE ... RESTART IDENTITY would let epochs go back.
CREATE SEQUENCE onceflight_epochs;

CREATE TABLE onceflight_records (
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

CREATE INDEX onceflight_records_by_scope ON onceflight_records (scope, id);
CREATE INDEX onceflight_records_by_expiry ON onceflight_records (expires_at);

-- Who leads? Decides in the order in which MemoryStore does. A function, since reading first and writing
-- only if it must makes a replay one read, and a lost race one more turn and no more round trips. Each
-- expression of its own costs in every transaction anew, so the usual ways have few of them.
CREATE FUNCTION onceflight_claim(
    my_id bytea, my_scope bytea, my_key bytea, my_fingerprint bytea, my_token bytea,
    lease interval, keep_for interval, take_over boolean, watch boolean, following bigint,
    OUT verdict text, OUT epoch bigint, OUT attempt integer, OUT taken_over boolean, OUT checkpoint bytea,
    OUT lease_left double precision, OUT status integer, OUT body bytea, OUT scope bytea, OUT key bytea
) LANGUAGE plpgsql AS $onceflight$
#variable_conflict use_column
DECLARE
    found_state smallint;
    found_lease timestamptz;
    found_expiry timestamptz;
    is_watched boolean;
BEGIN
    LOOP
        -- All are NULL if there is no record.
        SELECT
            CASE
                WHEN r.scope <> my_scope OR r.key <> my_key THEN 'foreign'
                WHEN r.state NOT IN (1, 2, 3) OR r.state = 2 AND (r.status IS NULL OR r.body IS NULL)
                    THEN 'corrupt'
                -- sent again: the first answer was lost
                WHEN r.state = 1 AND r.token = my_token THEN 'granted'
                WHEN r.state = 2 AND r.fingerprint IS NOT DISTINCT FROM my_fingerprint
                    AND (r.epoch >= following OR r.expires_at > clock_timestamp()) THEN 'completed'
                WHEN r.expires_at <= clock_timestamp() THEN 'vacant'
                WHEN r.fingerprint IS DISTINCT FROM my_fingerprint
                    AND (r.state <> 3 OR r.checkpoint IS NOT NULL) THEN 'mismatch'
                WHEN r.state = 1 AND r.lease_until > clock_timestamp() THEN 'in progress'
                WHEN r.state = 1 AND NOT take_over THEN 'unknown'
                WHEN r.fingerprint IS NOT DISTINCT FROM my_fingerprint THEN 'succeeds'
                ELSE 'vacant'
            END,
            r.epoch, r.attempt, r.taken_over, CASE WHEN r.token = my_token THEN r.checkpoint END, r.status, r.body,
            r.state, r.lease_until, r.expires_at, r.watched
        INTO verdict, epoch, attempt, taken_over, checkpoint, status, body,
            found_state, found_lease, found_expiry, is_watched
        FROM onceflight_records AS r WHERE r.id = my_id;

        IF verdict = 'completed' THEN
            RETURN;
        ELSIF verdict NOT IN ('vacant', 'succeeds') THEN
            body := NULL;
            IF verdict = 'in progress' THEN
                IF watch AND NOT is_watched THEN
                    UPDATE onceflight_records AS r SET watched = true
                    WHERE r.id = my_id AND r.epoch = onceflight_claim.epoch AND r.state = 1;
                    CONTINUE WHEN NOT FOUND; -- settled meanwhile
                END IF;
                lease_left := extract(epoch FROM found_lease) - extract(epoch FROM clock_timestamp());
            ELSIF verdict = 'foreign' THEN
                SELECT r.scope, r.key INTO scope, key FROM onceflight_records AS r WHERE r.id = my_id;
            END IF;
            RETURN;
        END IF;

        -- The key is free. Only one at a time draws an epoch for it and writes it: else who draws first
        -- could write last, when another's record has come and gone between, and epochs would go back.
        PERFORM pg_advisory_xact_lock(('x' || encode(substr(my_id, 1, 8), 'hex'))::bit(64)::bigint);
        IF verdict IS NULL THEN
            INSERT INTO onceflight_records AS r VALUES (
                my_id, my_scope, my_key, my_fingerprint, 1, my_token, nextval('onceflight_epochs'), 1, false,
                coalesce(clock_timestamp() + lease, 'infinity'), keep_for,
                coalesce(clock_timestamp() + lease + keep_for, 'infinity'),
                NULL, NULL, NULL, false, clock_timestamp())
            ON CONFLICT DO NOTHING
            RETURNING 'granted', r.epoch, r.attempt, r.taken_over INTO verdict, epoch, attempt, taken_over;
        ELSE
            -- A successor goes on with what its flight has; anything else is forgotten.
            body := NULL;
            UPDATE onceflight_records AS r SET
                fingerprint = my_fingerprint, state = 1, token = my_token, epoch = nextval('onceflight_epochs'),
                attempt = CASE WHEN verdict = 'succeeds' THEN least(r.attempt, 2147483646) + 1 ELSE 1 END,
                taken_over = (verdict = 'succeeds' AND r.state = 1),
                lease_until = coalesce(clock_timestamp() + lease, 'infinity'),
                keep = keep_for,
                expires_at = coalesce(clock_timestamp() + lease + keep_for, 'infinity'),
                status = NULL, body = NULL,
                checkpoint = CASE WHEN verdict = 'succeeds' THEN r.checkpoint END,
                watched = false,
                created_at = CASE WHEN verdict = 'succeeds' THEN r.created_at ELSE clock_timestamp() END
            -- still what was judged: nobody settled, renewed or took it over
            WHERE r.id = my_id AND r.epoch = onceflight_claim.epoch AND r.state = found_state
                AND r.lease_until = found_lease AND r.expires_at = found_expiry
            RETURNING 'granted', r.epoch, r.attempt, r.taken_over, r.checkpoint
            INTO verdict, epoch, attempt, taken_over, checkpoint;
        END IF;
        EXIT WHEN FOUND;
    END LOOP;
END
$onceflight$;
