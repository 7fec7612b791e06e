#!/usr/bin/env bash
# Breaks a store, or the table over it, in one place at a time and demands that a test fails for it: `make verify`.
#
# | control | the guarantee that is taken out |
# |-|-|
# | token-*, epoch-* | a lead settles with its own token and its own epoch, or not at all |
# | claim-* | a claim is one atomic step |
# | settle-* | a settle is one, too |
# | lease-* | a lead whose lease lasts isn't taken over, whatever the wall clock says |
# | resend-* | a claim that is sent again is the same claim |
# | fence-* | epochs never go back |
# | payload-* | another fingerprint is refused |
# | completed-* | a completed key is replayed |
# | checkpoint-* | a checkpoint outlives its leader |
# | fail-closed-* | what the store can't be asked about isn't executed; what it doesn't acknowledge isn't done |
# | stale-* | an overtaken lead is told so |
# | corrupt-* | what can't be read is an error |
# | file-* | a file that was replaced is written to for nobody |
# | purge-* | what is in progress isn't purged |
# | transaction-* | record and rows are both there, or neither |
# | answer-* | after a lost answer to a commit, what the database did counts |
# | full-* | where there is no room, what was there stays |
#
# When a control fails, and its arguments: tests/support/control.sh.
[[ -n ${ONCEFLIGHT_TEST_SERVERS:-} ]] || exec "$(dirname "$0")/../../scripts/servers.sh" run "$0" "$@"
. "$(dirname "$0")/../support/control.sh"

export ONCEFLIGHT_KILLS=40

tests=(cargo test --locked --quiet --features stores)
shows='^test result: FAILED'
mistakes='^[^{]*: Error { kind: Store,' # what was broken no longer runs, and a call that was to succeed says so

build() { "${tests[@]}" --test "${1% *}" --no-run; }

# In a schema of its own: its first store makes the function that claims, and the next control's has another.
run() {
    local url=$ONCEFLIGHT_TEST_POSTGRES schema=control_$ran
    psql -q "$url" -c "SET client_min_messages TO error" -c "DROP SCHEMA IF EXISTS $schema CASCADE" -c "CREATE SCHEMA $schema"
    ONCEFLIGHT_TEST_POSTGRES="$url?options=-csearch_path%3D$schema" \
        timeout 120 "${tests[@]}" --test "${1% *}" -- --exact "${1#* }"
}

# broken NAME TARGET TEST FILE PERL [FILE PERL]...: with each FILE changed by its PERL, TEST of that TARGET must fail.
broken() { control "$1" "$2 $3" "${@:4}"; }

sqlite=src/store/sqlite
memory=src/store/memory.rs
postgres=src/store/postgres
redis=src/store/redis
memcached=src/store/memcached

broken token-unchecked-sqlite store settles::sqlite::only_token_and_epoch_together_settle $sqlite/statements.rs \
    's/AND token = :token AND state = 1"/AND :token IS NOT NULL AND state = 1"/'

broken token-unchecked-memory store settles::memory::only_token_and_epoch_together_settle $memory \
    's/row\.held != held/row.held.epoch != held.epoch/; s/row\.held == held/row.held.epoch == held.epoch/g'

broken epoch-unchecked-sqlite store settles::sqlite::only_token_and_epoch_together_settle $sqlite/statements.rs \
    's/"epoch = :epoch AND id/":epoch IS NOT NULL AND id/'

broken epoch-unchecked-memory store settles::memory::only_token_and_epoch_together_settle $memory \
    's/row\.held != held/row.held.token != held.token/; s/row\.held == held/row.held.token == held.token/g'

for verb in complete renew checkpoint release abandon; do
    broken token-unchecked-postgres-$verb store settles::postgres::only_token_and_epoch_together_settle \
        $postgres/sql/$verb.sql 's/token = \$2::bytea/\$2::bytea IS NOT NULL/g'

    broken epoch-unchecked-postgres-$verb store settles::postgres::only_token_and_epoch_together_settle \
        $postgres/sql/$verb.sql 's/epoch = \$3::bigint/\$3::bigint IS NOT NULL/g'
done

for verb in complete renew checkpoint release; do
    broken token-unchecked-redis-$verb store settles::redis::only_token_and_epoch_together_settle \
        $redis/lua/$verb.lua 's/held ~= lead/sub(held, 1, 8) ~= sub(lead, 1, 8)/'

    broken epoch-unchecked-redis-$verb store settles::redis::only_token_and_epoch_together_settle \
        $redis/lua/$verb.lua 's/held ~= lead/sub(held, 9) ~= sub(lead, 9)/'
done

broken token-unchecked-memcached store settles::memcached::only_token_and_epoch_together_settle $memcached/mod.rs \
    's/item\.held != held/item.held.epoch != held.epoch/'

broken epoch-unchecked-memcached store settles::memcached::only_token_and_epoch_together_settle $memcached/mod.rs \
    's/item\.held != held/item.held.token != held.token/'

broken claim-looks-and-then-leads-sqlite store claims::sqlite::of_many_claims_one_leads $sqlite/mod.rs \
    's/Look::Mark\(_\) \| Look::Vacant\(_\) => (\{\s*let \(key, claim\)[^\n]*\s*self\.write\(deadline, move \|verbs\|) verbs\.claim\(&key, &claim\.borrow\(\)\)\)/Look::Mark(claimed) => Ok(claimed),\nLook::Vacant(from) => $1 verbs.lead(&key, &claim.borrow(), from.clone()))/' \
    $sqlite/verbs.rs \
    's/pub\(super\) struct Succession/#[derive(Clone)]\npub(super) struct Succession/; s/    fn lead\(/    pub(super) fn lead(/'

broken claim-looks-and-then-leads-memory store claims::memory::of_many_claims_one_leads $memory \
    's/(fn claim\(&self.*?\{\n)/$1let vacant = self.with(|state| !state.rows.contains_key(&key.id()))?;\nstd::thread::sleep(Duration::from_millis(1));\nif vacant {\nreturn self.with(|state| state.grant(key, claim));\n}\n/s'

broken claim-looks-and-then-leads-redis store claims::redis::of_many_claims_one_leads $redis/lua/fresh.lua \
    's/asks = unpack\(ARGV\)/asks, vacant = unpack(ARGV)/; s/if not found/if vacant == "1"/' \
    $redis/mod.rs \
    's/(fn claim\(.*?\{\n)/$1let vacant = self.read_id(key.id(), false, deadline)?.is_none();\nstd::thread::sleep(Duration::from_millis(1));\n/s; s/lasts\.as_bytes\(\), &asks/$&, flag(vacant)/'

broken claim-writes-over-another-postgres store claims::postgres::of_many_claims_one_leads $postgres/sql/schema-2.sql \
    's/ON CONFLICT DO NOTHING/ON CONFLICT (id) DO UPDATE SET token = excluded.token, epoch = excluded.epoch/'

broken claim-takes-what-it-did-not-judge-postgres store \
    claims::postgres::of_many_claims_on_an_expired_record_one_leads $postgres/sql/schema-2.sql \
    's/ AND r\.epoch = answer\.epoch AND r\.state = found_state\s+AND r\.lease_until = found_lease AND r\.expires_at = found_expiry//'

broken claim-writes-over-another-memcached store claims::memcached::of_many_claims_one_leads $memcached/wire.rs \
    's/"add \{key\}/"set {key}/'

broken claim-takes-what-it-did-not-judge-memcached store \
    claims::memcached::of_many_claims_on_an_expired_record_one_leads $memcached/wire.rs \
    's/"cas \{key\} 0 \{exptime\} \{len\} \{cas\}/"set {key} 0 {exptime} {len}/; s/Some\(Found \{ cas, \.\. \}\)/Some(Found { cas: _, .. })/'

broken settle-writes-over-another-memcached store settles::memcached::a_completion_and_a_cancel_are_never_both \
    $memcached/wire.rs \
    's/"cas \{key\} 0 \{exptime\} \{len\} \{cas\}/"set {key} 0 {exptime} {len}/; s/Some\(Found \{ cas, \.\. \}\)/Some(Found { cas: _, .. })/'

broken lease-ignored-sqlite store claims::sqlite::a_live_lead_keeps_others_out $sqlite/statements.rs \
    "s/WHEN live THEN 'in progress'//"

broken lease-ignored-memory store claims::memory::a_live_lead_keeps_others_out $memory \
    's/if row\.is_live\(\)/if false/'

broken lease-ignored-postgres store claims::postgres::a_live_lead_keeps_others_out $postgres/sql/schema-2.sql \
    's/r\.state = 1 AND r\.lease_until > clock_timestamp\(\) THEN/false THEN/'

broken lease-ignored-redis store claims::redis::a_live_lead_keeps_others_out $redis/lua/claim.lua \
    's/ends < 0 or ends > now/ends < 0/'

broken lease-ignored-memcached store claims::memcached::a_live_lead_keeps_others_out $memcached/item.rs \
    's/unchanged < self\.lease/false/'

broken lease-by-the-wall-clock crash clocks::sqlite::no_lease_ends_by_the_wall_clock $sqlite/statements.rs \
    's/expires <= :wall AND NOT ", live!\(\), "\)"/expires <= :wall)"/'

broken lease-by-the-wall-clock-redis crash clocks::redis::no_lease_ends_by_the_wall_clock $redis/lua/fresh.lua \
    's/local now = .*/local now = tonumber(ARGV[4])/' \
    $redis/lua/claim.lua 's/local now = .*/local now = tonumber(ARGV[4])/' $redis/mod.rs \
    's/(fn claim\(.*?\{\n)/$1let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros().to_string();\n/s; s/lasts\.as_bytes\(\), &asks/$&, wall.as_bytes()/'

broken lease-by-the-wall-clock-memcached crash clocks::memcached::a_lead_of_another_year_keeps_others_out \
    $memcached/item.rs 's/const RELATIVE: i32 = .*;/const RELATIVE: i32 = 0;/; s/RELATIVE\.\. => 0,//'

broken resend-leads-anew-sqlite store idempotent::sqlite::a_claim_sent_again_gets_its_lead $sqlite/statements.rs \
    "s/WHEN state = 1 AND token = :token THEN 'held'/WHEN :token IS NULL THEN 'held'/"

broken resend-leads-anew-memory store idempotent::memory::a_claim_sent_again_gets_its_lead $memory \
    's/row\.held\.token == claim\.token \{/false {/'

broken resend-leads-anew-postgres store idempotent::postgres::a_claim_sent_again_gets_its_lead \
    $postgres/sql/schema-2.sql "s/WHEN r\.state = 1 AND r\.token = my_token THEN 'granted'//"

broken resend-leads-anew-redis store idempotent::redis::a_claim_sent_again_gets_its_lead $redis/lua/claim.lua \
    's/sub\(held, 9\) == token/false/'

broken resend-leads-anew-memcached store idempotent::memcached::a_claim_sent_again_gets_its_lead $memcached/claim.rs \
    's/in_progress && item\.held\.token == claim\.token/false/'

broken fence-goes-back-sqlite store retention::sqlite::epochs_never_go_back $sqlite/schema.sql \
    's/KEY AUTOINCREMENT/KEY/'

broken fence-goes-back-memory store retention::memory::epochs_never_go_back $memory \
    's/self\.last_epoch \+= 1;/self.last_epoch = self.rows.get(&key.id()).map_or(1, |row| row.held.epoch + 1);/'

broken fence-goes-back-postgres store retention::postgres::epochs_never_go_back $postgres/sql/schema-2.sql \
    's/nextval\(\{epochs\}\), 1, false/1, 1, false/; s/epoch = nextval\(\{epochs\}\)/epoch = r.epoch + 1/'

broken fence-drawn-side-by-side-postgres store claims::postgres::leads_that_come_and_go_are_never_two \
    $postgres/sql/schema-2.sql \
    's/is_watched boolean;/$& drawn bigint;/; s/locked := pg_advisory_xact_lock\(.*?;$/drawn := nextval({epochs}); PERFORM pg_sleep(random() * 0.005);/m; s/nextval\(\{epochs\}\), 1, false/drawn, 1, false/'

broken fence-of-the-record-alone-redis store retention::redis::epochs_never_go_back $redis/lua/fresh.lua \
    's/epoch = now/epoch = 1/; s/if last >= epoch then/if false then/' \
    $redis/lua/claim.lua 's/math\.max\(now, epoch \+ 1\)/epoch + 1/; s/if last >= epoch then/if false then/'

broken fence-without-the-counter-redis store redis_records::epochs_grow_whatever_became_of_their_counter \
    $redis/lua/claim.lua 's/if last >= epoch then/if false then/'

broken fence-without-the-counter-redis-fresh store redis_records::epochs_of_a_fresh_record_go_by_the_counter_too \
    $redis/lua/fresh.lua 's/if last >= epoch then/if false then/'

broken fence-without-the-clock-redis store redis_records::epochs_grow_though_nothing_is_remembered \
    $redis/lua/fresh.lua 's/epoch = now/epoch = 1/; s/time\[1\] \.\. .*\)\)/1))/'

broken fence-of-the-clock-alone-redis crash server_clocks::redis::set_back_it_ends_nothing $redis/lua/claim.lua \
    's/if last >= epoch then/if false then/' $redis/lua/fresh.lua 's/if last >= epoch then/if false then/'

broken fence-of-the-clock-alone-memcached crash clocks::memcached::a_lease_ends_whatever_the_wall_clock_says \
    $memcached/claim.rs 's/last_epoch\.saturating_add\(1\)\.max\(wall::now\(\)\)/wall::now()/'

broken fence-without-the-clock-memcached store memcached_servers::a_restarted_server_is_asked_again \
    $memcached/claim.rs 's/\.max\(wall::now\(\)\)//'

broken payload-unchecked-sqlite store fingerprints::sqlite::another_payload_is_refused_once_completed \
    $sqlite/statements.rs 's/fingerprint IS :fingerprint AS same/(fingerprint IS :fingerprint OR 1) AS same/'

broken payload-unchecked-memory store fingerprints::memory::another_payload_is_refused_once_completed $memory \
    's/let same = row\.fingerprint/let same = true || row.fingerprint/'

broken payload-unchecked-postgres store fingerprints::postgres::another_payload_is_refused_once_completed \
    $postgres/sql/schema-2.sql 's/r\.state = 2 AND r\.fingerprint IS NOT DISTINCT FROM my_fingerprint/r.state = 2/'

broken payload-unchecked-redis store fingerprints::redis::another_payload_is_refused_once_completed \
    $redis/lua/claim.lua 's/== sub\(first, HEAD \+ length \+ 1\)/$& or true/'

broken payload-unchecked-memcached store fingerprints::memcached::another_payload_is_refused_once_completed \
    $memcached/claim.rs 's/item\.fingerprint == claim\.fingerprint;/true;/'

broken completed-is-led-again crash leaders::sqlite::killed_leaders_are_succeeded $sqlite/statements.rs \
    "s/WHEN state = 2 AND same AND .*? THEN 'completed'/WHEN state = 2 AND abs(random() % 4) = 0 THEN 'vacant'\n\$&/s"

broken checkpoint-forgotten crash leaders::sqlite::killed_leaders_are_succeeded $sqlite/verbs.rs \
    's/":checkpoint": from\.checkpoint,/":checkpoint": None::<\&[u8]>,/; s/Succession \{ attempt, checkpoint, lost \} = from/Succession { attempt, checkpoint: _, lost } = from;\nlet checkpoint = None/'

leads='s/match shared\.store\.claim\((.*?)\) \{/match shared.store.claim($1).or_else(|_: Error| {\nOk::<_, Error>(Claimed::Lead(Grant { epoch: 1, attempt: 1, checkpoint: None, taken_over: false }))\n}) {/'

broken fail-closed-leads crash files::sqlite::another_process_has_the_write_lock src/idempotency/attempt.rs "$leads"

broken fail-closed-leads-postgres crash outages::postgres::outages_are_survived src/idempotency/attempt.rs "$leads"

broken fail-closed-leads-redis crash outages::redis::outages_are_survived src/idempotency/attempt.rs "$leads"

is_done='s/(match self\.persist\(\|store, deadline\| verb\(store, &lead, deadline\)\))( \{)/$1.or(Ok::<_, Error>(Settled::Done))$2/'

broken fail-closed-unacknowledged-is-done crash files::sqlite::the_file_is_moved_away_and_back \
    src/idempotency/settle.rs "$is_done"

broken fail-closed-unacknowledged-is-done-postgres crash outages::postgres::outages_are_survived \
    src/idempotency/settle.rs "$is_done"

broken stale-is-told-that-it-is-done crash stale::sqlite::two_stale_leaders_change_nothing src/idempotency/settle.rs \
    's/Ok\(Settled::Done\) => \{/Ok(Settled::Done | Settled::Stale) => {/; s/            Ok\(Settled::Stale\) => \{\s*up.*?\n            \}\n//s'

broken corrupt-state-is-in-progress crash corrupt::sqlite::spoiled_records_are_noticed $sqlite/row.rs \
    's/_ => Err\(corrupt\(id, format_args!\("state \{number\}"\)\)\)/_ => Ok(RecordState::InProgress)/'

broken corrupt-key-unchecked crash corrupt::sqlite::spoiled_records_are_noticed $sqlite/row.rs \
    's/key\.check\(row\.bytes\(column::SCOPE\)\?, row\.bytes\(column::KEY\)\?\)\?;/let _ = key;/'

broken file-replaced-unnoticed crash files::sqlite::the_file_is_replaced $sqlite/connection.rs \
    's/self\.place\.check\(\)\.map_err\(.*?\)\?;//; s/\bplace\.check\(\)\?;//'

broken purge-of-what-is-in-progress crash clocks::sqlite::no_lease_ends_by_the_wall_clock $sqlite/statements.rs \
    's/(WHERE expires <= :before) AND NOT ",\s*live!\(\),\s*"/$1 AND :boot IS NOT NULL AND :now IS NOT NULL/'

broken transaction-in-two-parts crash transactions::sqlite::killed_anywhere $sqlite/transaction.rs \
    's/(\w+)(\.complete_in\(self)/self.execute_batch("COMMIT; BEGIN IMMEDIATE").map_err(|error| Error::store(error.to_string()))?;\n$1$2/'

broken answer-believed crash transactions::sqlite::lost_answers src/idempotency/transaction.rs \
    's/if again == Settled::Stale \{/if true || again == Settled::Stale {/'

broken full-refuses-what-it-has store memcached_servers::a_full_server_leads_nobody_and_still_has_what_it_has \
    $memcached/wire.rs 's/added\.unwrap_or\(false\)/added?/'

finish
