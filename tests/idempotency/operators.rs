//! Forget, look up, list, evict, purge: what is done to keys from outside.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use onceflight::ErrorKind;
use onceflight::store::RecordState;

use crate::support::*;

/// Catches a record that tells less, or other, than what its leader said.
#[test]
fn a_record_tells_all_about_a_key() {
    let [one, two] = processes(|table| table.scope("ada"));
    assert!(two.look_up("k").unwrap().is_none());
    let lead = one.request("k").fingerprint("f").begin().lead();
    lead.set_checkpoint(b"half").unwrap();
    let record = two.record("k");
    assert_eq!((&b"ada"[..], &b"k"[..]), (record.key.scope(), record.key.key()));
    assert_eq!((RecordState::InProgress, 1), (record.state, record.attempt));
    assert_eq!(lead.fence(), record.epoch);
    assert_eq!(Some(&b"f"[..]), record.fingerprint.as_deref());
    assert_eq!(Some(&b"half"[..]), record.checkpoint.as_deref());
    assert!(record.lease_left.is_some_and(|left| !left.is_zero()));
    assert_eq!(None, record.response);

    lead.complete_for(response(1), LONG).unwrap();
    let record = two.record("k");
    assert_eq!(RecordState::Completed, record.state);
    assert_eq!((Some(response(1)), None), (record.response, record.lease_left));
    assert!(record.expires_in.is_some_and(|left| left > LONG / 2 && left <= LONG));
}

/// Catches a passed lease that looks like a live one.
#[test]
fn a_record_tells_that_its_lease_has_passed() {
    let [one, two] = processes(fleeting);
    let late = one.begin("k").lead();
    pass(SHORT);
    assert_eq!(Some(Duration::ZERO), two.record("k").lease_left);
    drop(late);
}

/// Catches a forget that takes a key from under its leader, or leaves a response.
#[test]
fn forget_drops_what_is_settled_and_leaves_what_is_in_progress() {
    let [one, two] = processes(usual);
    assert!(!one.forget("k").unwrap());
    let lead = one.begin("k").lead();
    assert!(!one.forget("k").unwrap());
    assert!(!two.forget("k").unwrap());
    lead.complete(response(1)).unwrap();
    assert_eq!(1, two.look("k").replayed());
    assert!(two.forget("k").unwrap());
    assert!(!two.forget("k").unwrap());

    let lead = one.begin("k").lead();
    assert_eq!(1, lead.attempt());
    lead.set_checkpoint(b"half").unwrap();
    lead.cancel().unwrap();
    assert!(one.forget("k").unwrap());
    assert_eq!(1, one.begin("k").lead().attempt());
}

/// Catches a caller that joins a claim of its process which was answered before the key was forgotten,
/// and so is given what was forgotten before it came.
#[test]
fn what_was_forgotten_here_is_not_replayed_to_who_comes_later() {
    let [one] = processes(usual);
    one.begin("k").lead().complete(response(1)).unwrap();
    let gate = one.wire.hold_next_answer(Verb::Claim);
    thread::scope(|scope| {
        let before = scope.spawn(|| one.begin_patiently("k"));
        gate.wait_arrived(1);
        assert!(one.forget("k").unwrap());
        let after = scope.spawn(|| one.begin_patiently("k"));
        wait_until("it joins, or asks", || {
            one.stats().waiting == 1 || one.wire.ended(Verb::Claim) == 2
        });
        gate.open();
        assert_eq!(1, before.join().unwrap().replayed());
        after.join().unwrap().lead().cancel().unwrap();
    });
}

/// Catches a fence that begins anew with its record.
#[test]
fn the_fence_grows_over_forget_evict_and_ttl() {
    let [one, two] = processes(usual);
    let mut last = 0;
    let mut grown = |fence| {
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    };
    for _ in 0..3 {
        let lead = one.begin("k").lead();
        grown(lead.fence());
        lead.complete(response(1)).unwrap();
        assert!(one.forget("k").unwrap());
        let lead = two.begin("k").lead();
        grown(lead.fence());
        assert!(one.evict("k").unwrap());
        assert_eq!(ErrorKind::Stale, kind(lead.complete(response(1))));
        let lead = one.begin("k").lead();
        grown(lead.fence());
        lead.complete_for(response(1), Duration::ZERO).unwrap();
    }
}

/// Catches an evicted lead that still writes, and followers that go with it.
#[test]
fn evict_makes_a_lead_stale_and_its_followers_go_on() {
    let [one, two] = processes(usual);
    assert!(!two.evict("k").unwrap());
    let late = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        assert!(two.evict("k").unwrap());
        let refused = late.complete(response(1)).unwrap_err();
        assert_eq!((ErrorKind::Stale, response(1)), (refused.error.kind(), refused.response));
        let next = follower.join().unwrap().lead();
        assert_eq!(1, next.attempt());
        next.complete(response(2)).unwrap();
    });
    assert!(two.evict("k").unwrap());
    assert!(two.look_up("k").unwrap().is_none());
}

/// Catches an operator who gets rid of a leader that hangs, and callers beside it that wait on.
#[test]
fn evict_frees_the_key_in_the_process_that_leads_it() {
    let [one] = processes(|table| table.lease(Duration::MAX));
    let late = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = scope.spawn(|| one.begin_timeout("k", BEAT));
        in_line(&one, 1);
        assert!(one.evict("k").unwrap());
        follower.join().unwrap().lead().complete(response(2)).unwrap();
    });
    assert_eq!(2, one.begin_timeout("k", BEAT).replayed());
    assert_eq!(ErrorKind::Stale, kind(late.complete(response(1))));
}

/// Catches pages that overlap or miss a record, records of others, and what has expired.
#[test]
fn list_walks_the_records_of_a_scope() {
    let [one] = processes(|table| table.scope("ada"));
    for number in 0..25 {
        one.begin(format!("k{number}")).lead().complete(response(number)).unwrap();
    }
    let _in_progress = one.begin("in progress").lead();
    one.request("k1").scope("bob").begin().lead().complete(response(1)).unwrap();
    one.request("gone").ttl(Duration::ZERO).begin().lead().complete(response(1)).unwrap();

    let (mut keys, mut after, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let page = one.list(after, 10).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 10);
        assert!(page.iter().all(|record| after.is_none_or(|after| record.key.id() > after)));
        assert!(page.iter().all(|record| record.response.is_none()));
        after = Some(last.key.id());
        let found: Vec<_> = page.iter().map(|record| record.key.key().to_vec()).collect();
        for key in found {
            assert!(keys.insert(key), "listed twice");
        }
        pages += 1;
    }
    assert_eq!((26, 3), (keys.len(), pages));
    assert!(keys.contains(&b"in progress"[..]) && !keys.contains(&b"gone"[..]));
    assert!(one.list(None, 0).unwrap().is_empty());
}

/// Catches a purge that drops what is in progress or kept, is too early for those who follow, takes
/// more than it was told, or nothing at all.
#[test]
fn purge_drops_what_expired_some_seconds_ago() {
    let [one, two] = processes(usual);
    for number in 0..3 {
        one.begin(format!("gone{number}")).lead().complete_for(response(1), SHORT).unwrap();
    }
    let lead = one.begin("led").lead();
    one.begin("kept").lead().complete(response(1)).unwrap();
    pass(SHORT);
    assert_eq!(0, two.purge(10).unwrap());
    wait_until("the records are old enough", || {
        thread::sleep(SHORT);
        two.purge(2).unwrap() == 2
    });
    assert_eq!(1, two.purge(2).unwrap());
    assert_eq!(0, two.purge(2).unwrap());
    lead.complete(response(1)).unwrap();
    for key in ["led", "kept"] {
        assert_eq!(1, two.look(key).replayed());
    }
}

/// Catches an operator's call that hides the store's failure behind an answer.
#[test]
fn operators_are_told_when_the_store_fails() {
    use Verb::{Evict, Forget, List, Purge, Read};
    let [one] = processes(usual);
    for verb in [Forget, Read, List, Evict, Purge] {
        one.wire.every(verb, Fault::Fail);
    }
    assert_eq!(ErrorKind::Store, kind(one.forget("k")));
    assert_eq!(ErrorKind::Store, kind(one.look_up("k")));
    assert_eq!(ErrorKind::Store, kind(one.list(None, 1)));
    assert_eq!(ErrorKind::Store, kind(one.evict("k")));
    assert_eq!(ErrorKind::Store, kind(one.purge(1)));
}
