//! What a flight costs at the store: one claim and one completion, whatever the number of followers.

use std::thread;

use onceflight::ErrorKind;

use crate::support::*;

const MANY: usize = 64;

/// Catches followers that ask the store themselves.
#[test]
fn a_flight_with_many_followers_is_one_claim_and_one_complete() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let followers: Vec<_> =
            (0..MANY).map(|_| scope.spawn(|| one.begin_patiently("k"))).collect();
        in_line(&one, MANY as u64);
        lead.complete(response(1)).unwrap();
        for follower in followers {
            assert_eq!(1, follower.join().unwrap().shared());
        }
    });
    assert_eq!(1, one.wire.begun(Verb::Claim));
    assert_eq!(1, one.wire.begun(Verb::Complete));
    assert_eq!(2, one.wire.all_begun());
}

/// Catches followers that begin anew when the one who asks has its answer: they joined its claim.
#[test]
fn those_who_join_a_claim_share_its_answer() {
    let [one] = processes(usual);
    one.begin("k").lead().complete(response(1)).unwrap();
    let gate = one.wire.hold_next(Verb::Claim);
    thread::scope(|scope| {
        let first = scope.spawn(|| one.begin_patiently("k"));
        gate.wait_arrived(1);
        let others: Vec<_> = (0..MANY).map(|_| scope.spawn(|| one.begin_patiently("k"))).collect();
        in_line(&one, MANY as u64);
        gate.open();
        assert_eq!(1, first.join().unwrap().replayed());
        for other in others {
            assert_eq!(1, other.join().unwrap().replayed());
        }
    });
    assert_eq!(2, one.wire.begun(Verb::Claim));
    assert_eq!(3, one.wire.all_begun());
}

/// Catches a read before the claim, or after it.
#[test]
fn a_replay_is_one_claim() {
    let [one, two] = processes(usual);
    one.begin("k").lead().complete(response(1)).unwrap();
    assert_eq!(1, two.begin("k").replayed());
    assert_eq!((1, 1), (two.wire.begun(Verb::Claim), two.wire.all_begun()));
}

/// Catches a caller without time that makes a claim beside its own process's, or that takes its
/// word without a look.
#[test]
fn a_caller_that_will_not_wait_reads_once_where_its_process_leads() {
    let [one] = processes(usual);
    let lead = one.begin("k").lead();
    assert_eq!(ErrorKind::Timeout, kind(one.look("k")));
    assert_eq!((1, 1), (one.wire.begun(Verb::Claim), one.wire.begun(Verb::Read)));
    lead.complete(response(1)).unwrap();
}

/// Catches a follower elsewhere that asks for itself: only one of each process watches.
#[test]
fn of_the_followers_in_another_process_one_asks() {
    let [one, two] = processes(usual);
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let watcher = watch(scope, &two, "k");
        let followers: Vec<_> =
            (0..MANY).map(|_| scope.spawn(|| two.begin_patiently("k"))).collect();
        in_line(&two, MANY as u64);
        lead.complete(response(1)).unwrap();
        assert_eq!(1, watcher.join().unwrap().shared());
        for follower in followers {
            assert_eq!(1, follower.join().unwrap().shared());
        }
    });
    // The watcher asks before and after it listens, when it is told, and now and then: but a test
    // may take no longer than its patience.
    assert!(two.wire.begun(Verb::Claim) < MANY, "{}", two.wire.begun(Verb::Claim));
    assert_eq!(two.wire.begun(Verb::Claim), two.wire.all_begun());
}
