#!/usr/bin/env bash
# Breaks src/http in one place at a time, and demands that a case of the conformance suite fails for it: `make verify`.
#
# | control | the guarantee that is taken out |
# |-|-|
# | key-* | a key that can't be used is refused |
# | scope-* | another caller, method or path has other keys |
# | payload-* | the same key for something else is refused |
# | status-* | what a response says of the key |
# | kept-* | a response comes back as it was, and nothing of the moment with it |
# | shared-* | a failure is told to those who wait |
# | told-* | a refusal says what it has to |
# | left-* | what an execution leaves is there for the next one |
# | disabled-* | keys that are disabled count for nothing, and that is said |
#
# When a control fails, and its arguments: tests/support/control.sh. Needs Python.
. "$(dirname "$0")/../support/control.sh"

shows='^FAILED ('

# The server under test.
build() { cargo build --locked --features http,sqlite --example http_target; }

run() { timeout 120 python3 tests/http/conformance "$1" -- "$CARGO_TARGET_DIR/debug/examples/http_target"; }

# broken NAME CASE FILE PERL: with src/http/FILE changed by PERL, a CASE must fail.
broken() { control "$1" "$2" "src/http/$3" "$4"; }

broken key-doubled test_05 key.rs 's/if values\.next\(\)\.is_some\(\)/if false/'
broken key-long test_04_unusable key.rs 's/1\.\.=LONGEST/1..=300/'
broken key-not-ascii test_04_unusable key.rs 's/b'\'' '\''\.\.=b'\''~'\''\) => key/b'\'' '\''..) => key/'
broken key-bare test_01_a_bare_token key.rs 's/token if lenient/token if true/'
broken key-ignored test_06_a_key_counts policy.rs 's/Method::PUT \| Method::DELETE => Self::Optional/Method::PUT => Self::Off/'
broken scope-principal test_09 policy.rs 's/b"scope", &\*principal/b"scope", &principal[..0]/'
broken scope-method test_07 policy.rs 's/request\.method\(\)\.as_str\(\), /"", /'
broken scope-path test_07 policy.rs 's/request\.uri\(\)\.path\(\)\]/""]/'
broken payload-unchecked test_10 mod.rs 's/\.fingerprint\(keyed\.fingerprint\.as_bytes\(\)\)//'
broken payload-query test_13_the_query policy.rs 's/asks, query, payload/asks, b"", payload/'
broken payload-question-mark test_13_an_empty policy.rs 's/else \{ b"" \}/else { b"?" }/'
broken status-nothing test_34 policy.rs 's/429 \| 503 =>/429 =>/'
broken status-maybe test_36_a_failure_is_executed policy.rs 's/500\.\. => Self::MayHaveHappened/500.. => Self::NothingHappened/'
broken status-kept test_36_a_failure_is_executed policy.rs 's/500\.\. => Self::May/600.. => Self::May/'
broken status-created test_a_success policy.rs 's/status\(201\), status\(200\)/status(201), status(201)/'
broken kept-repeated test_30_status record.rs 's/try_append/try_insert/'
broken kept-date test_33_what policy.rs 's/^            DATE,$/            http::header::ETAG,/m'
broken kept-stripped test_33_a_header policy.rs 's/self\.strip\.contains\(name\)/false/'
broken kept-mark test_32 mod.rs 's/insert\(REPLAYED/insert("x-mark"/'
broken kept-too-large test_45_a_response mod.rs 's/== ErrorKind::TooLarge/== ErrorKind::Closed/'
broken kept-format test_39 record.rs 's/\[FORMAT, rest/[_, rest/'
broken shared-nothing test_36_a_failure_is_shared mod.rs 's/cancel_with\(kept\)/cancel()/'
broken shared-maybe test_36_a_failure_is_shared mod.rs 's/abandon_with\(kept\)/abandon()/'
broken told-mismatch test_10 problem.rs 's/ErrorKind::Mismatch => Self::KeyReused/ErrorKind::Mismatch => Self::InProgress/'
broken told-unknown test_36_or_held problem.rs 's/ErrorKind::Unknown => Self::OutcomeUnknown/ErrorKind::Unknown => Self::InProgress/'
broken told-later test_19_past problem.rs 's/if self\.is_passing\(\)/if false/'
broken told-overloaded test_45_too_many problem.rs 's/ErrorKind::Overloaded => Self::Overloaded/ErrorKind::Overloaded => Self::InProgress/'
broken left-nothing test_a_failure_leaves execution.rs 's/record\.set\(data\)/Ok(())/'
broken left-unfound test_a_failure_leaves execution.rs 's/lead\.checkpoint\(\)\.map\(Into::into\)/None/'
broken disabled-not test_49 mod.rs 's/ \|\| self\.rules\.disabled//'
broken disabled-handlers test_49 mod.rs 's/!self\.rules\.disabled/true/'
broken disabled-silent test_49 builder.rs 's/if self\.rules\.disabled/if false/'

finish
