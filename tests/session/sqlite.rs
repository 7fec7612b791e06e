//! Sessions in a SQLite file: what a request changes and what was said to it are both there, or neither.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{env, fs, process};

use onceflight::ErrorKind::{self, Expired, Invalid, SeqStale, Store, TooLarge, WindowFull};
use onceflight::session::{Applied, Builder, DurableSessions, SessionRequest};
use onceflight::{Error, SessionTable};
use rusqlite::{Connection, Transaction};

use crate::support::{A, B, Calls, Random, kind, seed};

/// A directory for one file, and what SQLite keeps beside it.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("onceflight-sessions-{}-{}", process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = env::temp_dir().join(name);
        fs::create_dir(&directory).expect("a directory");
        Self(directory)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("sessions.db")
    }

    pub fn open(&self) -> DurableSessions {
        let sessions = DurableSessions::open(self.file(), limits()).expect("a file");
        let sums = "CREATE TABLE IF NOT EXISTS sums (number INTEGER)";
        sessions.connection().execute_batch(sums).expect("a table");
        sessions
    }

    pub fn error(&self) -> Error {
        DurableSessions::open(self.file(), limits()).expect_err("an error was due")
    }

    /// Another program.
    pub fn other(&self) -> Connection {
        Connection::open(self.file()).expect("a file")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn limits() -> Builder {
    SessionTable::builder().window(4).max_response_len(20)
}

pub fn request(seq: u64) -> SessionRequest<'static> {
    SessionRequest::implicit(A, seq)
}

type Execute = fn(&Transaction<'_>) -> Result<(i32, String), Failed>;

/// An application's.
#[derive(Debug)]
pub enum Failed {
    Mine,
    Sessions(ErrorKind),
    Database,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Sessions(error.kind())
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(_: rusqlite::Error) -> Self {
        Self::Database
    }
}

/// Counts one more, and says how many they are.
fn one_more(transaction: &Transaction<'_>) -> Result<(i32, String), Failed> {
    transaction.execute("INSERT INTO sums VALUES (1)", [])?;
    let count = "SELECT count(*) FROM sums";
    let sum = transaction.query_row(count, [], |row| row.get::<_, i64>(0))?;
    Ok((0, sum.to_string()))
}

pub trait Sums {
    fn sum(&self) -> i64;
    fn add(&mut self, seq: u64) -> Result<Applied, Failed>;
    fn snapshot(&mut self) -> Vec<u8>;
}

impl Sums for DurableSessions {
    fn sum(&self) -> i64 {
        let count = "SELECT count(*) FROM sums";
        self.connection().query_row(count, [], |row| row.get(0)).expect("a table")
    }

    fn add(&mut self, seq: u64) -> Result<Applied, Failed> {
        self.apply(&request(seq), 0, one_more)
    }

    fn snapshot(&mut self) -> Vec<u8> {
        self.sessions().expect("the file").bytes()
    }
}

/// What is in memory is what is in the file.
#[track_caller]
pub fn same(place: &Place, sessions: &mut DurableSessions) {
    assert_eq!(place.open().snapshot(), sessions.snapshot());
}

#[test]
fn a_retry_after_a_restart_is_replayed() {
    let place = Place::new();
    assert_eq!(b"1", place.open().add(1).unwrap().response.data());
    let mut sessions = place.open();
    for _ in 0..2 {
        let again = sessions.add(1).unwrap();
        assert_eq!((true, &b"1"[..]), (again.replayed, again.response.data()));
    }
    assert_eq!(b"2", sessions.add(2).unwrap().response.data());
    assert_eq!(2, place.open().sum());
}

#[test]
fn registrations_and_the_rest_survive_too() {
    let place = Place::new();
    let life = place.open().register(A, "n", 5).unwrap();
    let gone = place.open().register(B, "n", 6).unwrap();
    assert_eq!(life, place.open().register(A, "n", 7).unwrap());
    place.open().keep_alive(A, life, 8).unwrap();
    place.open().unregister(B).unwrap();
    assert_eq!(Expired, kind(place.open().keep_alive(B, gone, 9)));
    let mut sessions = place.open();
    assert_eq!(gone + 1, sessions.register("c", "n", 10).unwrap());
    let used: Vec<_> = sessions.sessions().unwrap().sessions().map(|it| it.last_used_ms).collect();
    assert_eq!([8, 10], *used);
    assert_eq!(2, place.open().expire(u64::MAX).unwrap());
    assert!(place.open().sessions().unwrap().is_empty());
}

/// Whatever goes wrong with a request: it leaves nothing, and is executed when it is sent again.
#[test]
fn a_request_that_fails_leaves_no_trace() {
    let fails: [Execute; 5] = [
        |transaction| one_more(transaction).and(Err(Failed::Mine)),
        |transaction| {
            one_more(transaction)?;
            transaction.execute_batch("no SQL")?;
            unreachable!()
        },
        // What the sessions are saved to is gone.
        |transaction| {
            transaction.execute_batch("DROP TABLE onceflight_sessions")?;
            one_more(transaction)
        },
        // The commit itself is refused.
        |transaction| {
            transaction.execute("INSERT INTO strict VALUES (9)", [])?;
            one_more(transaction)
        },
        // SQLite has rolled it back, and nobody looked.
        |transaction| {
            one_more(transaction)?;
            transaction.execute_batch("ROLLBACK")?;
            Ok((0, "done".into()))
        },
    ];
    for (at, fails) in fails.into_iter().enumerate() {
        let place = Place::new();
        let mut sessions = place.open();
        let strict = "PRAGMA foreign_keys = ON; CREATE TABLE whole (number INTEGER PRIMARY KEY);
            CREATE TABLE strict (number INTEGER REFERENCES whole DEFERRABLE INITIALLY DEFERRED)";
        sessions.connection().execute_batch(strict).unwrap();
        sessions.add(1).unwrap();
        let before = sessions.snapshot();

        let failed = sessions.apply(&request(2), 7, fails).unwrap_err();
        match at {
            0 => assert!(matches!(failed, Failed::Mine)),
            1 => assert!(matches!(failed, Failed::Database)),
            4 => assert!(matches!(failed, Failed::Sessions(Invalid))),
            _ => assert!(matches!(failed, Failed::Sessions(Store)), "{failed:?}"),
        }
        assert_eq!((1, &before), (sessions.sum(), &sessions.snapshot()), "failure {at}");
        assert_eq!(Ok(None), sessions.sessions().unwrap().peek(A, 0, 2));
        let done = sessions.add(2).unwrap();
        assert_eq!((false, &b"2"[..]), (done.replayed, done.response.data()));
        same(&place, &mut sessions);
    }
}

#[test]
fn a_panic_leaves_no_trace() {
    let place = Place::new();
    let mut sessions = place.open();
    let panics = |transaction: &Transaction<'_>| -> Result<(i32, String), Failed> {
        one_more(transaction)?;
        panic!("in the application")
    };
    catch_unwind(AssertUnwindSafe(|| sessions.apply(&request(1), 0, panics))).unwrap_err();
    assert_eq!(0, sessions.sum());
    assert_eq!(b"1", sessions.add(1).unwrap().response.data());
    same(&place, &mut sessions);
}

/// It was executed: that is kept with what it changed, though its response isn't.
#[test]
fn a_response_too_large_is_a_tombstone_beside_what_it_changed() {
    let place = Place::new();
    let large = |transaction: &Transaction<'_>| {
        one_more(transaction)?;
        Ok::<_, Failed>((0, [0; 21]))
    };
    for _ in 0..2 {
        let refused = place.open().apply(&request(1), 0, large).unwrap_err();
        assert!(matches!(refused, Failed::Sessions(TooLarge)));
    }
    assert_eq!(1, place.open().sum());
}

/// Nothing to wait for the disk for.
#[test]
fn a_replay_and_a_refusal_write_nothing() {
    let place = Place::new();
    let mut sessions = place.open();
    for seq in [1, 2, 3] {
        sessions.apply(&request(seq).ack(seq - 1), 0, one_more).unwrap();
    }
    let other = place.other();
    let version =
        || other.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = version();
    assert!(sessions.add(2).unwrap().replayed);
    let mut refused = |seq, ack| sessions.apply(&request(seq).ack(ack), 50, one_more).unwrap_err();
    assert!(matches!(refused(1, 1), Failed::Sessions(SeqStale)));
    assert!(matches!(refused(9, 3), Failed::Sessions(WindowFull)));
    assert_eq!(Expired, kind(sessions.unregister(B)));
    assert_eq!(before, version());
    // Until something does: what they left comes along.
    let used = |place: &Place| {
        let mut sessions = place.open();
        sessions.sessions().unwrap().sessions().map(|it| (it.last_used_ms, it.floor)).next()
    };
    assert_eq!(Some((0, 2)), used(&place));
    sessions.expire(0).unwrap();
    assert_eq!(Some((50, 3)), used(&place));
    assert_ne!(before, version());
    same(&place, &mut sessions);
}

/// Each sees what the other did, and numbers no client twice.
#[test]
fn two_of_one_file_take_turns() {
    let place = Place::new();
    let (mut one, mut two) = (place.open(), place.open());
    for seq in 1..20 {
        let (first, second) =
            if seq % 3 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        assert!(!first.add(seq).unwrap().replayed);
        let again = second.add(seq).unwrap();
        assert!(again.replayed);
        assert_eq!(seq.to_string().as_bytes(), again.response.data());
    }
    assert_eq!(
        [2, 3],
        [(&mut one, "n"), (&mut two, "m")].map(|(it, nonce)| it.register(B, nonce, 0).unwrap())
    );
    assert_eq!(one.snapshot(), two.snapshot());
}

/// Random requests, failures and restarts: the sum is that of the requests that were executed, and every
/// reply is the first one.
#[test]
fn whatever_fails_each_request_is_executed_once() {
    let (place, mut random) = (Place::new(), Random(seed()));
    let mut replies: Vec<Vec<u8>> = vec![];
    let mut open = [place.open(), place.open()];
    let (mut failures, mut replays) = (0, 0);
    while replies.len() < 150 {
        let done = replies.len() as u64;
        let oldest = done.saturating_sub(2).max(1);
        let seq = random.within(oldest..done + 2);
        let sessions = &mut open[usize::from(random.one_in(2))];
        if random.one_in(20) {
            *sessions = place.open();
        }
        let fails = random.one_in(4);
        let known = replies.get(usize::try_from(seq - 1).unwrap());
        let applied = sessions.apply(&request(seq).ack(oldest), done, |transaction| {
            assert_eq!(None, known, "executed twice");
            let told = one_more(transaction)?;
            if fails { Err(Failed::Mine) } else { Ok(told) }
        });
        match applied {
            Ok(Applied { response, replayed: false }) => replies.push(response.data().to_vec()),
            Ok(Applied { response, .. }) => {
                replays += 1;
                assert_eq!(Some(response.data()), known.map(|reply| &**reply));
            }
            Err(Failed::Mine) => failures += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(150, open[0].sum());
    let distinct: std::collections::BTreeSet<_> = replies.into_iter().collect();
    assert_eq!(150, distinct.len());
    assert!(failures > 20 && replays > 20, "{failures} failures, {replays} replays");
}
