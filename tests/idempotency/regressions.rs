//! What was found wrong once, each by what it broke.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use onceflight::idempotency::BeginIn;
use onceflight::store::{
    Claim, Claimed, Held, MemoryStore, RecordKey, Response, Settled, Store, Transaction,
};
use onceflight::{Error, ErrorKind, IdempotencyTable};

use crate::flaky::Gate;
use crate::support::*;

const MS: Duration = Duration::from_millis(1);

/// A transaction over records in memory: what it does is seen at once, and its commit is told lost.
struct Tx;

impl Transaction for Tx {
    type Store = MemoryStore;
    fn claim(
        &mut self,
        store: &MemoryStore,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        store.claim(key, claim, Instant::now() + PATIENCE)
    }
    fn complete(
        &mut self,
        store: &MemoryStore,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        store.complete(key, held, response, ttl, Instant::now() + PATIENCE)
    }
    fn commit(self) -> Result<(), Error> {
        Err(Error::store("the commit was done, and its answer lost"))
    }
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_though_nothing_is_kept() {
    let table =
        IdempotencyTable::builder().ttl(Duration::ZERO).over(Arc::new(MemoryStore::new())).unwrap();
    let BeginIn::Lead(lead) = table.request("k").claim_in(&mut Tx).unwrap() else { panic!() };
    let done = lead.complete_in(&mut Tx, response(1)).unwrap();
    assert_eq!(done.commit(Tx).map_err(|error| error.kind()), Ok(()), "it was committed");
}

#[test]
fn a_held_record_committed_without_a_response_stays_unknown() {
    let table = IdempotencyTable::builder()
        .ttl(20 * MS)
        .lease(20 * MS)
        .on_lease_expired(onceflight::OnLeaseExpired::Hold)
        .over(Arc::new(MemoryStore::new()))
        .unwrap();
    let BeginIn::Lead(lead) = table.request("k").claim_in(&mut Tx).unwrap() else { panic!() };
    drop(lead); // committed as it is
    pass(100 * MS);
    let found = table.begin_timeout("k", Duration::ZERO).map(drop);
    assert_eq!(found.map_err(|error| error.kind()), Err(ErrorKind::Unknown));
}

/// A follower here waited for a lead of this process all the time.
#[test]
fn an_unkept_response_of_an_overdue_lead_reaches_its_followers_here() {
    let [one] = processes(|table| table.ttl(Duration::ZERO).lease(500 * MS).heartbeat(false));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        let gate = one.wire.hold_next(Verb::Claim);
        gate.wait_arrived(1); // its lease has passed, and the follower asks the store
        lead.complete(response(1)).unwrap(); // nobody took over
        gate.open();
        assert_eq!(follower.join().unwrap().shared(), 1);
    });
}

/// The same, overtaken by a leader elsewhere that completes without keeping.
#[test]
fn an_unkept_response_of_the_successor_elsewhere_reaches_the_followers_here() {
    let [one, two] = processes(|table| table.ttl(Duration::ZERO).lease(500 * MS).heartbeat(false));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        let gate = one.wire.hold_next(Verb::Claim);
        gate.wait_arrived(1);
        let successor = two.begin_patiently("k").lead();
        successor.complete(response(2)).unwrap();
        gate.open();
        assert_eq!(follower.join().unwrap().shared(), 2);
        drop(lead);
    });
}

#[test]
fn dropping_a_table_does_not_wait_for_each_of_its_leads() {
    let [one] = processes(|table| table.lease(LONG));
    let leads: Vec<_> = (0..5).map(|n| one.begin(format!("k{n}")).lead()).collect();
    leads.into_iter().for_each(std::mem::forget); // as a C program leaves them
    let gate = one.wire.freeze();
    let start = Instant::now();
    drop(one);
    let took = start.elapsed();
    gate.open();
    assert!(took < 3000 * MS, "{took:?} for 5 leads");
}

#[test]
fn leads_that_were_lost_are_forgotten() {
    let [one] =
        processes(|table| table.ttl(20 * MS).lease(20 * MS).heartbeat(false).max_in_flight(8));
    for n in 0..32 {
        std::mem::forget(one.begin(format!("k{n}")).lead());
        wait_until("its lease to pass", || one.record_is_over(&format!("k{n}")));
    }
    pass(500 * MS);
    let in_flight = one.stats().in_flight;
    assert!(in_flight <= 8, "{in_flight} leads of at most 8");
}

impl Process {
    fn record_is_over(&self, key: &str) -> bool {
        self.look_up(key).unwrap().is_none_or(|record| record.lease_left == Some(Duration::ZERO))
    }
}

#[test]
fn a_line_that_is_cut_again_and_again_is_no_storm() {
    let [one, two] = processes(usual);
    two.wire.news(Line::Fragile);
    let lead = one.begin("k").lead();
    let _ = two.begin_timeout("k", Duration::from_secs(1));
    drop(lead);
    let (listens, claims) = (two.wire.begun(Verb::Listen), two.wire.begun(Verb::Claim));
    assert!(listens < 100 && claims < 100, "{listens} listens, {claims} claims in a second");
}

#[test]
fn a_heartbeat_survives_a_driver_that_panics() {
    let [one] = processes(|table| table.lease(200 * MS));
    one.wire.next(Verb::Renew, Fault::Panic);
    let lead = one.begin("k").lead();
    one.wire.wait_ended(Verb::Renew, 3); // or no heart beats any more
    drop(lead);
}

/// The longest time that there is, and a heart that beats.
#[test]
fn a_heartbeat_bears_the_longest_store_timeout() {
    let [one] = processes(|table| table.store_timeout(Duration::MAX).lease(200 * MS));
    let lead = one.begin("k").lead();
    one.wire.wait_ended(Verb::Renew, 3); // or no heart beats any more
    drop(lead);
}

/// Another key, of which the table keeps what it knows of forgotten ones in the same place.
fn neighbour(key: &str) -> String {
    let bucket = |key: &str| RecordKey::new([], key).unwrap().id().0[0] % 64;
    let mut others = (0..).map(|number| format!("other {number}"));
    others.find(|other| bucket(other) == bucket(key)).unwrap()
}

/// Another key was forgotten meanwhile.
#[test]
fn a_run_that_begins_its_own_key_is_found_after_a_forget_too() {
    let [one] = processes(usual);
    let other = neighbour("k");
    let mut found = None;
    let _ = one.run("k", || {
        let _ = one.forget(&other);
        found =
            Some(one.request("k").same_thread().timeout(Duration::from_secs(2)).begin().map(drop));
        response(1)
    });
    assert_eq!(found.unwrap().map_err(|error| error.kind()), Err(ErrorKind::WouldDeadlock));
}

/// And its followers here ask the store no more than before.
#[test]
fn followers_here_ask_nobody_after_a_forget_of_another_key() {
    let [one] = processes(usual);
    let other = neighbour("k");
    let lead = one.begin("k").lead();
    let before = one.wire.begun(Verb::Claim);
    let _ = one.forget(&other);
    thread::scope(|scope| {
        let follower = scope.spawn(|| one.begin_timeout("k", 500 * MS));
        let _ = follower.join().unwrap();
    });
    drop(lead);
    assert_eq!(one.wire.begun(Verb::Claim), before);
}

/// Chores and purges have time though many lead.
#[test]
fn a_withdrawal_gets_its_answer_though_many_lead() {
    let [one] = processes(|table| table.lease(600 * MS));
    let leads: Vec<_> = (0..300)
        .map(|n| {
            pass(1 * MS);
            one.begin(format!("k{n}")).lead()
        })
        .collect();
    // The store takes 50 ms over it, and a lead needs care every few of them.
    let gate = one.wire.hold_next(Verb::Withdraw);
    one.wire.next(Verb::Claim, Fault::LoseAnswer);
    let _ = one.look("lost");
    gate.wait_arrived(1);
    pass(50 * MS);
    gate.open();
    wait_until("it is withdrawn", || one.look_up("lost").unwrap().is_none());
    assert_eq!(1, one.wire.begun(Verb::Withdraw));
    drop(leads);
}

/// MISMATCH before OVERLOADED.
#[test]
fn a_mismatch_is_told_at_the_limit_too() {
    let [one] = processes(|table| table.max_in_flight(1));
    let _lead = one.request("k").fingerprint("a").begin().lead();
    let other = one.request("k").fingerprint("b").timeout(Duration::ZERO).begin();
    assert_eq!(kind(other.map(drop)), ErrorKind::Mismatch);
}

#[test]
fn a_replay_takes_no_place_in_flight() {
    let [one] = processes(|table| table.max_in_flight(1));
    one.begin("done").lead().complete(response(1)).unwrap();
    let _lead = one.begin("k").lead();
    assert_eq!(one.look("done").replayed(), 1);
}

/// An unsure completion, sent again with other bytes: what the store has is what all get.
#[test]
fn a_completion_sent_again_with_other_bytes_shares_what_the_store_has() {
    let [one, two] = processes(|table| table.store_timeout(50 * MS));
    let lead = one.begin("k").lead();
    thread::scope(|scope| {
        let follower = follow(scope, &one, "k");
        one.wire.every(Verb::Complete, Fault::LoseAnswer);
        let refused = lead.complete(response(1)).unwrap_err();
        one.wire.mend();
        refused.lead.unwrap().complete(response(2)).unwrap();
        let (here, stored) = (follower.join().unwrap().shared(), two.look("k").replayed());
        assert_eq!(here, stored);
    });
}

/// A lead that was just granted was counted twice for a moment, and another within the limit refused.
#[test]
fn as_many_lead_as_may_though_they_begin_at_once() {
    let [one] = processes(|table| table.max_in_flight(4));
    for round in 0..50 {
        let leads: Vec<_> = thread::scope(|scope| {
            let begins: Vec<_> = (0..4)
                .map(|n| {
                    let one = &one;
                    scope.spawn(move || one.begin(format!("{round} {n}")).lead())
                })
                .collect();
            begins.into_iter().map(|begin| begin.join().unwrap()).collect()
        });
        for lead in leads {
            lead.complete(response(1)).unwrap();
        }
    }
}

/// Many leads must not lose their leases to a store that takes its time for each.
#[test]
fn leads_are_renewed_side_by_side() {
    let [one] = processes(|table| table.lease(Duration::from_secs(2)));
    let gate = Arc::new(Gate::default());
    one.wire.every(Verb::Renew, Fault::Wait(Arc::clone(&gate)));
    let leads: Vec<_> = (0..4).map(|n| one.begin(format!("k{n}")).lead()).collect();
    gate.wait_together(4);
    gate.open();
    for lead in leads {
        lead.cancel().unwrap();
    }
}

/// The lead of a caller that unwinds is abandoned, though it unwinds out of the store.
#[test]
fn a_lead_whose_settling_panics_is_abandoned() {
    let [table] = processes(|table| table.lease(LONG));
    table.wire.next(Verb::Complete, Fault::Panic);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lead = table.begin("k").lead();
        let _ = lead.complete(response(1));
    }));
    assert!(panicked.is_err());
    let next = table.begin_timeout("k", Duration::from_secs(3)).lead();
    assert_eq!(next.attempt(), 2);
    assert_eq!(table.stats().in_flight, 1);
}

/// A transaction that is seen at once, with something that happens in the middle of a call.
struct Meanwhile<F: FnMut()> {
    claimed: bool,
    then: F,
}

impl<F: FnMut()> Transaction for Meanwhile<F> {
    type Store = MemoryStore;
    fn claim(
        &mut self,
        store: &MemoryStore,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        let claimed = Tx.claim(store, key, claim);
        if self.claimed {
            (self.then)();
        }
        claimed
    }
    fn complete(
        &mut self,
        store: &MemoryStore,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        Tx.complete(store, key, held, response, ttl)
    }
    fn commit(mut self) -> Result<(), Error> {
        (self.then)();
        Ok(())
    }
}

/// Forgets the key, and has a caller come since: answers what that one is told.
fn forget_and_begin(table: &Arc<IdempotencyTable>) -> thread::JoinHandle<bool> {
    assert!(table.forget("k").unwrap());
    let late = Arc::clone(table);
    let since = thread::spawn(move || {
        matches!(late.begin_timeout("k", PATIENCE), Ok(onceflight::idempotency::Begin::Lead(_)))
    });
    wait_until("the caller that came since", || table.stats().waiting == 1);
    since
}

#[test]
fn what_a_transaction_read_before_a_forget_is_not_told_to_who_came_since() {
    let table = Arc::new(IdempotencyTable::over(Arc::new(MemoryStore::new())).unwrap());
    table.begin("k").lead().complete(response(1)).unwrap();
    let mut since = None;
    let then = || since = Some(forget_and_begin(&table));
    let mut tx = Meanwhile { claimed: true, then };
    let BeginIn::Replayed(_) = table.request("k").claim_in(&mut tx).unwrap() else { panic!() };
    assert!(since.unwrap().join().unwrap(), "it was told what had been forgotten");
}

#[test]
fn what_a_transaction_committed_before_a_forget_is_not_told_to_who_came_since() {
    let table = Arc::new(IdempotencyTable::over(Arc::new(MemoryStore::new())).unwrap());
    let mut since = None;
    let then = || since = Some(forget_and_begin(&table));
    let mut tx = Meanwhile { claimed: false, then };
    let BeginIn::Lead(lead) = table.request("k").claim_in(&mut tx).unwrap() else { panic!() };
    let done = lead.complete_in(&mut tx, response(1)).unwrap();
    done.commit(tx).unwrap();
    assert!(since.unwrap().join().unwrap(), "it was told what had been forgotten");
}
