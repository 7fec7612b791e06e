//! One entry point on a leader: what is known is answered, what is in flight is joined, what is new is
//! proposed.
//!
//! The log is a channel here: a test that has received a proposal knows that its caller waits, and
//! applies it when it sees fit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{ScopedJoinHandle, scope};
use std::time::Duration;

use onceflight::ErrorKind::{
    Conflict, Expired, Fenced, Malformed, SeqStale, Timeout, TooLarge, Unknown, WindowFull,
};
use onceflight::session::{Node, SessionRequest};
use onceflight::{Error, ErrorKind, Response, SessionTable};

use crate::support::{A, Calls, kind, table, with};

/// Longer than anything here takes. Who waits this long has hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of an implicit client: a test needn't register.
fn request(seq: u64) -> SessionRequest<'static> {
    SessionRequest::implicit(A, seq)
}

/// Applies an entry, and answers how often it was executed.
fn apply(node: &Node, request: &SessionRequest<'_>, data: &str) -> Result<bool, ErrorKind> {
    let applied = node.apply(request, 0, || (0, data));
    applied.map(|it| !it.replayed).map_err(|error| error.kind())
}

fn log() -> (Sender<u64>, Receiver<u64>) {
    channel()
}

/// Hands a request to the log, by its number.
fn to(
    log: &Sender<u64>,
    request: &SessionRequest<'_>,
) -> impl FnOnce() -> Result<(), Error> + use<> {
    let (log, seq) = (log.clone(), request.seq());
    move || {
        log.send(seq).expect("the test");
        Ok(())
    }
}

/// The next proposal: whoever made it waits for it to be applied.
fn proposed(entries: &Receiver<u64>) -> u64 {
    entries.recv_timeout(2 * PATIENCE).expect("a proposal")
}

fn never() -> Result<(), Error> {
    panic!("this needs no log")
}

fn answer(waiter: ScopedJoinHandle<'_, Result<Response, Error>>) -> Result<Vec<u8>, ErrorKind> {
    let answer = waiter.join().expect("no panic");
    answer.map(|response| response.data().to_vec()).map_err(|error| error.kind())
}

#[test]
fn what_is_new_is_proposed_and_answered_once_it_is_applied() {
    let (node, (log, entries)) = (Node::new(table()), log());
    scope(|scope| {
        let caller = scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1))));
        assert_eq!(1, proposed(&entries));
        assert_eq!(Ok(true), apply(&node, &request(1), "one"));
        assert_eq!(Ok(b"one".to_vec()), answer(caller));
    });
    // Again: from the table, and whoever applies it again executes nothing.
    assert_eq!(b"one", node.submit(&request(1), PATIENCE, never).unwrap().data());
    assert_eq!(Ok(false), apply(&node, &request(1), "twice"));
}

/// What can't change any more, whatever of the log isn't applied yet.
#[test]
fn what_is_certain_needs_no_log() {
    let mut table = with(|builder| builder.max_response_len(4));
    let old = table.register(A, "n", 0).unwrap();
    let life = table.register(A, "m", 0).unwrap();
    let request = |seq| SessionRequest::new(A, life, seq);
    table.lead(&request(1), b"one");
    table.lead(&request(2).ack(2), b"two");
    let _leads = table.ask(&request(3)).unwrap();
    table.record(&request(3), 0, b"three").unwrap_err();
    let node = Node::new(table);
    let refused = |request: &SessionRequest<'_>| kind(node.submit(request, PATIENCE, never));
    assert_eq!(SeqStale, refused(&request(1)));
    assert_eq!(Conflict, refused(&request(2).digest([1; 16])));
    assert_eq!(TooLarge, refused(&request(3)));
    assert_eq!(Fenced, refused(&SessionRequest::new(A, old, 1)));
    assert_eq!(Malformed, refused(&request(0)));
    assert_eq!(Malformed, refused(&request(4).ack(5)));
    assert_eq!(Malformed, refused(&SessionRequest::new(&[0; 256], 1, 1)));
    assert_eq!(b"two", node.submit(&request(2), PATIENCE, never).unwrap().data());
    let long = [0; 256];
    assert_eq!(TooLarge, kind(node.submit_registration(&long, b"", PATIENCE, never)));
    assert_eq!(TooLarge, kind(node.submit_registration(A, &long, PATIENCE, never)));
}

/// A session, or an ack, may be in the log and not applied yet: only the log can tell.
#[test]
fn what_is_not_certain_is_proposed_and_refused_by_the_log() {
    let mut table = table();
    let life = table.life(A);
    let (node, (log, entries)) = (Node::new(table), log());
    let refused = [
        (SessionRequest::new(A, life, 5), WindowFull),
        (SessionRequest::new(A, life + 1, 6), Expired),
        (SessionRequest::new(b"nobody", 1, 7), Expired),
    ];
    for (request, refusal) in refused {
        scope(|scope| {
            let caller = scope.spawn(|| node.submit(&request, PATIENCE, to(&log, &request)));
            assert_eq!(request.seq(), proposed(&entries));
            assert_eq!(Err(refusal), apply(&node, &request, "executed"));
            assert_eq!(Err(refusal), answer(caller));
        });
    }
}

/// However many ask, and whenever: there is one proposal, and all have its outcome.
#[test]
fn duplicates_in_flight_join() {
    const CALLERS: usize = 8;
    for seq in 1..=50 {
        let (node, (log, entries)) = (Node::new(table()), log());
        let request = SessionRequest::implicit(A, 1).ack(1);
        let (together, proposals) = (Barrier::new(CALLERS + 1), AtomicUsize::new(0));
        scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        node.submit(&request, PATIENCE, || {
                            proposals.fetch_add(1, Relaxed);
                            to(&log, &request)()
                        })
                    })
                })
                .collect();
            together.wait();
            proposed(&entries);
            let data = seq.to_string();
            assert_eq!(Ok(true), apply(&node, &request, &data));
            for caller in callers {
                assert_eq!(Ok(data.clone().into_bytes()), answer(caller));
            }
        });
        assert_eq!(1, proposals.into_inner());
    }
}

/// The response is one: nobody gets a copy.
#[test]
fn joined_callers_share_the_response() {
    let (node, (log, entries)) = (Node::new(table()), log());
    let shared = scope(|scope| {
        let callers = [(); 4]
            .map(|()| scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1)))));
        proposed(&entries);
        apply(&node, &request(1), "one").unwrap();
        callers.map(|caller| caller.join().unwrap().unwrap())
    });
    let places = shared.each_ref().map(|response| response.data().as_ptr());
    assert_eq!([places[0]; 4], places);
}

/// Whoever waits is told that it isn't known; the entry may be in the log that survives.
#[test]
fn stepping_down_tells_all_who_wait() {
    let mut joined = 0;
    // Until some have been seen to join; each round is checked.
    for _ in 0..10_000 {
        let (node, (log, entries)) = (Node::new(table()), log());
        let together = Barrier::new(4);
        scope(|scope| {
            let leader = scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1))));
            proposed(&entries);
            let others = [(); 3].map(|()| {
                scope.spawn(|| {
                    together.wait();
                    // One that comes too late to join proposes, which a node that doesn't lead refuses.
                    node.submit(&request(1), PATIENCE, || Err(Error::from(ErrorKind::Closed)))
                })
            });
            together.wait();
            node.step_down();
            assert_eq!(Err(Unknown), answer(leader));
            for other in others {
                match answer(other) {
                    Err(Unknown) => joined += 1,
                    late => assert_eq!(Err(ErrorKind::Closed), late),
                }
            }
        });
        // Applied after all: the next try is answered by the table.
        assert_eq!(Ok(true), apply(&node, &request(1), "one"));
        assert_eq!(b"one", node.submit(&request(1), PATIENCE, never).unwrap().data());
        if joined > 20 {
            return;
        }
    }
    panic!("nobody ever joined");
}

/// Every request and every registration that waits, not one.
#[test]
fn stepping_down_is_for_all_keys() {
    let (node, (log, entries)) = (Node::new(table()), log());
    scope(|scope| {
        let requests: [_; 3] = [1, 2, 3].map(|seq| {
            let (node, log) = (&node, &log);
            scope.spawn(move || node.submit(&request(seq), PATIENCE, to(log, &request(seq))))
        });
        let registration =
            scope.spawn(|| node.submit_registration(b"b", b"n", PATIENCE, to(&log, &request(9))));
        (0..4).for_each(|_| _ = proposed(&entries));
        node.step_down();
        for request in requests {
            assert_eq!(Err(Unknown), answer(request));
        }
        assert_eq!(Unknown, kind(registration.join().unwrap()));
    });
    node.step_down();
}

#[test]
fn a_proposal_that_fails_is_made_by_the_next() {
    for _ in 0..50 {
        let (node, (log, entries)) = (Node::new(table()), log());
        let proposing = Barrier::new(2);
        scope(|scope| {
            let first = scope.spawn(|| {
                node.submit(&request(1), PATIENCE, || {
                    proposing.wait();
                    Err(Error::from(ErrorKind::Closed))
                })
            });
            let second = scope.spawn(|| {
                proposing.wait();
                node.submit(&request(1), PATIENCE, to(&log, &request(1)))
            });
            assert_eq!(Err(ErrorKind::Closed), answer(first));
            assert_eq!(1, proposed(&entries));
            apply(&node, &request(1), "one").unwrap();
            assert_eq!(Ok(b"one".to_vec()), answer(second));
        });
    }
}

#[test]
fn a_proposal_that_panics_is_made_by_the_next() {
    let (node, (log, entries)) = (Node::new(table()), log());
    let panics =
        || node.submit(&request(1), PATIENCE, || -> Result<(), Error> { panic!("in the log") });
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    scope(|scope| {
        let next = scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1))));
        proposed(&entries);
        apply(&node, &request(1), "one").unwrap();
        assert_eq!(Ok(b"one".to_vec()), answer(next));
    });
}

#[test]
fn who_waits_for_an_entry_that_panics_is_told_that_nothing_is_known() {
    let (node, (log, entries)) = (Node::new(table()), log());
    scope(|scope| {
        let caller = scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1))));
        proposed(&entries);
        let panics = || node.apply(&request(1), 0, || -> (i32, &str) { panic!("half changed") });
        catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
        assert_eq!(Err(Unknown), answer(caller));
    });
}

/// The entry may be lost: the next in line hands it to the log again, and the table sees to it that it
/// isn't executed twice.
#[test]
fn when_the_proposers_time_is_up_the_next_proposes() {
    let (node, (log, entries)) = (Node::new(table()), log());
    let soon = Duration::from_millis(50);
    scope(|scope| {
        let first = scope.spawn(|| node.submit(&request(1), soon, to(&log, &request(1))));
        proposed(&entries);
        let second = scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1))));
        assert_eq!(Err(Timeout), answer(first));
        proposed(&entries);
        // Both were logged.
        assert_eq!([Ok(true), Ok(false)], [(); 2].map(|()| apply(&node, &request(1), "one")));
        assert_eq!(Ok(b"one".to_vec()), answer(second));
    });
}

/// Who joins has a time of its own, and disturbs nobody by leaving.
#[test]
fn one_that_joined_leaves_when_its_time_is_up() {
    let (node, (log, entries)) = (Node::new(table()), log());
    scope(|scope| {
        let leader = scope.spawn(|| node.submit(&request(1), PATIENCE, to(&log, &request(1))));
        proposed(&entries);
        for timeout in [Duration::ZERO, Duration::from_millis(5)] {
            assert_eq!(Timeout, kind(node.submit(&request(1), timeout, never)));
        }
        apply(&node, &request(1), "one").unwrap();
        assert_eq!(Ok(b"one".to_vec()), answer(leader));
    });
}

/// For ever is a time too.
#[test]
fn a_caller_may_wait_for_ever() {
    let (node, (log, entries)) = (Node::new(table()), log());
    scope(|scope| {
        let caller = scope.spawn(|| node.submit(&request(1), Duration::MAX, to(&log, &request(1))));
        proposed(&entries);
        apply(&node, &request(1), "one").unwrap();
        assert_eq!(Ok(b"one".to_vec()), answer(caller));
    });
}

/// The entry of an earlier leader may be applied at any moment around a submit: one is enough, whenever
/// it comes, though the caller's own is never applied.
#[test]
fn one_apply_is_enough_whenever_it_comes() {
    let (mut late, mut early) = (0, 0);
    for seq in 1..=2000 {
        let node = Node::new(table());
        let request = SessionRequest::implicit(A, 1);
        let together = Barrier::new(2);
        let mut proposed = false;
        scope(|scope| {
            scope.spawn(|| {
                together.wait();
                // Not always at once, so that it comes here and there.
                (0..seq % 50 * 20).for_each(|_| std::hint::spin_loop());
                assert_eq!(Ok(true), apply(&node, &request, "one"));
            });
            together.wait();
            let response = node.submit(&request, PATIENCE, || -> Result<(), Error> {
                proposed = true;
                Ok(())
            });
            assert_eq!(b"one", response.expect("one apply is enough").data());
        });
        if proposed { late += 1 } else { early += 1 }
    }
    println!("{late} after the proposal, {early} before");
}

#[test]
fn another_payload_in_flight_is_a_conflict() {
    let (node, (log, entries)) = (Node::new(table()), log());
    let (mine, others) = (request(1).digest([1; 16]), request(1).digest([2; 16]));
    scope(|scope| {
        let leader = scope.spawn(|| node.submit(&mine, PATIENCE, to(&log, &mine)));
        proposed(&entries);
        assert_eq!(Conflict, kind(node.submit(&others, PATIENCE, never)));
        assert_eq!(Conflict, kind(node.submit(&request(1), PATIENCE, never)));
        apply(&node, &mine, "mine").unwrap();
        assert_eq!(Ok(b"mine".to_vec()), answer(leader));
    });
    assert_eq!(Conflict, kind(node.submit(&others, PATIENCE, never)));
}

/// An earlier leader had logged another payload under the same number: its response is nobody's here.
#[test]
fn an_entry_with_another_payload_does_not_answer() {
    for (mine, others) in [
        (request(1).digest([1; 16]), request(1).digest([2; 16])),
        (request(1), request(1).digest([0; 16])),
        (request(1).digest([0; 16]), request(1)),
    ] {
        let (node, (log, entries)) = (Node::new(table()), log());
        scope(|scope| {
            let caller = scope.spawn(|| node.submit(&mine, PATIENCE, to(&log, &mine)));
            proposed(&entries);
            assert_eq!(Ok(true), apply(&node, &others, "the other's"));
            assert_eq!(Err(Conflict), apply(&node, &mine, "mine"));
            assert_eq!(Err(Conflict), answer(caller));
        });
    }
}

/// An earlier leader had logged the same request with an older ack, which the window is too narrow for: that
/// it wasn't executed then doesn't say that it isn't now.
#[test]
fn an_entry_with_another_ack_does_not_answer() {
    let sessions = SessionTable::builder().window(1).build().unwrap();
    let (node, (log, entries)) = (Node::new(sessions), log());
    let life = node.apply_registration(A, b"n", 0).unwrap();
    let (older, mine) =
        (SessionRequest::new(A, life, 2).ack(1), SessionRequest::new(A, life, 2).ack(2));
    scope(|scope| {
        let caller = scope.spawn(|| node.submit(&mine, PATIENCE, to(&log, &mine)));
        proposed(&entries);
        assert_eq!(Err(WindowFull), apply(&node, &older, "never"));
        assert_eq!(Ok(true), apply(&node, &mine, "mine"));
        assert_eq!(Ok(b"mine".to_vec()), answer(caller));
    });
}

/// Without a digest, a name that ends with another's numbers isn't that one's request with a digest.
#[test]
fn an_entry_of_a_name_that_ends_with_numbers_does_not_answer() {
    let mut name = A.to_vec();
    name.extend(0_u64.to_le_bytes()); // the incarnation of A's request
    name.extend(1_u64.to_le_bytes()); // its number
    let others = SessionRequest::implicit(&name, 1); // and its ack; then the number and the ack of this
    let digest: [u8; 16] = std::array::from_fn(|at| u8::from(at == 0));
    let mine = SessionRequest::implicit(A, 1).digest(digest);
    let (node, (log, entries)) = (Node::new(table()), log());
    scope(|scope| {
        let caller = scope.spawn(|| node.submit(&mine, PATIENCE, to(&log, &mine)));
        proposed(&entries);
        assert_eq!(Ok(true), apply(&node, &others, "the other's"));
        assert_eq!(Ok(true), apply(&node, &mine, "mine"));
        assert_eq!(Ok(b"mine".to_vec()), answer(caller));
    });
}

/// Names and numbers that look alike when they are strung together.
#[test]
fn one_requests_entry_does_not_answer_another() {
    let (node, (log, entries)) = (Node::new(table()), log());
    let request = request(1);
    let others = [
        SessionRequest::implicit(b"a\0", 1),
        SessionRequest::implicit(b"", 1),
        SessionRequest::implicit(b"a\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 1),
        SessionRequest::implicit(b"a", 2),
        SessionRequest::new(b"a", 1, 1),
    ];
    scope(|scope| {
        let caller = scope.spawn(|| node.submit(&request, PATIENCE, to(&log, &request)));
        proposed(&entries);
        for other in others {
            let _ = apply(&node, &other, "the other's");
        }
        node.apply_registration(A, b"n", 0).unwrap();
        node.unregister(A).unwrap();
        assert_eq!(Ok(true), apply(&node, &request, "mine"));
        assert_eq!(Ok(b"mine".to_vec()), answer(caller));
    });
}

#[test]
fn registrations_are_proposed_joined_and_told_alike() {
    let (node, (log, entries)) = (Node::new(table()), log());
    let entry = request(1);
    let lives = scope(|scope| {
        let register =
            |nonce| node.submit_registration(A, nonce, PATIENCE, to(&log, &entry)).unwrap();
        let first = scope.spawn(move || register(b"n"));
        proposed(&entries);
        // Another client, another nonce, strung together alike: not its entry.
        node.apply_registration(b"an", b"", 0).unwrap();
        assert_eq!(2, node.apply_registration(A, b"n", 0).unwrap());
        let first = first.join().unwrap();
        // Its answer was lost: it asks again, and the log says the same.
        let again = scope.spawn(move || register(b"n"));
        proposed(&entries);
        node.apply_registration(A, b"n", 0).unwrap();
        (first, again.join().unwrap())
    });
    assert_eq!((2, 2), lives);
}

#[test]
fn errors_of_the_log_are_the_callers_own_type() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        NotLeading(&'static str),
        Sessions(ErrorKind),
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Self::Sessions(error.kind())
        }
    }
    let node = Node::new(table());
    let refused = node.submit(&request(1), PATIENCE, || Err(Mine::NotLeading("ask n2")));
    assert_eq!(Err(Mine::NotLeading("ask n2")), refused.map(drop));
    let refused = node.submit(&request(1), Duration::ZERO, || Ok::<(), Mine>(()));
    assert_eq!(Err(Mine::Sessions(Timeout)), refused.map(drop));
}

/// Nodes of the others: nobody waits there, and the tables are the same.
#[test]
fn a_node_that_does_not_lead_applies_the_same() {
    let node = Node::new(table());
    let mut alone = table();
    assert_eq!(alone.register("c", "n", 1), node.apply_registration(b"c", b"n", 1));
    apply(&node, &request(1), "one").unwrap();
    alone.apply(&request(1), 0, || (0, "one")).unwrap();
    assert_eq!(Ok(()), node.keep_alive(b"c", 1, 5));
    alone.keep_alive("c", 1, 5).unwrap();
    assert_eq!(alone.expire(7), node.expire(7));
    assert_eq!(alone.bytes(), node.freeze().unwrap().to_bytes());
    assert_eq!(2, node.len());
    node.unregister(b"c").unwrap();
    assert_eq!(Expired, kind(node.unregister(b"c")));
    assert!(!node.is_empty());
}

/// A snapshot of the leader's in place of what a node has.
#[test]
fn an_installed_table_answers() {
    let (mut other, node) = (table(), Arc::new(Node::new(table())));
    other.lead(&request(1), b"of the leader's");
    assert!(node.install(SessionTable::restore(&other.bytes()).unwrap()).is_empty());
    let response = node.submit(&request(1), PATIENCE, never).unwrap();
    assert_eq!(b"of the leader's", response.data());
}
