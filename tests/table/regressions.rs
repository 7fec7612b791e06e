//! What a review found broken once, each by its behaviour. Those about memory are in
//! `tests/memory.rs`, those about events and deadlines in `ffi-tests/c`.

use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use onceflight::{Begin, Builder, DedupTable, ErrorKind, Follower, Lead, OnLeaseExpired};

use crate::support::*;

fn holding() -> Builder<String, u64> {
    DedupTable::builder().on_lease_expired(OnLeaseExpired::Hold)
}

/// Waits until the lead is on offer to this one, which doesn't take it up.
fn await_offer(follower: &mut Follower<'_, String, u64>) {
    follower.receiver().recv_timeout(PATIENCE).expect("the lead is offered");
}

/// An overdue lead, on offer to the follower.
fn overdue_on_offer(table: &Table) -> (Lead<'_, String, u64>, Follower<'_, String, u64>) {
    let late = table.request("k").lease(LONG).begin().lead();
    let mut offered = follower(table.request("k").lease(LONG).recover().try_begin());
    late.renew(Duration::ZERO).unwrap();
    await_offer(&mut offered);
    (late, offered)
}

#[test]
fn an_unread_offer_leaves_the_lead_to_the_late_leader() {
    let table = Table::builder().completed_ttl(LONG).build();
    let (late, mut offered) = overdue_on_offer(&table);
    let mut behind = follower(table.try_begin("k"));
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    late.complete(1).unwrap();
    assert_eq!(1, offered.wait_timeout(PATIENCE).shared());
    assert_eq!(1, behind.wait_timeout(PATIENCE).shared());
    let stats = table.stats();
    assert_eq!((0, 0, 1, 0), (stats.takeovers, stats.stale, stats.leads, stats.waiting));
}

#[test]
fn an_accepted_offer_makes_the_late_leader_stale() {
    let table = Table::new();
    let (late, mut offered) = overdue_on_offer(&table);
    let fence = late.fence();
    let successor = offered.wait_timeout(PATIENCE).lead();
    assert_eq!(2, successor.attempt());
    assert!(successor.fence() > fence);
    assert_eq!(ErrorKind::Stale, kind(late.renew(LONG)));
    let refused = late.complete(1).unwrap_err();
    assert_eq!((ErrorKind::Stale, 1), (refused.error.kind(), refused.value));
    successor.complete(2).unwrap();
    assert_eq!(1, table.stats().takeovers);
}

#[test]
fn a_renewal_takes_the_offer_back_and_the_follower_keeps_its_place() {
    let table = Table::new();
    let (late, mut first) = overdue_on_offer(&table);
    let mut second = follower(table.try_begin("k"));
    late.renew(LONG).unwrap();
    in_line(&table, 2);
    assert_eq!(ErrorKind::Timeout, kind(first.wait_timeout(Duration::ZERO)));
    late.cancel().unwrap();
    let lead = first.wait_timeout(PATIENCE).lead();
    assert_eq!(2, lead.attempt());
    lead.complete(2).unwrap();
    assert_eq!(2, second.wait_timeout(PATIENCE).shared());
}

#[test]
fn a_lead_that_was_renewed_while_on_offer_is_offered_again_once_overdue() {
    let table = Table::new();
    let (late, mut offered) = overdue_on_offer(&table);
    late.renew(LONG).unwrap();
    // What it was told the first time doesn't count for the second.
    assert_eq!(ErrorKind::Timeout, kind(offered.wait_timeout(Duration::ZERO)));
    late.renew(Duration::ZERO).unwrap();
    await_offer(&mut offered);
    assert_eq!(2, offered.wait_timeout(PATIENCE).lead().attempt());
    assert_eq!(ErrorKind::Stale, late.complete(1).unwrap_err().error.kind());
}

#[test]
fn a_late_leader_that_cancels_leaves_its_offer_standing() {
    let table = Table::new();
    let (late, mut offered) = overdue_on_offer(&table);
    late.cancel().unwrap();
    let lead = offered.wait_timeout(PATIENCE).lead();
    assert_eq!(2, lead.attempt());
    let stats = table.stats();
    assert_eq!((1, 1, 0, 0), (stats.cancels, stats.promotions, stats.takeovers, stats.stale));
    lead.complete(2).unwrap();
}

#[test]
fn a_late_leader_that_abandons_leaves_its_offer_standing() {
    let table = Table::new();
    let (late, mut offered) = overdue_on_offer(&table);
    late.abandon().unwrap();
    assert_eq!(2, offered.wait_timeout(PATIENCE).lead().attempt());
    let stats = table.stats();
    assert_eq!((0, 0, 1, 0), (stats.cancels, stats.promotions, stats.takeovers, stats.stale));
}

#[test]
fn a_late_leader_that_declines_ends_its_offer() {
    let table = Table::new();
    let (late, mut offered) = overdue_on_offer(&table);
    late.decline().unwrap();
    assert!(matches!(offered.wait_timeout(PATIENCE), Ok(Begin::Bypass)));
    assert_eq!(1, table.begin("k").lead().attempt());
}

#[test]
fn a_forgotten_flight_on_offer_is_still_its_late_leaders() {
    let table = Table::builder().completed_ttl(LONG).build();
    let (late, mut offered) = overdue_on_offer(&table);
    assert!(table.forget("k").unwrap());
    late.complete(1).unwrap();
    assert_eq!(1, offered.wait_timeout(PATIENCE).shared());
    assert_eq!(1, table.begin("k").lead().attempt());
}

/// The lapse of an offer must not be forgotten for the overdue lease of the leader before.
#[test]
fn who_joins_during_an_offer_leads_once_it_lapses() {
    let table = Table::builder().offer(SHORT).build();
    let (late, offered) = overdue_on_offer(&table);
    let mut behind = follower(table.try_begin("k"));
    assert_eq!(2, behind.wait_timeout(PATIENCE).lead().attempt());
    drop((late, offered));
}

#[test]
fn under_hold_a_late_leader_completes_though_its_recovery_is_on_offer() {
    let table = holding().completed_ttl(LONG).build();
    let (late, mut offered) = overdue_on_offer(&table);
    assert_eq!(ErrorKind::Unknown, kind(table.begin_timeout("k", Duration::ZERO)));
    late.complete(1).unwrap();
    assert_eq!(1, offered.wait_timeout(PATIENCE).shared());
    assert_eq!(1, table.begin("k").replayed());
}

/// That nothing happened is news: the outcome isn't unknown any more.
#[test]
fn under_hold_a_late_cancel_opens_a_recovery_on_offer_to_all() {
    let table = holding().build();
    let (late, mut offered) = overdue_on_offer(&table);
    late.cancel().unwrap();
    let mut plain = follower(table.try_begin("k"));
    offered.wait_timeout(PATIENCE).lead().complete(2).unwrap();
    assert_eq!(2, plain.wait_timeout(PATIENCE).shared());
}

/// It might not be read for a long time, or ever.
#[test]
fn under_hold_nobody_waits_for_a_recovery_that_is_only_on_offer() {
    let table = holding().offer(LONG).build();
    let lead = table.begin("k").lead();
    let mut recovering = follower(table.request("k").recover().try_begin());
    lead.abandon().unwrap();
    assert_eq!(ErrorKind::Unknown, kind(table.begin_timeout("k", PATIENCE)));
    assert_eq!(ErrorKind::Unknown, kind(table.begin_timeout("k", Duration::ZERO)));
    assert_eq!(ErrorKind::Unknown, kind(table.try_begin("k")));
    // Accepted, it is in flight like any other.
    let lead = recovering.wait_timeout(PATIENCE).lead();
    assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout("k", Duration::ZERO)));
    lead.cancel().unwrap();
}

/// Those who were in line already learn it when the offer lapses, and not when it is next read.
#[test]
fn under_hold_a_line_learns_that_the_recovery_was_not_taken_up() {
    let table = holding().offer(SHORT).build();
    let lead = table.begin("k").lead();
    let recovering = follower(table.request("k").recover().try_begin());
    let mut plain = follower(table.try_begin("k"));
    lead.abandon().unwrap();
    assert_eq!(ErrorKind::Unknown, kind(plain.wait_timeout(PATIENCE)));
    assert_eq!(2, table.request("k").recover().begin().lead().attempt());
    drop(recovering);
}

#[test]
fn under_hold_a_forgotten_lost_flight_gives_its_slot_back() {
    let table = holding().max_in_flight(2).build();
    let mut lost = Vec::new();
    for key in ["a", "b", "c", "d", "e", "f"] {
        lost.push(table.request(key).lease(Duration::ZERO).begin().lead());
        assert!(table.forget(key).unwrap());
    }
    assert_eq!(2, table.stats().in_flight);
    let stale = lost.into_iter().filter_map(|lead| lead.cancel().err()).count();
    assert_eq!(4, stale, "each but the last two made room for another");
}

/// Which nobody forgot: its outcome stays unknown, however little room there is.
#[test]
fn under_hold_a_lost_flight_keeps_its_slot() {
    let table = holding().max_in_flight(1).build();
    let lost = table.request("a").lease(Duration::ZERO).begin().lead();
    assert_eq!(ErrorKind::Overloaded, kind(table.begin("b")));
    assert_eq!(ErrorKind::Unknown, kind(table.begin("a")));
    lost.cancel().unwrap();
}

/// A response that nobody should drop while anybody still has to be told.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the bomb goes off");
    }
}

/// Keys in the order of their shards, so that the first key's shard is closed first.
#[derive(Default)]
struct InOrder(u64);

impl Hasher for InOrder {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key << 32;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn close_tells_everyone_though_a_destructor_panics() {
    let table: DedupTable<u64, Arc<Bomb>, _> = DedupTable::builder()
        .completed_ttl(LONG)
        .hasher(BuildHasherDefault::<InOrder>::default())
        .build();
    let Ok(Begin::Lead(lead)) = table.begin(&0) else { panic!("a vacant key is led") };
    assert!(lead.complete(Arc::new(Bomb)).is_ok());
    let keys = 1..8;
    let leads: Vec<_> = keys.clone().map(|key| table.begin(&key)).collect();
    let followers: Vec<_> = keys.map(|key| table.try_begin(&key)).collect();

    let closed = catch_unwind(AssertUnwindSafe(|| table.close()));
    assert!(closed.is_err(), "the bomb went off inside");
    for following in followers {
        let Ok(onceflight::TryBegin::Follower(mut follower)) = following else {
            panic!("a place in line was due")
        };
        assert_eq!(ErrorKind::Closed, kind(follower.wait_timeout(Duration::ZERO)));
    }
    assert_eq!(ErrorKind::Closed, kind(table.begin(&9)));
    drop(leads);
}

/// The child has nothing to publish with: its followers are the parent's.
#[cfg(unix)]
#[test]
fn a_run_that_comes_back_in_the_child_of_a_fork_has_not_led() {
    use onceflight::Role;

    // Not 0, which a child that never came so far might end with.
    const OVERTAKEN: i32 = 42;
    let table = Table::new();
    let mut child = -1;
    let outcome = table.run("k", || {
        // SAFETY: the child makes no call but the table's, which take no lock there, and `_exit`.
        child = unsafe { libc::fork() };
        1
    });
    let role = outcome.map(|outcome| outcome.role);
    if child == 0 {
        let status = if matches!(role, Ok(Role::Overtaken)) { OVERTAKEN } else { 1 };
        // SAFETY: ends the child, whose other threads don't exist.
        unsafe { libc::_exit(status) };
    }
    assert!(child > 0 && matches!(role, Ok(Role::Led)));
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    assert_eq!(child, unsafe { libc::waitpid(child, &raw mut status, 0) });
    assert!(libc::WIFEXITED(status));
    assert_eq!(OVERTAKEN, libc::WEXITSTATUS(status), "what the child says");
}

/// Handlers of the program run on the program's own threads.
#[cfg(target_os = "linux")]
#[test]
fn the_tables_own_threads_take_no_signals() {
    use std::fs::read_to_string;

    let table = Table::builder().completed_ttl(LONG).build();
    table.begin("k").lead().complete(1).unwrap();
    let late = table.request("l").lease(LONG).begin().lead();
    let _behind = follower(table.try_begin("l"));
    // As the threads name themselves, once they have begun: the timer's and the reaper's.
    let own = || -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let statuses = tasks.filter_map(|task| read_to_string(task.path().join("status")).ok());
        statuses.filter(|status| status.starts_with("Name:\tonceflight-")).collect()
    };
    wait_until("the table's threads", || own().len() >= 2);
    for status in own() {
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        // All but SIGKILL, SIGSTOP and the C library's own two.
        let most = !(1 << 8 | 1 << 18 | 1 << 31 | 1 << 32);
        assert_eq!(most, blocked & most, "{blocked:x}");
    }
    drop(late);
}
