//! The record and the caller's own rows: both, or neither.

use rusqlite::{Connection, TransactionBehavior};

use onceflight::idempotency::BeginIn;
use onceflight::store::Response;
use onceflight::{ErrorKind, IdempotencyTable};

struct Ledger {
    path: std::path::PathBuf,
    _dir: Dir,
}

struct Dir(std::path::PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Ledger {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("onceflight-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("ledger.db");
        let ledger = Self { path, _dir: Dir(dir) };
        ledger.connect().execute_batch("CREATE TABLE paid (cents INTEGER)").unwrap();
        ledger
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
        connection
    }

    fn table(&self) -> IdempotencyTable {
        IdempotencyTable::open(&format!("sqlite:{}", self.path.display())).unwrap()
    }

    fn paid(&self) -> i64 {
        let count = "SELECT count(*) FROM paid";
        self.connect().query_row(count, [], |row| row.get(0)).unwrap()
    }
}

/// One request of a payment. Answers whether it led.
fn pay(ledger: &Ledger, table: &IdempotencyTable, key: &str) -> bool {
    let mut connection = ledger.connect();
    let mut tx = connection.transaction_with_behavior(TransactionBehavior::Deferred).unwrap();
    match table.request(key).claim_in(&mut tx).unwrap() {
        BeginIn::Lead(lead) => {
            tx.execute("INSERT INTO paid VALUES (100)", []).unwrap();
            let done = lead.complete_in(&mut tx, Response::new(201, b"paid")).unwrap();
            done.commit(tx).unwrap();
            true
        }
        BeginIn::Shared(response) | BeginIn::Replayed(response) => {
            assert_eq!((response.status(), response.data()), (201, &b"paid"[..]));
            false
        }
        BeginIn::Bypass => unreachable!("nobody declines"),
    }
}

#[test]
fn of_many_at_once_one_pays() {
    let ledger = Ledger::new("many");
    let tables = [ledger.table(), ledger.table()];
    let led: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let (ledger, table) = (&ledger, &tables[n % 2]);
                scope.spawn(move || usize::from(pay(ledger, table, "k")))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((led, ledger.paid()), (1, 1));
}

#[test]
fn a_rollback_leaves_neither_record_nor_row() {
    let ledger = Ledger::new("rollback");
    let table = ledger.table();
    let mut connection = ledger.connect();
    let mut tx = connection.transaction().unwrap();
    let BeginIn::Lead(lead) = table.request("k").claim_in(&mut tx).unwrap() else {
        panic!("a vacant key");
    };
    tx.execute("INSERT INTO paid VALUES (100)", []).unwrap();
    drop(lead.complete_in(&mut tx, Response::new(201, b"paid")).unwrap());
    drop(tx);
    assert_eq!(ledger.paid(), 0);
    assert!(table.look_up("k").unwrap().is_none());
    assert!(pay(&ledger, &table, "k"));
    assert_eq!(ledger.paid(), 1);
}

#[test]
fn a_key_in_progress_under_a_lease_is_no_transactions() {
    let ledger = Ledger::new("mixed");
    let table = ledger.table();
    let other = ledger.table();
    let lead = table.begin("k").unwrap();
    let mut connection = ledger.connect();
    let mut tx = connection.transaction().unwrap();
    let error = other.request("k").claim_in(&mut tx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(lead);
}

#[test]
fn a_transaction_of_another_store_is_refused() {
    let ledger = Ledger::new("other");
    let store = std::sync::Arc::new(onceflight::store::MemoryStore::new());
    let table = IdempotencyTable::over(store).unwrap();
    let mut connection = ledger.connect();
    let mut tx = connection.transaction().unwrap();
    let error = table.request("k").claim_in(&mut tx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
