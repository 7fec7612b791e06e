//! `HTTPower`'s dedup middleware. Its hash tests belong to the request key, which has tests of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use onceflight::{Begin, DedupTable, ErrorKind, OnCancel, Role, TryBegin};

use super::{PATIENCE, in_line, wait_until};

#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    body: &'static str,
}

type Dedup = DedupTable<String, Arc<Response>>;

const WINDOW: Duration = Duration::from_millis(500);

fn dedup() -> Dedup {
    DedupTable::builder().completed_ttl(WINDOW).build()
}

fn success() -> Arc<Response> {
    Arc::new(Response { status: 200, body: "success" })
}

#[test]
fn httpower_first_request_executes() {
    let dedup = dedup();
    assert!(matches!(dedup.try_begin("post:charge"), Ok(TryBegin::Lead(_))));
    assert!(matches!(dedup.try_begin("post:refund"), Ok(TryBegin::Lead(_))));
}

#[test]
fn httpower_duplicates_of_an_in_flight_request_wait() {
    let dedup = dedup();
    let _lead = dedup.begin("k").unwrap();
    let waiting = [(); 3].map(|()| match dedup.try_begin("k") {
        Ok(TryBegin::Follower(follower)) => follower,
        other => panic!("{other:?}"),
    });
    assert_eq!(3, dedup.stats().waiting);
    drop(waiting);
}

#[test]
fn httpower_waiting_requests_are_notified_on_completion() {
    let dedup = dedup();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| dedup.begin_timeout("k", PATIENCE)));
        in_line(&dedup, 2);
        lead.complete(success()).unwrap();
        for waiter in waiting {
            assert!(matches!(waiter.join().unwrap(), Ok(Begin::Shared(r)) if r == success()));
        }
    });
}

/// Theirs needs a pause for its server to catch up; here completion is done when it returns.
#[test]
fn httpower_completed_request_is_answered_from_the_window() {
    let dedup: Dedup = DedupTable::builder().completed_ttl(Duration::from_secs(3600)).build();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    lead.complete(success()).unwrap();
    assert!(matches!(dedup.try_begin("k"), Ok(TryBegin::Replayed(r)) if r == success()));
}

#[test]
fn httpower_cancel_removes_the_in_flight_request() {
    let dedup = dedup();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    lead.cancel().unwrap();
    assert!(matches!(dedup.try_begin("k"), Ok(TryBegin::Lead(_))));
}

#[test]
fn httpower_waiters_are_notified_of_a_cancel() {
    let dedup: Dedup = DedupTable::builder().on_cancel(OnCancel::FailAll).build();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    thread::scope(|scope| {
        let waiter = scope.spawn(|| dedup.begin_timeout("k", PATIENCE).map(drop));
        in_line(&dedup, 1);
        lead.cancel().unwrap();
        assert_eq!(ErrorKind::Cancelled, waiter.join().unwrap().unwrap_err().kind());
    });
}

/// Theirs is gone after 0.5 to 5.5 s, when a sweep comes by; here after the ttl, and the memory
/// with it.
#[test]
fn httpower_completed_requests_are_removed_after_the_ttl() {
    let dedup = dedup();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    let response = success();
    lead.complete(Arc::clone(&response)).unwrap();
    let completed = Instant::now();
    wait_until("the memory", || Arc::strong_count(&response) == 1);
    assert!(completed.elapsed() + Duration::from_millis(50) >= WINDOW);
    assert!(matches!(dedup.try_begin("k"), Ok(TryBegin::Lead(_))));
}

#[test]
fn httpower_respects_a_custom_wait_timeout() {
    let dedup = dedup();
    let _lead = dedup.begin("k").unwrap();
    let start = Instant::now();
    let error = dedup.begin_timeout("k", Duration::from_millis(100)).map(drop).unwrap_err();
    assert_eq!(ErrorKind::Timeout, error.kind());
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn httpower_handles_high_concurrency() {
    const CALLERS: usize = 50;
    let dedup = dedup();
    let executions = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let outcome = dedup.run("k", || {
                    executions.fetch_add(1, Ordering::SeqCst);
                    in_line(&dedup, CALLERS as u64 - 1);
                    success()
                });
                assert_eq!(success(), outcome.unwrap().value);
            });
        }
    });
    assert_eq!(1, executions.into_inner());
}

/// A waiter that dies leaves the line, and completion doesn't stumble over it.
#[test]
fn httpower_a_waiters_death_removes_it_from_the_list() {
    let dedup = dedup();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let Ok(TryBegin::Follower(_follower)) = dedup.try_begin("k") else { panic!() };
            std::panic::resume_unwind(Box::new("dies"))
        });
        let died: Result<(), _> = waiter.join();
        assert!(died.is_err());
    });
    assert_eq!(0, dedup.stats().waiting);
    lead.complete(success()).unwrap();
}

/// Theirs keeps a timed-out waiter listed until its process dies.
#[test]
fn httpower_a_waiters_timeout_leaks_nothing() {
    let dedup = dedup();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let result = dedup.begin_timeout("k", Duration::from_millis(10));
                assert_eq!(ErrorKind::Timeout, result.map(drop).unwrap_err().kind());
            });
        }
    });
    let stats = dedup.stats();
    assert_eq!((0, 10), (stats.waiting, stats.timeouts));
    lead.complete(success()).unwrap();
}

#[test]
fn httpower_a_requester_that_ends_without_a_word_frees_the_key() {
    let dedup = dedup();
    thread::scope(|scope| {
        scope.spawn(|| drop(dedup.begin("k").unwrap()));
    });
    assert!(matches!(dedup.try_begin("k"), Ok(TryBegin::Lead(_))));
}

/// Theirs fails every waiter with an error; here the first in line does the work.
#[test]
fn httpower_waiters_survive_a_requester_that_crashes() {
    let dedup = dedup();
    thread::scope(|scope| {
        let requester = scope.spawn(|| {
            let _lead = dedup.begin("k").unwrap();
            in_line(&dedup, 3);
            std::panic::resume_unwind(Box::new("crash"))
        });
        wait_until("a leader", || dedup.stats().leads == 1);
        let waiters: Vec<_> =
            (0..3).map(|_| scope.spawn(|| dedup.run("k", success).unwrap())).collect();
        let crashed: Result<(), _> = requester.join();
        assert!(crashed.is_err());
        let outcomes: Vec<_> = waiters.into_iter().map(|w| w.join().unwrap()).collect();
        assert!(outcomes.iter().all(|outcome| outcome.value == success()));
        assert_eq!(1, outcomes.iter().filter(|outcome| outcome.role == Role::Led).count());
    });
}

/// Theirs accepts it from anybody: a complete that comes too late would answer for the next one.
#[test]
fn httpower_a_late_complete_is_nobodys_response() {
    let dedup = dedup();
    let Ok(Begin::Lead(late)) = dedup.request("k").lease(Duration::ZERO).begin() else { panic!() };
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    let too_late = Arc::new(Response { status: 500, body: "too late" });
    assert_eq!(ErrorKind::Stale, late.complete(too_late).unwrap_err().error.kind());
    lead.complete(success()).unwrap();
    assert!(matches!(dedup.begin("k"), Ok(Begin::Replayed(r)) if r == success()));
}

/// Theirs shares a 5xx and then keeps it.
#[test]
fn httpower_a_server_error_is_shared_and_not_kept() {
    let dedup: Dedup = DedupTable::builder()
        .completed_ttl(Duration::from_secs(3600))
        .retain(|response: &Arc<Response>| response.status < 500)
        .build();
    let Ok(Begin::Lead(lead)) = dedup.begin("k") else { panic!() };
    let Ok(TryBegin::Follower(waiting)) = dedup.try_begin("k") else { panic!() };
    lead.complete(Arc::new(Response { status: 503, body: "" })).unwrap();
    assert!(matches!(waiting.wait(), Ok(Begin::Shared(r)) if r.status == 503));
    assert_eq!(Role::Led, dedup.run("k", success).unwrap().role);
}
