//! Same-transaction mode of Postgres: the record and the caller's rows, together or not at all (#47).

use std::sync::mpsc;
use std::thread;

use onceflight::ErrorKind;
use onceflight::store::{
    Claim, Claimed, PostgresStatement, PostgresStore, RecordKey, Response, Settled, Store,
};
use postgres::{Client as Sql, Transaction};

use crate::harness::*;
use crate::postgres_server::Schema;

/// A table of the caller's beside those of the store.
struct Shop {
    schema: Schema,
    store: PostgresStore,
}

impl Shop {
    fn new() -> Self {
        let schema = Schema::new();
        schema.run("CREATE TABLE orders (name text)");
        let store = schema.open();
        Self { schema, store }
    }

    /// Orders, and answers with the number of orders there are then.
    fn order(&self, tx: &mut Transaction<'_>, claim: &Claim<'_>) {
        let claimed = self.store.claim_in(tx, &key(), claim).expect("a claim");
        let held = led(claim, claimed).held;
        tx.execute("INSERT INTO orders VALUES ('one')", &[]).expect("an order");
        let response = Response::new(201, b"ordered");
        let done = self.store.complete_in(tx, &key(), held, &response, LONG).expect("an answer");
        assert_eq!(done, Settled::Done);
    }

    fn orders(&self) -> i64 {
        self.schema.connect().query_one("SELECT count(*) FROM orders", &[]).expect("a row").get(0)
    }

    fn read(&self) -> bool {
        self.store.read(&key(), soon()).expect("an answer").is_some()
    }
}

fn key() -> RecordKey {
    RecordKey::new("shop", "order 1").expect("a short scope")
}

/// Waits until some session of this schema's is held up by another.
fn until_somebody_waits(schema: &Schema) {
    let mut sql = schema.connect();
    let waiting =
        "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    eventually("a session that waits", || {
        (!sql.query(waiting, &[&schema.name]).expect("rows").is_empty()).then_some(())
    });
}

/// Orders and holds the transaction open, until `end` has been called with it while a second caller waits
/// for it in its own transaction. Answers what the second was told.
fn meanwhile(shop: &Shop, end: impl FnOnce(&mut Sql, Transaction<'_>) + Send) -> Claimed {
    let (mut first, mut other) = (shop.schema.connect(), shop.schema.connect());
    let mut tx = first.transaction().expect("a transaction");
    shop.order(&mut tx, &claim());
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut sql = shop.schema.connect();
            let mut tx = sql.transaction().expect("a transaction");
            let claimed = shop.store.claim_in(&mut tx, &key(), &claim()).expect("a claim");
            tx.commit().expect("a commit");
            claimed
        });
        until_somebody_waits(&shop.schema);
        end(&mut other, tx);
        second.join().expect("no panic")
    })
}

#[test]
fn a_second_caller_waits_for_the_commit_and_gets_its_response() {
    let shop = Shop::new();
    let second = meanwhile(&shop, |_, tx| tx.commit().expect("a commit"));
    assert_eq!(completed(second).data(), b"ordered");
    assert_eq!(shop.orders(), 1);
    let other = shop.store.claim(&key(), &claim(), soon()).expect("a claim");
    assert_eq!(completed(other).status(), 201, "those who use no transaction see it too");
}

#[test]
fn after_a_rollback_nothing_is_left_and_the_second_leads() {
    let shop = Shop::new();
    let second = meanwhile(&shop, |_, tx| tx.rollback().expect("a rollback"));
    assert!(matches!(second, Claimed::Lead(grant) if grant.attempt == 1));
    assert_eq!(shop.orders(), 0);
}

#[test]
fn after_a_crash_nothing_is_left_and_the_second_leads() {
    let shop = Shop::new();
    let second = meanwhile(&shop, |other, mut tx| {
        let pid: i32 = tx.query_one("SELECT pg_backend_pid()", &[]).expect("a row").get(0);
        other.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("its end");
        assert!(tx.commit().is_err());
    });
    assert!(matches!(second, Claimed::Lead(grant) if grant.attempt == 1));
    assert_eq!(shop.orders(), 0);
}

#[test]
fn a_claim_without_a_transaction_waits_too() {
    let shop = Shop::new();
    let mut sql = shop.schema.connect();
    let mut tx = sql.transaction().expect("a transaction");
    shop.order(&mut tx, &claim());
    let claimed = thread::scope(|scope| {
        let second = scope.spawn(|| shop.store.claim(&key(), &claim(), soon()).expect("a claim"));
        until_somebody_waits(&shop.schema);
        tx.commit().expect("a commit");
        second.join().expect("no panic")
    });
    assert_eq!(completed(claimed).data(), b"ordered");
}

#[test]
fn lock_timeout_ends_the_wait() {
    let shop = Shop::new();
    let (mut one, mut two) = (shop.schema.connect(), shop.schema.connect());
    let mut first = one.transaction().expect("a transaction");
    shop.order(&mut first, &claim());
    let mut second = two.transaction().expect("a transaction");
    second.batch_execute("SET LOCAL lock_timeout = '20ms'").expect("a setting");
    let error = shop.store.claim_in(&mut second, &key(), &claim()).expect_err("its time is up");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[test]
fn a_release_within_the_transaction_leaves_the_callers_rows() {
    let shop = Shop::new();
    let mut sql = shop.schema.connect();
    let mut tx = sql.transaction().expect("a transaction");
    let claim = claim();
    let claimed = shop.store.claim_in(&mut tx, &key(), &claim).expect("a claim");
    tx.execute("INSERT INTO orders VALUES ('refused')", &[]).expect("a row");
    let held = led(&claim, claimed).held;
    let done = shop.store.release_in(&mut tx, &key(), held, CANCEL).expect("an answer");
    assert_eq!(done, Settled::Done);
    tx.commit().expect("a commit");
    assert_eq!((shop.orders(), shop.read()), (1, false));
}

#[test]
fn two_at_every_isolation_level_order_once() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let shop = Shop::new();
        let ordered = at_once(4, |_| {
            let mut sql = shop.schema.connect();
            loop {
                let mut tx = sql.transaction().expect("a transaction");
                tx.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {level}"))
                    .expect("a level");
                let claim = claim();
                let leads = match shop.store.claim_in(&mut tx, &key(), &claim) {
                    Ok(Claimed::Completed(_)) => return false,
                    Ok(claimed) => led(&claim, claimed),
                    Err(error) => {
                        // It came too late, and is to begin anew.
                        assert_eq!(error.kind(), ErrorKind::Store, "{level}: {error}");
                        continue;
                    }
                };
                tx.execute("INSERT INTO orders VALUES ('one')", &[]).expect("an order");
                let response = Response::new(201, b"ordered");
                let done = shop.store.complete_in(&mut tx, &key(), leads.held, &response, LONG);
                if done.is_ok() && tx.commit().is_ok() {
                    return true;
                }
            }
        });
        assert_eq!(ordered.iter().filter(|led| **led).count(), 1, "{level}");
        assert_eq!(shop.orders(), 1, "{level}");
    }
}

#[test]
fn a_completion_is_told_once_it_is_committed() {
    let shop = Shop::new();
    let first = claim();
    let led = led(&first, shop.store.claim(&key(), &first, soon()).expect("a claim"));
    let mut news = shop.store.listen(soon()).expect("news");
    let watching = Claim { watch: true, ..claim() };
    in_progress(shop.store.claim(&key(), &watching, soon()).expect("a claim"));
    let mut sql = shop.schema.connect();
    let mut tx = sql.transaction().expect("a transaction");
    let response = Response::new(200, b"done");
    let done =
        shop.store.complete_in(&mut tx, &key(), led.held, &response, LONG).expect("an answer");
    assert_eq!(done, Settled::Done);
    let (told, tell) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || news.wait(soon(), &mut |_| told.send(()).expect("a listener")));
        assert_eq!(tell.try_recv(), Err(mpsc::TryRecvError::Empty));
        tx.commit().expect("a commit");
        tell.recv_timeout(PATIENCE).expect("news");
    });
}

#[test]
fn a_refused_claim_writes_nothing() {
    let shop = Shop::new();
    let mut sql = shop.schema.connect();
    let mut tx = sql.transaction().expect("a transaction");
    shop.order(&mut tx, &claim());
    tx.commit().expect("a commit");
    let mut tx = sql.transaction().expect("a transaction");
    completed(shop.store.claim_in(&mut tx, &key(), &claim()).expect("a claim"));
    let other = Claim { fingerprint: Some(b"other"), ..claim() };
    mismatch(&shop.store.claim_in(&mut tx, &key(), &other).expect("a claim"));
    let wrote: bool = tx
        .query_one("SELECT pg_current_xact_id_if_assigned() IS NOT NULL", &[])
        .expect("a row")
        .get(0);
    assert!(!wrote, "who writes has a transaction id");
}

#[test]
fn the_texts_are_enough_for_other_languages() {
    let shop = Shop::new();
    let mut sql = shop.schema.connect();
    let text = shop.store.sql(PostgresStatement::Claim);
    let (id, token) = (key().id().0, [7_u8; 16]);
    let row = sql
        .query_one(
            text,
            &[
                &id.as_slice(),
                &key().scope(),
                &key().key(),
                &None::<&[u8]>,
                &token.as_slice(),
                &Some(1_000_000_i64),
                &None::<i64>,
                &true,
                &false,
                &None::<i64>,
            ],
        )
        .expect("a row");
    assert_eq!(row.get::<_, &str>("verdict"), "granted");
    let epoch: i64 = row.get("epoch");
    let text = shop.store.sql(PostgresStatement::Complete);
    let changed = sql
        .execute(
            text,
            &[&id.as_slice(), &token.as_slice(), &epoch, &7_i32, &b"x".as_slice(), &None::<i64>],
        )
        .expect("no error");
    assert_eq!(changed, 1);
    let same = Claim { fingerprint: None, ..claim() };
    let response = completed(shop.store.claim(&key(), &same, soon()).expect("a claim"));
    assert_eq!((response.status(), response.data()), (7, b"x".as_slice()));
}
