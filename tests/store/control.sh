#!/usr/bin/env bash
# Breaks a store, or the table over it, in one place at a time and demands that a test fails for it: `make verify`.
#
# | control | the guarantee that is taken out |
# |-|-|
# | token-*, epoch-* | a lead settles with its own token and its own epoch, or not at all |
# | claim-* | a claim is one atomic step |
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
#
# When a control fails, and its arguments: tests/support/control.sh.
. "$(dirname "$0")/../support/control.sh"

export ONCEFLIGHT_KILLS=40

tests=(cargo test --locked --quiet --features sqlite)
shows='^test result: FAILED'

build() { "${tests[@]}" --test "${1% *}" --no-run; }

run() { timeout 120 "${tests[@]}" --test "${1% *}" -- --exact "${1#* }"; }

# broken NAME TARGET TEST FILE PERL [FILE PERL]...: with each FILE changed by its PERL, TEST of that TARGET must fail.
broken() { control "$1" "$2 $3" "${@:4}"; }

sqlite=src/store/sqlite
memory=src/store/memory.rs

broken token-unchecked-sqlite store settles::sqlite::only_token_and_epoch_together_settle $sqlite/statements.rs \
    's/AND token = :token AND state = 1"/AND state = 1"/'

broken token-unchecked-memory store settles::memory::only_token_and_epoch_together_settle $memory \
    's/row\.held != held/row.held.epoch != held.epoch/; s/row\.held == held/row.held.epoch == held.epoch/g'

broken epoch-unchecked-sqlite store settles::sqlite::only_token_and_epoch_together_settle $sqlite/statements.rs \
    's/"epoch = :epoch AND id/"id/'

broken epoch-unchecked-memory store settles::memory::only_token_and_epoch_together_settle $memory \
    's/row\.held != held/row.held.token != held.token/; s/row\.held == held/row.held.token == held.token/g'

broken claim-looks-and-then-leads-sqlite store claims::sqlite::of_many_claims_one_leads $sqlite/mod.rs \
    's/Look::Mark\(_\) \| Look::Vacant\(_\) => \{\s*self\.write\(deadline, \|verbs\| verbs\.claim\(key, claim\)\)/Look::Mark(claimed) => Ok(claimed),\nLook::Vacant(from) => {\nself.write(deadline, |verbs| verbs.lead(key, claim, from.clone()))/' \
    $sqlite/verbs.rs \
    's/pub\(super\) struct Succession/#[derive(Clone)]\npub(super) struct Succession/; s/    fn lead\(/    pub(super) fn lead(/'

broken claim-looks-and-then-leads-memory store claims::memory::of_many_claims_one_leads $memory \
    's/(fn claim\(&self.*?\{\n)/$1let vacant = self.with(|state| !state.rows.contains_key(&key.id()))?;\nstd::thread::sleep(Duration::from_millis(1));\nif vacant {\nreturn self.with(|state| state.grant(key, claim));\n}\n/s'

broken lease-ignored-sqlite store claims::sqlite::a_live_lead_keeps_others_out $sqlite/statements.rs \
    "s/WHEN live THEN 'in progress'//"

broken lease-ignored-memory store claims::memory::a_live_lead_keeps_others_out $memory \
    's/if row\.is_live\(\)/if false/'

broken lease-by-the-wall-clock crash clocks::sqlite::no_lease_ends_by_the_wall_clock $sqlite/statements.rs \
    's/expires <= :wall AND NOT ", live!\(\), "\)"/expires <= :wall)"/'

broken resend-leads-anew-sqlite store idempotent::sqlite::a_claim_sent_again_gets_its_lead $sqlite/statements.rs \
    "s/WHEN state = 1 AND token = :token THEN 'held'//; s/concat!\(\s*\"SELECT \",/concat!(\"SELECT \", /"

broken resend-leads-anew-memory store idempotent::memory::a_claim_sent_again_gets_its_lead $memory \
    's/row\.held\.token == claim\.token \{/false {/'

broken fence-goes-back-sqlite store retention::sqlite::epochs_never_go_back $sqlite/schema.sql \
    's/KEY AUTOINCREMENT/KEY/'

broken fence-goes-back-memory store retention::memory::epochs_never_go_back $memory \
    's/self\.last_epoch \+= 1;/self.last_epoch = self.rows.get(&key.id()).map_or(1, |row| row.held.epoch + 1);/'

broken payload-unchecked-sqlite store fingerprints::sqlite::another_payload_is_refused_once_completed \
    $sqlite/statements.rs 's/fingerprint IS :fingerprint AS same/(fingerprint IS :fingerprint OR 1) AS same/'

broken payload-unchecked-memory store fingerprints::memory::another_payload_is_refused_once_completed $memory \
    's/let same = row\.fingerprint/let same = true || row.fingerprint/'

broken completed-is-led-again crash leaders::sqlite::killed_leaders_are_succeeded $sqlite/statements.rs \
    "s/WHEN state = 2 AND same AND .*? THEN 'completed'/WHEN state = 2 AND abs(random() % 4) = 0 THEN 'vacant'\n\$&/s"

broken checkpoint-forgotten crash leaders::sqlite::killed_leaders_are_succeeded $sqlite/verbs.rs \
    's/":checkpoint": from\.checkpoint,/":checkpoint": None::<\&[u8]>,/; s/Succession \{ attempt, checkpoint, lost \} = from/Succession { attempt, checkpoint: _, lost } = from;\nlet checkpoint = None/'

broken fail-closed-leads crash files::sqlite::another_process_has_the_write_lock src/idempotency/attempt.rs \
    's/match shared\.store\.claim\((.*?)\) \{/match shared.store.claim($1).or_else(|_: Error| {\nOk::<_, Error>(Claimed::Lead(Grant { epoch: 1, attempt: 1, checkpoint: None, taken_over: false }))\n}) {/'

broken fail-closed-unacknowledged-is-done crash files::sqlite::the_file_is_moved_away_and_back \
    src/idempotency/settle.rs \
    's/(match self\.persist\(\|store, deadline\| verb\(store, &lead, deadline\)\))( \{)/$1.or(Ok::<_, Error>(Settled::Done))$2/'

broken stale-is-told-that-it-is-done crash stale::sqlite::two_stale_leaders_change_nothing src/idempotency/settle.rs \
    's/Ok\(Settled::Done\) => \{/Ok(Settled::Done | Settled::Stale) => {/; s/            Ok\(Settled::Stale\) => \{\s*up.*?\n            \}\n//s'

broken corrupt-state-is-in-progress crash corrupt::sqlite::spoiled_records_are_noticed $sqlite/row.rs \
    's/_ => Err\(corrupt\(id, format_args!\("state \{number\}"\)\)\)/_ => Ok(RecordState::InProgress)/'

broken corrupt-key-unchecked crash corrupt::sqlite::spoiled_records_are_noticed $sqlite/row.rs \
    's/key\.check\(row\.bytes\(column::SCOPE\)\?, row\.bytes\(column::KEY\)\?\)\?;/let _ = key;/'

broken file-replaced-unnoticed crash files::sqlite::the_file_is_replaced $sqlite/connection.rs \
    's/self\.place\.check\(\)\.map_err\(.*?\)\?;//; s/\bplace\.check\(\)\?;//'

broken purge-of-what-is-in-progress crash clocks::sqlite::no_lease_ends_by_the_wall_clock $sqlite/statements.rs \
    's/(WHERE expires <= :before) AND NOT ",\s*live!\(\),\s*"/$1/'

broken transaction-in-two-parts crash transactions::sqlite::killed_anywhere $sqlite/transaction.rs \
    's/(\w+)(\.complete_in\(self)/self.execute_batch("COMMIT; BEGIN IMMEDIATE").map_err(|error| Error::store(error.to_string()))?;\n$1$2/'

broken answer-believed crash transactions::sqlite::lost_answers src/idempotency/transaction.rs \
    's/if again == Settled::Stale \{/if true || again == Settled::Stale {/'

finish
