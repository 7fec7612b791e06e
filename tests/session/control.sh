#!/usr/bin/env bash
# Breaks the table of sessions in one place at a time and demands that a test fails for it: some of them in `make verify`, all in `make soak`.
#
# | control | the guarantee that is taken out |
# |-|-|
# | time-* | time is the log's, and never goes back; what has expired is gone before anything else |
# | use-* | the longest unused goes first, and every use counts |
# | session-* | an incarnation is one registration, and fences those before it |
# | window-* | the floor only rises; what is outside the window is refused, what is inside executed once |
# | payload-* | another digest is refused |
# | limit-* | what doesn't fit is remembered without its data; memory is bounded |
# | open-* | between a begin that leads and its record there is nothing else |
# | format-* | a snapshot is read as it was written, or not at all |
# | rows-* | what is saved is what has changed |
# | durable-* | what a request changes and what was said to it are both in the file, or neither |
# | node-* | a caller is told once, by its own entry, or that it isn't known |
#
# When a control fails, and its arguments: tests/support/control.sh.
. "$(dirname "$0")/../support/control.sh"

tests=(cargo test --locked --quiet --features sqlite --test session)
shows='^test result: FAILED'

build() { "${tests[@]}" --no-run; }

run() { timeout 120 "${tests[@]}" -- --exact "$1"; }

# broken NAME TEST FILE PERL: with FILE of src/session changed by PERL, TEST must fail.
broken() { control "$1" "$2" "src/session/$3" "$4"; }

broken time-goes-back time::time_never_goes_back mod.rs \
    's/self\.clock\.max\(now_ms\)/now_ms/'
broken time-expires-late time::a_session_expires_when_its_timeout_has_passed_and_not_before mod.rs \
    's/if self\.clock < due \|\|/if self.clock <= due ||/'
broken time-ends-what-is-to-stay time::sessions_that_do_not_expire_do_not mod.rs \
    's/ \|\| due == u64::MAX//'
broken time-next-expiry-missed time::the_next_expiry_is_right_whoever_leaves mod.rs \
    's/self\.due = self\.due\.min\(self\.expiry\(self\.clock\)\);//'
for verb in register begin keep_alive expire; do
    broken "time-looked-at-late-$verb" time::every_change_expires_before_it_does_anything mod.rs \
        "s/(pub fn $verb\(.*?)self\.advance\(now_ms\);/\$1let _ = now_ms;/s"
done

broken use-unordered time::the_least_recently_used_goes_first roster.rs \
    's/if self\.newest != slot \{/if false {/'
broken use-untimed time::every_use_keeps_a_session roster.rs \
    's/session\.last_used = now;/let _ = now;/'
broken use-newest-goes time::the_least_recently_used_goes_first mod.rs \
    's/self\.roster\.oldest\(\)( else \{ break \};\s+self\.remove\(oldest\);\s+\}\s+self\.registrations)/self.roster.newest()$1/'
broken use-unbounded peers::dragonboat_lru_evicts_in_order mod.rs \
    's/self\.roster\.len\(\) >= self\.limits\.max_sessions as usize/false/'
broken use-of-a-refusal-uncounted begin::what_a_refused_request_leaves_behind mod.rs \
    's/let session = self\.roster\.touch\(slot, self\.clock\);/self.roster.get(slot).look(request.seq, window)?;\n$&/'

broken session-unfenced registration::another_nonce_is_another_life_with_an_empty_window client.rs \
    's/it if it < self\.incarnation => Err\(.*?\),/it if it < self.incarnation => Ok(()),/'
broken session-of-the-future registration::a_later_incarnation_than_the_session_has_is_expired client.rs \
    's/_ => Err\(ErrorKind::Expired\.into\(\)\)/_ => Ok(())/'
broken session-nonce-unread registration::another_nonce_is_another_life_with_an_empty_window mod.rs \
    's/is_some_and\(\|it\| it\.get\(\) == nonce\)/is_some()/'
broken session-nonce-unknown registration::the_same_nonce_is_the_same_session mod.rs \
    's/is_some_and\(\|it\| it\.get\(\) == nonce\)/is_some_and(|_| false)/'
broken session-number-again registration::no_two_registrations_have_the_same_incarnation mod.rs \
    's/self\.registrations \+= 1;/self.registrations = self.roster.len() as u64 + 1;/'
broken session-begins-anywhere implicit::only_number_one_begins_a_session mod.rs \
    's/None if incarnation == 0 && seq == 1/None if incarnation == 0/'
broken session-of-a-stranger implicit::a_registration_fences_it_and_is_not_answered_by_it client.rs \
    's/0 if self\.nonce\.is_none\(\) => Ok/0 => Ok/'
broken session-unregistered-stays registration::unregister_ends_a_session_and_all_it_knows mod.rs \
    's/(pub fn unregister.*?)self\.remove\(slot\);/$1let _ = slot;/s'
broken session-name-too-long registration::names_are_bytes_of_any_length_up_to_the_longest mod.rs \
    's/name\.len\(\) <= MAX_NAME/name.len() <= MAX_NAME + 1/'

broken window-floor-falls window::the_floor_never_falls client.rs \
    's/self\.floor = self\.floor\.max\(to\);/if to > 0 { self.floor = to; }/'
broken window-ack-unread window::the_window_moves_on_by_acks mod.rs \
    's/session\.raise_floor\(ack\)/session.raise_floor(ack.min(1))/'
broken window-ack-of-the-future window::an_ack_is_the_lowest_number_that_is_not_acknowledged request.rs \
    's/ && ack <= seq;/ \&\& ack <= seq + 1;/'
broken window-one-more window::gaps_and_any_order_are_fine_inside_the_window client.rs \
    's/ahead >= u64::from\(window\)/ahead > u64::from(window)/'
broken window-stale-gets-the-latest window::an_older_number_never_gets_a_later_ones_response client.rs \
    's/seq\.checked_sub\(self\.floor\)\.ok_or\(ErrorKind::SeqStale\)\?/seq.saturating_sub(self.floor);\nlet seq = seq.max(self.floor)/'
broken window-keeps-what-is-acknowledged window::an_ack_past_the_window_empties_it client.rs \
    's/self\.ring\.take\(seq\)/self.ring.get(seq).cloned()/'
broken window-forgets-as-it-grows window::a_window_that_is_used_more_and_more_keeps_what_it_has ring.rs \
    's/spots\[spot\(seq, len\)\] = self\.take\(seq\);/let _ = (seq, \&mut spots);/'
broken window-stands-still implicit::the_window_follows_the_highest_number mod.rs \
    's/0 if session\.nonce\.is_none\(\) =>/0 if false =>/'
broken window-follows-for-all implicit::a_registered_one_acknowledges_by_itself_alone mod.rs \
    's/0 if session\.nonce\.is_none\(\) =>/0 =>/'
broken window-number-zero window::numbers_go_from_one_to_the_last_but_one request.rs \
    's/\(1\.\.u64::MAX\)\.contains/(0..u64::MAX).contains/'

broken payload-unread window::the_same_number_with_another_digest_is_a_conflict reply.rs \
    's/if self\.digest\(\) == label\(digest\)/if true/'
broken payload-none-is-any window::the_same_number_with_another_digest_is_a_conflict reply.rs \
    's/if self\.digest\(\) == label\(digest\)/if digest.is_none() || self.digest() == label(digest)/'
broken payload-after-the-response begin::the_order_of_the_checks reply.rs \
    's/if self\.digest\(\) == label\(digest\)/self.response()?;\n$&/'

broken limit-executed-again limits::a_response_too_large_to_keep_is_a_tombstone entry.rs \
    's/session\.put\(seq, Reply::tombstone\(.*?\)\);/let _ = (session, seq, status, digest);/'
broken limit-tombstone-replayed limits::a_response_too_large_to_keep_is_a_tombstone reply.rs \
    's/if self\.is_tombstone\(\)/if false/'
broken limit-session-unbounded limits::a_session_without_room_for_a_response_keeps_a_tombstone entry.rs \
    's/ \|\| len > limits\.max_session_bytes - session\.bytes\(\)//'
broken limit-unbounded limits::bytes_of_all_sessions_push_out_whole_sessions mod.rs \
    's/while self\.bytes > self\.limits\.max_bytes/while false/'
broken limit-bytes-of-the-gone limits::the_bytes_are_those_of_the_responses mod.rs \
    's/self\.bytes -= session\.bytes\(\);//'
broken limit-bytes-of-the-acknowledged limits::the_bytes_are_those_of_the_responses mod.rs \
    's/self\.bytes -= gone;/let _ = gone;/'

for verb in register begin keep_alive unregister expire; do
    broken "open-to-$verb" open::every_other_change_is_refused_and_changes_nothing mod.rs \
        "s/(pub fn $verb\(.*?)self\.check_closed\(\)\?;/\$1/s"
done
broken open-to-a-snapshot open::every_other_change_is_refused_and_changes_nothing snapshot.rs \
    's/self\.check_closed\(\)\?;//'
broken open-to-a-save open::every_other_change_is_refused_and_changes_nothing save.rs \
    's/self\.check_closed\(\)\?;//'
broken open-forgotten-by-a-panic open::a_panic_leaves_it_open entry.rs \
    's/self\.0\.open\(self\.1\);//'
broken open-recorded-under-another-number open::only_its_own_request_records_it mod.rs \
    's/open\.seq == request\.seq/open.seq > 0/'
broken open-recorded-by-another-life open::only_its_own_request_records_it mod.rs \
    's/&& open\.incarnation == request\.incarnation//'
broken open-recorded-by-another-client open::only_its_own_request_records_it mod.rs \
    's/&& self\.roster\.get\(open\.slot\)\.is_of\(request\.client\)//'

broken format-unordered snapshot::order_is_that_of_use snapshot.rs \
    's/sessions\.sort_unstable_by_key.*?;/sessions.reverse(); sessions.reverse();/'
broken format-seal-unread snapshot::every_flipped_bit_is_found codec.rs \
    's/if seal\.bytes\(\) != \*found/if false/'
broken format-version-unread forged::a_version_of_the_future_is_told_as_that codec.rs \
    's/VERSION => Ok\(\(\)\)/1..=99 => Ok(())/'
broken format-more-than-all snapshot::every_part_and_more_than_all_is_refused snapshot.rs \
    's/if !from\.is_empty\(\)/if false/; s/unseal_headed\(bytes\)/unseal_headed(\&bytes[..bytes.len().min(861)])/'
broken format-registrations forged::a_table_at_the_end_of_its_numbers_still_answers codec.rs \
    's/header\.registrations >= MANY/false/'
broken format-limits-unread forged::every_lie_about_the_table_is_told codec.rs \
    's/limits\.check\(\)\.map_err.*?;//'
broken format-bytes-of-all forged::every_lie_about_the_table_is_told snapshot.rs \
    's/if self\.bytes > self\.limits\.max_bytes/if false/'
believes() {
    broken "format-believes-$1" "forged::every_lie_about_$2_is_told" codec.rs "$3"
}
believes incarnation-zero a_session 's/session\.incarnation == 0 \|\| //'
believes incarnation-to-come a_session 's/ \|\| session\.incarnation > \*registrations/ || *registrations == 0/'
believes use-to-come the_table 's/session\.last_used > \*clock/*clock == 0/'
believes floor-zero a_session 's/floor == 0 \|\| //'
believes reply-twice a_session 's/ahead < least \|\| //'
believes reply-past-the-window a_session 's/ahead >= limits\.window\.into\(\) \|\| //'
believes reply-past-the-end a_session 's/ \|\| u64::MAX - floor <= ahead//'
believes reply-of-any-kind a_session 's/kind & !\(DIGEST \| TOO_LARGE\) != 0/false/'
believes reply-of-any-length the_table 's/u64::from\(len\) > limits\.max_response_len/false/'
believes session-of-any-length the_table 's/if reply\.data\(\)\.len\(\).*? \{/if false {/'
broken format-use-unordered forged::sessions_stand_in_the_order_of_their_use snapshot.rs \
    's/session\.last_used < previous/false/'
broken format-client-twice forged::every_lie_about_a_session_is_told snapshot.rs \
    's/if self\.roster\.find\(session\.client\(\)\)\.is_some\(\)/if false/'

broken rows-of-the-gone-stay rows::whoever_goes_takes_the_row_along save.rs \
    's/to\.delete_session\(client\.get\(\)\)\?;//'
broken rows-unchanged-are-written rows::a_save_writes_what_has_changed save.rs \
    's/if let Some\(changes\) = &mut self\.changes \{\s+changes\.clear\(\);\s+\}//'
broken rows-change-unnoticed rows::a_save_writes_what_has_changed mod.rs \
    's/changes\.changed\(slot\);/let _ = (changes, slot);/'
broken rows-lost-by-a-failure rows::a_save_that_fails_is_made_good_by_the_next save.rs \
    's/for &slot in &changes\.slots \{/for slot in std::mem::take(\&mut changes.slots) {/'
broken rows-in-their-own-order rows::what_is_saved_is_loaded save.rs \
    's/found\.sort_by_key.*?;//'
broken rows-stamps-anew rows::a_loaded_table_saves_its_own_changes_alone save.rs \
    's/table\.restamp\(stamp\)\?;/let _ = stamp;/'
broken rows-uses-to-come rows::a_use_past_all_others_is_refused save.rs \
    's/if stamp >= MANY/if false/; s/Header, MANY, /Header, /'
broken rows-missing rows::rows_that_do_not_belong_together_are_refused save.rs \
    's/if found\.len\(\) != header\.sessions as usize/if false/'

broken node-looks-once node::one_apply_is_enough_whenever_it_comes node.rs \
    's/let mut outcome = known\(\);/let mut outcome = None;/'
broken node-mark-of-no-digest node::an_entry_of_a_name_that_ends_with_numbers_does_not_answer node.rs \
    's/entry\.push\(request\.digest\.is_some\(\)\.into\(\)\);//'
broken node-any-payload-answers node::an_entry_with_another_payload_does_not_answer node.rs \
    's/entry\.extend_from_slice\(digest\.as_bytes\(\)\);/let _ = digest;/; s/entry\.push\(request\.digest\.is_some\(\)\.into\(\)\);/entry.push(0);/'
broken node-keeps-mum node::stepping_down_tells_all_who_wait node.rs \
    's/let proposals = std::mem::take\(&mut \*self\.proposals\.lock\(\)\);\s+drop\(proposals\);/let _ = self;/'
broken node-everybody-proposes node::duplicates_in_flight_join node.rs \
    's/(let mut request = self\.flights\.request\()flight/let own = [flight, format!("{:?}", std::thread::current().id()).as_bytes()].concat();\n$1\&own/'
broken node-refusal-is-final node::a_proposal_that_fails_is_made_by_the_next node.rs \
    's/lead\.cancel\(\)\?;/std::mem::forget(lead);/'

broken durable-refusal-counts sqlite::a_request_that_fails_leaves_no_trace sqlite.rs \
    's/let change = copied\.take\(\);/let change = *copied;/'
broken durable-ended-within sqlite::a_request_that_fails_leaves_no_trace sqlite.rs \
    's/if transaction\.is_autocommit\(\)/if false/'
broken durable-in-two-parts sqlite::a_request_that_fails_leaves_no_trace sqlite.rs \
    's/(let \(status, data\) = execute\(transaction\)\?;)/$1\nlet _ = transaction.execute_batch("COMMIT; BEGIN IMMEDIATE");/'
broken durable-sessions-unsaved sqlite::a_retry_after_a_restart_is_replayed sqlite.rs \
    's/(if transaction\.is_autocommit.*?\n    \}\n)    table\.save\(&mut Rows\(&transaction\)\)\?;/$1    let _ = table;/s'
broken durable-uncommitted sqlite::a_retry_after_a_restart_is_replayed sqlite.rs \
    's/(table\.save\(&mut Rows\(&transaction\)\)\?;\s+)Ok\(transaction\.commit\(\)\?\)\n\}\n\nfn unknown/$1Ok(transaction.rollback()?)\n}\n\nfn unknown/'
broken durable-tombstone-rolled-back sqlite::a_response_too_large_is_a_tombstone_beside_what_it_changed sqlite.rs \
    's/Done::Changed\(recorded\.map\((.*?)\)\)\n/match recorded { Ok(response) => Done::Changed(Ok(($1)(response))), Err(error) => Done::Told(Err(error)) }\n/'
broken durable-replay-writes sqlite::a_replay_and_a_refusal_write_nothing sqlite.rs \
    's/Done::Told\(Ok\(Applied \{ response, replayed: true \}\)\)/Done::Changed(Ok(Applied { response, replayed: true }))/'
broken durable-alone sqlite::two_of_one_file_take_turns sqlite.rs \
    's/if \*copied == Some\(change\) =>/if copied.is_some() \&\& change > 0 =>/'
broken durable-limits-unread sqlite_file::other_limits_than_the_files_are_refused sqlite.rs \
    's/if table\.limits == \*limits/if true || table.limits == *limits/'
broken durable-version-unread sqlite_file::tables_of_another_version_are_left_alone sqlite.rs \
    's/Some\(\(VERSION, change\)\)/Some((1..=2, change))/g'
broken durable-file-replaced sqlite_file::a_file_that_was_replaced_is_written_to_no_more sqlite.rs \
    's/listing\.check\(&self\.place\.path\)/Ok(drop(listing.check(\&self.place.path)))/'
broken durable-forked sqlite_file::a_forked_child_is_told_and_takes_no_lock_away sqlite.rs \
    's/if !self\.connection\.is_ours\(\)/if false/'

finish
