//! Between a begin that leads and its record there is nothing else.

use onceflight::ErrorKind::{Invalid, TooLarge};
use onceflight::session::{Save, SessionBegin, SessionRequest};
use onceflight::{Error, SessionTable};

use crate::support::{A, B, Calls, kind, table, with};

/// A database that must not be asked for anything.
struct Nowhere;

impl Save for Nowhere {
    type Error = Error;

    fn put_table(&mut self, _: &[u8]) -> Result<(), Error> {
        unreachable!("nothing is saved")
    }

    fn put_session(&mut self, _: &[u8], _: &[u8]) -> Result<(), Error> {
        unreachable!("nothing is saved")
    }

    fn delete_session(&mut self, _: &[u8]) -> Result<(), Error> {
        unreachable!("nothing is saved")
    }
}

/// A table with an entry open, of A's request 2, at time 10; B has a session too.
fn open() -> (SessionTable, SessionRequest<'static>) {
    let mut table = with(|builder| builder.timeout_ms(100));
    let life = table.life(A);
    table.life(B);
    table.lead(&SessionRequest::new(A, life, 1), b"one");
    let request = SessionRequest::new(A, life, 2).digest([1; 16]);
    assert_eq!(Ok(SessionBegin::Lead), table.begin(&request, 10));
    (table, request)
}

#[test]
fn every_other_change_is_refused_and_changes_nothing() {
    let (mut table, request) = open();
    let life = request.incarnation();
    let late = 1_000_000;
    assert_eq!(Invalid, kind(table.register(B, "another", late)));
    assert_eq!(Invalid, kind(table.register(A, "nonce", late)));
    assert_eq!(Invalid, kind(table.begin(&request, late)));
    assert_eq!(Invalid, kind(table.begin(&SessionRequest::new(A, life, 1), late)));
    assert_eq!(Invalid, kind(table.begin(&SessionRequest::implicit(b"c", 1), late)));
    assert_eq!(Invalid, kind(table.apply(&request, late, || -> (i32, &str) { unreachable!() })));
    assert_eq!(Invalid, kind(table.keep_alive(A, life, late)));
    assert_eq!(Invalid, kind(table.unregister(A)));
    assert_eq!(Invalid, kind(table.unregister(B)));
    assert_eq!(Invalid, kind(table.expire(late)));
    assert_eq!(Invalid, kind(table.freeze()));
    assert_eq!(Invalid, kind(table.save(&mut Nowhere)));
    assert_eq!((2, 10), (table.len(), table.now_ms()));

    // It is as it was: recorded, it is what it would have been.
    table.record(&request, 0, b"two").unwrap();
    let (mut undisturbed, _) = open();
    undisturbed.record(&request, 0, b"two").unwrap();
    assert_eq!(undisturbed.bytes(), table.bytes());
}

#[test]
fn only_its_own_request_records_it() {
    let (mut table, request) = open();
    let life = request.incarnation();
    let others = [
        SessionRequest::new(A, life, 1),
        SessionRequest::new(A, life, 3),
        SessionRequest::new(A, life + 1, 2),
        SessionRequest::new(B, life, 2),
        SessionRequest::implicit(A, 2),
    ];
    for other in others {
        assert_eq!(Invalid, kind(table.record(&other, 0, b"not mine")));
    }
    assert_eq!(Invalid, kind(table.expire(10)), "it is still open");
    // What isn't its name is of no matter: the digest is that of the begin.
    table.record(&SessionRequest::new(A, life, 2).ack(2).digest([9; 16]), 0, b"mine").unwrap();
    assert_eq!(b"mine", table.replay(&request).data());
    assert_eq!(1, table.sessions().last().unwrap().floor);
}

#[test]
fn nothing_is_recorded_without_a_begin() {
    let mut table = table();
    let life = table.life(A);
    let request = SessionRequest::new(A, life, 1);
    assert_eq!(Invalid, kind(table.record(&request, 0, b"")));
    table.lead(&request, b"");
    assert_eq!(Invalid, kind(table.record(&request, 0, b"twice")));
    table.replay(&request);
    assert_eq!(Invalid, kind(table.record(&request, 0, b"of a replay")));
    assert_eq!(b"", table.replay(&request).data());
}

/// What doesn't lead opens nothing.
#[test]
fn a_refusal_and_a_replay_leave_no_entry_open() {
    let mut table = table();
    let life = table.life(A);
    table.lead(&SessionRequest::new(A, life, 1), b"");
    table.replay(&SessionRequest::new(A, life, 1));
    table.expire(0).unwrap();
    table.refusal(&SessionRequest::new(A, life, 5));
    table.expire(0).unwrap();
}

/// A response that can't be kept closes it as well.
#[test]
fn a_record_that_is_refused_closes_it() {
    let mut table = with(|builder| builder.max_response_len(3));
    let life = table.life(A);
    let request = SessionRequest::new(A, life, 1);
    assert_eq!(Ok(SessionBegin::Lead), table.ask(&request));
    assert_eq!(TooLarge, kind(table.record(&request, 0, b"four")));
    table.freeze().unwrap();
    assert_eq!(TooLarge, table.refusal(&request));
}

/// Data that can't be had.
struct Panics;

impl AsRef<[u8]> for Panics {
    fn as_ref(&self) -> &[u8] {
        panic!("in the machine's data")
    }
}

/// The machine may be half changed: nothing is to be done with it any more.
#[test]
fn a_panic_leaves_it_open() {
    let executes: [fn() -> (i32, Panics); 2] = [|| panic!("in the machine"), || (0, Panics)];
    for execute in executes {
        let mut table = table();
        let life = table.life(A);
        let request = SessionRequest::new(A, life, 1);
        let panics = || table.apply(&request, 0, execute);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err();
        assert_eq!(Invalid, kind(table.freeze()));
        assert_eq!(Invalid, table.refusal(&request));
    }
}
