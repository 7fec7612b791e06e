//! Save and load: the rows of a database.

use std::collections::BTreeMap;

use onceflight::ErrorKind::{self, Format, Store};
use onceflight::session::{Save, SessionRequest};
use onceflight::{Error, SessionTable};

use crate::forged::sealed;
use crate::support::{A, B, Calls, kind, table, with};

/// A database of rows, which counts what is written to it and may fail at one of the writes.
#[derive(Clone, Default)]
pub struct Rows {
    pub table: Vec<u8>,
    pub sessions: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Writes to sessions since the count was set back.
    pub writes: usize,
    /// How many writes there may be before one fails.
    pub good: Option<usize>,
}

impl Rows {
    pub fn load(&self) -> Result<SessionTable, Error> {
        SessionTable::load(&self.table, self.sessions.values())
    }

    fn write(&mut self) -> Result<(), Failed> {
        match &mut self.good {
            Some(0) => Err(Failed(ErrorKind::Store)),
            Some(good) => {
                *good -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// An error of the database's own.
#[derive(Debug)]
pub struct Failed(pub ErrorKind);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error.kind())
    }
}

impl Save for Rows {
    type Error = Failed;

    fn put_table(&mut self, row: &[u8]) -> Result<(), Failed> {
        self.write()?;
        self.table = row.into();
        Ok(())
    }

    fn put_session(&mut self, client: &[u8], row: &[u8]) -> Result<(), Failed> {
        self.write()?;
        self.writes += 1;
        self.sessions.insert(client.into(), row.into());
        Ok(())
    }

    fn delete_session(&mut self, client: &[u8]) -> Result<(), Failed> {
        self.write()?;
        self.writes += 1;
        self.sessions.remove(client);
        Ok(())
    }
}

/// How many sessions' rows a save writes.
fn writes(table: &mut SessionTable, rows: &mut Rows) -> usize {
    rows.writes = 0;
    table.save(rows).unwrap();
    rows.writes
}

#[test]
fn what_is_saved_is_loaded() {
    let (mut table, mut rows) = (table(), Rows::default());
    table.lead(&SessionRequest::implicit(A, 1).digest([1; 16]), b"one");
    let life = table.life(B);
    table.lead(&SessionRequest::new(B, life, 3), b"three");
    table.keep_alive(A, 0, 70).unwrap();
    table.save(&mut rows).unwrap();
    assert_eq!(table.bytes(), rows.load().unwrap().bytes());
    // In whatever order the rows come.
    let backwards = SessionTable::load(&rows.table, rows.sessions.values().rev()).unwrap();
    assert_eq!(table.bytes(), backwards.bytes());
}

/// The first save writes all; later ones what has changed, and the table's own row.
#[test]
fn a_save_writes_what_has_changed() {
    let (mut table, mut rows) = (table(), Rows::default());
    for client in 0_u32..100 {
        table.life(&client.to_le_bytes());
    }
    assert_eq!(100, writes(&mut table, &mut rows));
    assert_eq!(0, writes(&mut table, &mut rows));
    let name = 7_u32.to_le_bytes();
    table.lead(&SessionRequest::new(&name, 8, 1), b"");
    table.lead(&SessionRequest::new(&name, 8, 2), b"");
    assert_eq!(1, writes(&mut table, &mut rows));
    table.unregister(name).unwrap();
    assert_eq!(1, writes(&mut table, &mut rows));
    // One that goes and comes back is one row.
    table.unregister(8_u32.to_le_bytes()).unwrap();
    table.life(&8_u32.to_le_bytes());
    // One that comes and goes is none, but a deletion of what isn't there.
    table.life(b"mayfly");
    table.unregister("mayfly").unwrap();
    assert_eq!(2, writes(&mut table, &mut rows));
    // A refusal changes its session; a peek nothing.
    table.refusal(&SessionRequest::new(&9_u32.to_le_bytes(), 10, 99));
    let _ = table.peek(10_u32.to_le_bytes(), 11, 1);
    assert_eq!(1, writes(&mut table, &mut rows));
    assert_eq!(table.bytes(), rows.load().unwrap().bytes());
}

/// The time is the table's: it is saved though no session has changed.
#[test]
fn the_time_and_the_registrations_are_saved() {
    let (mut table, mut rows) = (table(), Rows::default());
    table.life(A);
    table.unregister(A).unwrap();
    table.expire(55).unwrap();
    table.save(&mut rows).unwrap();
    let mut loaded = rows.load().unwrap();
    assert_eq!((55, 2), (loaded.now_ms(), loaded.life(A)));
}

#[test]
fn a_loaded_table_saves_its_own_changes_alone() {
    let (mut table, mut rows) = (table(), Rows::default());
    // Used so often that the numbers of their uses are other than those of their places.
    for _ in 0..3 {
        for client in 0_u32..10 {
            table.life(&client.to_le_bytes());
        }
    }
    table.save(&mut rows).unwrap();
    let mut loaded = rows.load().unwrap();
    assert_eq!(0, writes(&mut loaded, &mut rows));
    // In another order of use than that of names, and again after that.
    for client in [3_u32, 1, 8] {
        loaded.keep_alive(client.to_le_bytes(), u64::from(client) + 1, 5).unwrap();
        assert_eq!(1, writes(&mut loaded, &mut rows));
    }
    let again = rows.load().unwrap();
    assert_eq!(loaded.bytes(), again.bytes());
    assert_eq!(loaded.names(), again.names());
}

/// A restored one has never been saved, wherever it comes from.
#[test]
fn a_restored_table_is_saved_whole() {
    let (mut table, mut rows) = (table(), Rows::default());
    table.life(A);
    table.life(B);
    table.save(&mut rows).unwrap();
    let mut restored = SessionTable::restore(&table.bytes()).unwrap();
    assert_eq!(2, writes(&mut restored, &mut rows));
}

/// All sorts of going: each must take its row along.
#[test]
fn whoever_goes_takes_the_row_along() {
    let goes = |go: fn(&mut SessionTable)| {
        let mut table = with(|builder| {
            builder.timeout_ms(100).max_sessions(2).max_session_bytes(3).max_bytes(3)
        });
        let mut rows = Rows::default();
        table.lead(&SessionRequest::implicit(A, 1), b"1");
        table.register(B, "n", 50).unwrap();
        table.save(&mut rows).unwrap();
        go(&mut table);
        table.save(&mut rows).unwrap();
        assert_eq!(table.bytes(), rows.load().unwrap().bytes());
        assert!(!rows.sessions.contains_key(A));
    };
    goes(|table| table.unregister(A).unwrap());
    goes(|table| assert_eq!(1, table.expire(149).unwrap()));
    goes(|table| assert_eq!(3, table.register(b"c", "n", 50).unwrap()));
    goes(|table| table.lead(&SessionRequest::new(B, 2, 1), b"333"));
}

/// Wherever it fails: what was to be saved still is, and a save that succeeds is the whole of it.
#[test]
fn a_save_that_fails_is_made_good_by_the_next() {
    let full = 2 + 3 + 1;
    for good in 0..full {
        let (mut table, mut rows) = (table(), Rows::default());
        for client in [A, B, b"c", b"d", b"e"] {
            table.life(client);
        }
        table.save(&mut rows).unwrap();
        table.unregister(A).unwrap();
        table.unregister(B).unwrap();
        for client in [b"c", b"d", b"f"] {
            table.register(client, "another", 9).unwrap();
        }
        rows.good = Some(good);
        assert_eq!(Store, table.save(&mut rows).unwrap_err().0);
        rows.good = None;
        table.save(&mut rows).unwrap();
        assert_eq!(table.bytes(), rows.load().unwrap().bytes());
        assert_eq!(4, rows.sessions.len());
    }
}

#[test]
fn the_first_save_that_fails_is_made_good_by_the_next() {
    let (mut table, mut rows) = (table(), Rows { good: Some(1), ..Rows::default() });
    table.life(A);
    table.life(B);
    table.save(&mut rows).unwrap_err();
    table.unregister(A).unwrap();
    rows.good = None;
    table.save(&mut rows).unwrap();
    assert_eq!(table.bytes(), rows.load().unwrap().bytes());
}

/// Rows of another moment, of another client, of another table: they weren't saved together.
#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let (mut table, mut rows) = (table(), Rows::default());
    table.lead(&SessionRequest::implicit(A, 1), b"one");
    table.life(B);
    table.expire(60).unwrap();
    table.keep_alive(B, 2, 60).unwrap();
    table.save(&mut rows).unwrap();
    let loads = |spoil: &dyn Fn(&mut Rows)| {
        let mut rows = rows.clone();
        spoil(&mut rows);
        rows.load().map(drop).map_err(|error| error.kind())
    };
    let a = || rows.sessions[A].clone();
    assert_eq!(Ok(()), loads(&|_| ()));
    assert_eq!(Err(Format), loads(&|rows| drop(rows.sessions.remove(A))), "one is missing");
    assert_eq!(
        Err(Format),
        loads(&|rows| drop(rows.sessions.insert(b"c".into(), a()))),
        "one too many"
    );
    assert_eq!(Err(Format), loads(&|rows| drop(rows.sessions.insert(B.into(), a()))), "one twice");
    assert_eq!(Err(Format), loads(&|rows| rows.sessions.get_mut(A).unwrap()[20] ^= 1));
    assert_eq!(Err(Format), loads(&|rows| rows.sessions.get_mut(A).unwrap().truncate(30)));
    assert_eq!(Err(Format), loads(&|rows| *rows.sessions.get_mut(A).unwrap() = vec![]));
    assert_eq!(Err(Format), loads(&|rows| rows.table = vec![]));
    assert_eq!(Err(Format), loads(&|rows| rows.table[70] ^= 1));
    assert_eq!(Err(Format), loads(&|rows| rows.table = a()), "a session's for the table's");
    let header = || rows.table.clone();
    assert_eq!(Err(Format), loads(&|rows| drop(rows.sessions.insert(A.into(), header()))));
    // With seals of their own: a session and something, two of the same use, a use that no table gets to.
    let forged = |change: fn(&mut Vec<u8>)| {
        let mut row = a();
        row.truncate(row.len() - 8);
        change(&mut row);
        sealed(row)
    };
    let stamped = |stamp: u64| {
        let mut row = rows.sessions[B].clone();
        row.truncate(row.len() - 8);
        row[..8].copy_from_slice(&stamp.to_le_bytes());
        sealed(row)
    };
    let stamp_of_a = u64::from_le_bytes(a()[..8].try_into().unwrap());
    assert_eq!(
        Err(Format),
        loads(&|rows| drop(rows.sessions.insert(A.into(), forged(|row| row.push(0)))))
    );
    assert_eq!(
        Err(Format),
        loads(&|rows| drop(rows.sessions.insert(B.into(), stamped(stamp_of_a))))
    );
    assert_eq!(Err(Format), loads(&|rows| drop(rows.sessions.insert(B.into(), stamped(0)))));
    assert_eq!(Ok(()), loads(&|rows| drop(rows.sessions.insert(B.into(), stamped(1 << 40)))));
}

/// The next use would have no number.
#[test]
fn a_use_past_all_others_is_refused() {
    let (mut table, mut rows) = (table(), Rows::default());
    table.life(A);
    table.save(&mut rows).unwrap();
    let row = rows.sessions.get_mut(A).unwrap();
    row.truncate(row.len() - 8);
    row[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    *row = sealed(std::mem::take(row));
    assert_eq!(Format, kind(rows.load()));
}

/// A whole snapshot isn't the row of a table, and the other way round.
#[test]
fn a_row_is_no_snapshot() {
    let (mut table, mut rows) = (table(), Rows::default());
    table.life(A);
    table.save(&mut rows).unwrap();
    assert_eq!(Format, kind(SessionTable::restore(&rows.table)));
    assert_eq!(Format, kind(SessionTable::restore(&rows.sessions[A])));
    let none: [&[u8]; 0] = [];
    assert_eq!(Format, kind(SessionTable::load(&table.bytes(), none)));
}
