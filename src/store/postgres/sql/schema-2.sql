-- Version 2: another way to claim. Version 1 had a function of the same name, whose times are intervals. Where it
-- is, it stays, for programs that have the store open: both follow the same rules, under the same lock.

-- What a claim says; `claim.sql` has what counts when.
CREATE TYPE {schema}.onceflight_claimed AS (
    verdict text, epoch bigint, attempt integer, taken_over boolean, checkpoint bytea,
    lease_left double precision, status integer, body bytea, scope bytea, key bytea
);

-- Who leads? Decides in the order in which MemoryStore does. A function, since reading first and writing
-- only if it must makes a replay one read, and a lost race one more turn and no more round trips. Each column
-- and each expression of its own costs in every transaction anew, so there are few on the way of a key that
-- has no record, and the result is a type, which needn't be looked together as OUT parameters are.
CREATE FUNCTION {schema}.onceflight_claim(
    my_id bytea, my_scope bytea, my_key bytea, my_fingerprint bytea, my_token bytea,
    lease bigint, keep_for bigint, take_over boolean, watch boolean, following bigint
) RETURNS {schema}.onceflight_claimed LANGUAGE plpgsql AS $onceflight$
DECLARE
    answer {schema}.onceflight_claimed; -- all NULL where there was no row
    found_state smallint;
    found_lease timestamptz;
    found_expiry timestamptz;
    is_watched boolean;
    locked boolean;
BEGIN
    LOOP
        PERFORM FROM {schema}.onceflight_records AS r WHERE r.id = my_id;
        IF FOUND THEN
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
                r.epoch, r.attempt, r.taken_over, CASE WHEN r.token = my_token THEN r.checkpoint END,
                r.status, r.body, r.state, r.lease_until, r.expires_at, r.watched
            INTO answer.verdict, answer.epoch, answer.attempt, answer.taken_over, answer.checkpoint,
                answer.status, answer.body, found_state, found_lease, found_expiry, is_watched
            FROM {schema}.onceflight_records AS r WHERE r.id = my_id;

            IF answer.verdict = 'completed' THEN
                RETURN answer;
            ELSIF answer.verdict NOT IN ('vacant', 'succeeds') THEN
                answer.body := NULL;
                IF answer.verdict = 'in progress' THEN
                    IF watch AND NOT is_watched THEN
                        UPDATE {schema}.onceflight_records AS r SET watched = true
                        WHERE r.id = my_id AND r.epoch = answer.epoch AND r.state = 1;
                        IF NOT FOUND THEN -- settled meanwhile
                            answer := NULL;
                            CONTINUE;
                        END IF;
                    END IF;
                    answer.lease_left := extract(epoch FROM found_lease) - extract(epoch FROM clock_timestamp());
                ELSIF answer.verdict = 'foreign' THEN
                    SELECT r.scope, r.key INTO answer.scope, answer.key
                    FROM {schema}.onceflight_records AS r WHERE r.id = my_id;
                END IF;
                RETURN answer;
            END IF;
        END IF;

        -- The key is free. Only one at a time draws an epoch for it and writes it: else who draws first
        -- could write last, when another's record has come and gone between, and epochs would go back.
        locked := pg_advisory_xact_lock(('x' || encode(substr(my_id, 1, 8), 'hex'))::bit(64)::bigint) IS NOT NULL;
        IF answer.verdict IS NULL THEN
            INSERT INTO {schema}.onceflight_records AS r VALUES (
                my_id, my_scope, my_key, my_fingerprint, 1, my_token, nextval({epochs}), 1, false,
                coalesce(clock_timestamp() + lease * interval '1 us', 'infinity'), keep_for * interval '1 us',
                coalesce(clock_timestamp() + (lease + keep_for) * interval '1 us', 'infinity'),
                NULL, NULL, NULL, false, clock_timestamp())
            ON CONFLICT DO NOTHING
            RETURNING 'granted', r.epoch, r.attempt, r.taken_over
            INTO answer.verdict, answer.epoch, answer.attempt, answer.taken_over;
        ELSE
            -- A successor goes on with what its flight has; anything else is forgotten.
            answer.body := NULL;
            UPDATE {schema}.onceflight_records AS r SET
                fingerprint = my_fingerprint, state = 1, token = my_token, epoch = nextval({epochs}),
                attempt = CASE WHEN answer.verdict = 'succeeds' THEN least(r.attempt, 2147483646) + 1 ELSE 1 END,
                taken_over = (answer.verdict = 'succeeds' AND r.state = 1),
                lease_until = coalesce(clock_timestamp() + lease * interval '1 us', 'infinity'),
                keep = keep_for * interval '1 us',
                expires_at = coalesce(clock_timestamp() + (lease + keep_for) * interval '1 us', 'infinity'),
                status = NULL, body = NULL,
                checkpoint = CASE WHEN answer.verdict = 'succeeds' THEN r.checkpoint END,
                watched = false,
                created_at = CASE WHEN answer.verdict = 'succeeds' THEN r.created_at ELSE clock_timestamp() END
            -- still what was judged: nobody settled, renewed or took it over
            WHERE r.id = my_id AND r.epoch = answer.epoch AND r.state = found_state
                AND r.lease_until = found_lease AND r.expires_at = found_expiry
            RETURNING 'granted', r.epoch, r.attempt, r.taken_over, r.checkpoint
            INTO answer.verdict, answer.epoch, answer.attempt, answer.taken_over, answer.checkpoint;
        END IF;
        IF FOUND THEN
            RETURN answer;
        END IF;
    END LOOP;
END
$onceflight$;
