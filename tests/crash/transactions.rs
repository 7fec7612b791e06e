//! Same-transaction mode: a business row and its key's record are both there, or neither, wherever a
//! process is killed, and whatever becomes of the answer to a commit.

use std::sync::Arc;
use std::time::Duration;

use onceflight::idempotency::{Begin, BeginIn};
use onceflight::store::{Claim, Claimed, Held, RecordKey, RecordState, Settled, Transaction};
use onceflight::{Error, ErrorKind, IdempotencyTable};
use serde::{Deserialize, Serialize};

use crate::harness::{
    Found, PATIENCE, Place, Random, eventually, on_every_database, response, seed,
};
use crate::kills::{Task, kill_many};
use crate::worker::{self, Fate, Worker};

on_every_database!(killed_anywhere, lost_answers, a_killed_transaction_holds_nobody_up);

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Point {
    Begun,
    Claimed,
    RowWritten,
    ResponseWritten,
    /// The commit is done, and nobody was told so.
    Committed,
    AfterCommit,
}

const POINTS: [Point; 6] = [
    Point::Begun,
    Point::Claimed,
    Point::RowWritten,
    Point::ResponseWritten,
    Point::Committed,
    Point::AfterCommit,
];

/// A database with a table of payments beside the records.
trait Bank {
    fn set_up(&mut self);
    /// One attempt at a payment, in a transaction of its own. Answers whether it led.
    fn pay(&mut self, payer: &Payer<'_>) -> Result<bool, Error>;
    /// All that was paid: keys and values.
    fn all(&mut self) -> Vec<(String, String)>;
}

fn bank(place: &Place) -> Box<dyn Bank> {
    match place.store {
        "sqlite" => Box::new(in_sqlite::Bank::open(place)),
        #[cfg(feature = "postgres")]
        "postgres" => Box::new(in_postgres::Bank::open(place)),
        other => unreachable!("{other} has no transactions"),
    }
}

/// Who pays, for what.
struct Payer<'t> {
    table: &'t IdempotencyTable,
    fate: &'t Arc<Fate<Point>>,
    key: String,
    value: String,
    /// Whether the answer to the commit is lost, and what became of it.
    lost: Option<Lost>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Committed,
    RolledBack,
}

impl Payer<'_> {
    /// Answers whether it led.
    fn pay<T: Transaction>(
        &self,
        mut tx: T,
        insert: impl FnOnce(&mut T, &str, &str),
    ) -> Result<bool, Error> {
        self.fate.pass(Point::Begun);
        let request = self.table.request(&self.key).timeout(Duration::from_millis(500));
        // A lease would be seen only if a claim were committed alone.
        match request.lease(Duration::from_millis(50)).claim_in(&mut tx)? {
            BeginIn::Lead(lead) => {
                self.fate.pass(Point::Claimed);
                insert(&mut tx, &self.key, &self.value);
                self.fate.pass(Point::RowWritten);
                let done = lead.complete_in(&mut tx, response(&self.value))?;
                self.fate.pass(Point::ResponseWritten);
                let fate = Arc::clone(self.fate);
                done.commit(Witnessed { tx, fate, lost: self.lost })?;
                self.fate.pass(Point::AfterCommit);
                Ok(true)
            }
            BeginIn::Shared(_) | BeginIn::Replayed(_) => Ok(false),
            BeginIn::Bypass => unreachable!("nobody declines"),
        }
    }
}

/// A transaction whose process may die before it hears of the commit, or never hears of it.
struct Witnessed<T> {
    tx: T,
    fate: Arc<Fate<Point>>,
    lost: Option<Lost>,
}

impl<T: Transaction> Transaction for Witnessed<T> {
    type Store = T::Store;

    fn claim(
        &mut self,
        store: &T::Store,
        key: &RecordKey,
        claim: &Claim<'_>,
    ) -> Result<Claimed, Error> {
        self.tx.claim(store, key, claim)
    }

    fn complete(
        &mut self,
        store: &T::Store,
        key: &RecordKey,
        held: Held,
        response: &onceflight::store::Response,
        ttl: Duration,
    ) -> Result<Settled, Error> {
        self.tx.complete(store, key, held, response, ttl)
    }

    fn commit(self) -> Result<(), Error> {
        if self.lost == Some(Lost::RolledBack) {
            drop(self.tx);
        } else {
            self.tx.commit()?;
            self.fate.pass(Point::Committed);
        }
        if self.lost.is_some() { Err(Error::store("the answer was lost")) } else { Ok(()) }
    }
}

fn killed_anywhere(place: &Place) {
    if let Some(task) = worker::task() {
        return work(place, &task);
    }
    let mut bank = bank(place);
    bank.set_up();
    let kills = kill_many(place, seed(), &POINTS);
    let table = place.table(|table| table);
    let keys = table.list(None, usize::MAX).expect("the store");
    for record in &keys {
        assert_eq!(record.state, RecordState::Completed, "a transaction committed half");
    }
    let rows = bank.all();
    for (key, value) in &rows {
        assert_eq!(table.begin(key).response().data(), value.as_bytes(), "{key}");
    }
    assert_eq!(keys.len(), rows.len(), "one row a key, and one key a row");
    println!("{}: {kills} kills, {} keys paid", place.store, rows.len());
    assert!(!rows.is_empty(), "nobody paid: no proof");
}

fn work(place: &Place, task: &Task<Point>) {
    let (fate, mut random) = (Arc::new(task.fate()), Random(task.seed));
    let (table, mut bank) = (place.table(|table| table), bank(place));
    task.go_through_keys(&mut random, |number, random| {
        let (key, value) = (format!("key {number}"), random.next().to_string());
        let payer = Payer { table: &table, fate: &fate, key, value, lost: None };
        let paid = bank.pay(&payer);
        let kind = paid.as_ref().err().map(Error::kind);
        assert!(matches!(kind, None | Some(ErrorKind::Timeout | ErrorKind::Store)), "{paid:?}");
        paid.is_ok()
    });
}

/// What the database did counts, not what was heard of it.
fn lost_answers(place: &Place) {
    let mut bank = bank(place);
    bank.set_up();
    let table = place.table(|table| table);
    let fate = Arc::new(Fate::none());
    let payer = |key: &str, lost| {
        let (key, value) = (key.into(), format!("paid for {key}"));
        Payer { table: &table, fate: &fate, key, value, lost }
    };
    assert_eq!(bank.pay(&payer("committed", Some(Lost::Committed))), Ok(true));
    let paid = |key: &str| (key.to_string(), format!("paid for {key}"));
    assert_eq!(bank.all(), [paid("committed")]);
    assert_eq!(bank.pay(&payer("committed", None)), Ok(false));
    assert_eq!(table.begin("committed").response().data(), b"paid for committed");

    let error = bank.pay(&payer("rolled back", Some(Lost::RolledBack))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert_eq!(bank.all(), [paid("committed")]);
    assert_eq!(bank.pay(&payer("rolled back", None)), Ok(true));
    assert_eq!(bank.all(), [paid("committed"), paid("rolled back")]);
}

/// A process is killed that has claimed and written: the next one finds nothing of it, and goes on.
fn a_killed_transaction_holds_nobody_up(place: &Place) {
    if worker::task::<()>().is_some() {
        let mut bank = bank(place);
        let table = place.table(|table| table);
        let fate = Arc::new(Fate::new(Point::ResponseWritten, 1));
        let (key, value) = ("k".into(), "lost".into());
        let payer = Payer { table: &table, fate: &fate, key, value, lost: None };
        let _ = bank.pay(&payer);
        unreachable!("it dies");
    }
    let mut bank = bank(place);
    bank.set_up();
    Worker::start(place, ()).bury();
    let table = place.table(|table| table);
    assert!(bank.all().is_empty());
    let fate = Arc::new(Fate::none());
    let (key, value) = ("k".into(), "kept".into());
    let payer = Payer { table: &table, fate: &fate, key, value, lost: None };
    // A server may notice only in time that its client is dead.
    eventually("the end of the dead one's transaction", || bank.pay(&payer).ok());
    assert_eq!(bank.all(), [("k".into(), "kept".into())]);
    match table.begin_timeout("k", PATIENCE) {
        Ok(Begin::Replayed(response)) => assert_eq!(response.data(), b"kept"),
        other => panic!("{other:?}"),
    }
}

mod in_sqlite {
    use onceflight::Error;
    use rusqlite::{Connection, TransactionBehavior, params};

    use super::{PATIENCE, Payer, Place};

    pub struct Bank(Connection);

    impl Bank {
        pub fn open(place: &Place) -> Self {
            let connection = Connection::open(place.file()).expect("a file");
            connection.busy_timeout(PATIENCE).expect("a setting");
            Self(connection)
        }
    }

    impl super::Bank for Bank {
        fn set_up(&mut self) {
            self.0.execute_batch("CREATE TABLE paid (key TEXT, value TEXT)").expect("a table");
        }

        fn pay(&mut self, payer: &Payer<'_>) -> Result<bool, Error> {
            let tx = self.0.transaction_with_behavior(TransactionBehavior::Immediate);
            payer.pay(tx.expect("a transaction"), |tx, key, value| {
                tx.execute("INSERT INTO paid VALUES (?1, ?2)", params![key, value]).expect("a row");
            })
        }

        fn all(&mut self) -> Vec<(String, String)> {
            let mut all = self.0.prepare("SELECT key, value FROM paid").expect("a statement");
            let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
            rows.collect::<Result<_, _>>().expect("text")
        }
    }
}

#[cfg(feature = "postgres")]
mod in_postgres {
    use onceflight::Error;
    use postgres::{Client, NoTls};

    use super::{Payer, Place};

    pub struct Bank {
        client: Client,
        /// Of this test.
        paid: String,
    }

    impl Bank {
        pub fn open(place: &Place) -> Self {
            let client = Client::connect(&place.url, NoTls).expect("a server");
            Self { client, paid: format!("\"paid {}\"", place.scope) }
        }
    }

    impl super::Bank for Bank {
        fn set_up(&mut self) {
            let columns = "number SERIAL, key TEXT, value TEXT";
            let create = format!("CREATE TABLE {} ({columns})", self.paid);
            self.client.batch_execute(&create).expect("a table");
        }

        fn pay(&mut self, payer: &Payer<'_>) -> Result<bool, Error> {
            let insert = format!("INSERT INTO {} (key, value) VALUES ($1, $2)", self.paid);
            payer.pay(self.client.transaction().expect("a transaction"), |tx, key, value| {
                tx.execute(&insert, &[&key, &value]).expect("a row");
            })
        }

        fn all(&mut self) -> Vec<(String, String)> {
            let select = format!("SELECT key, value FROM {} ORDER BY number", self.paid);
            let rows = self.client.query(&select, &[]).expect("rows");
            rows.iter().map(|row| (row.get(0), row.get(1))).collect()
        }
    }
}
