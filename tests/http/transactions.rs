//! A handler's rows and its request's record in one transaction: `handle_in`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use onceflight::http::{Builder, Idempotency};
use onceflight::{Error, ErrorKind, IdempotencyTable};
use rusqlite::{Connection, Transaction};

use crate::support::{Dir, answer, execution, problem, request};

/// Payments to accounts, which have to be there at the commit.
const SCHEMA: &str = "
    CREATE TABLE accounts (name TEXT PRIMARY KEY);
    CREATE TABLE paid (payee TEXT REFERENCES accounts DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO accounts VALUES ('ada')";

struct Bank {
    idempotency: Idempotency,
    dir: Dir,
}

impl Bank {
    fn new(name: &str, rules: Builder) -> Self {
        let dir = Dir::new(&format!("transactions-{name}"));
        let url = format!("sqlite:{}", dir.0.join("bank.db").display());
        let table = IdempotencyTable::builder().max_response_len(100).open(&url).unwrap();
        let bank = Self { idempotency: rules.over(table), dir };
        bank.connect().execute_batch(SCHEMA).unwrap();
        bank
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.dir.0.join("bank.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection
    }

    fn handle(
        &self,
        request: Request<&'static str>,
        handler: impl FnOnce(Request<&'static str>, &mut Transaction<'_>) -> Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        let mut connection = self.connect();
        let tx = connection.transaction().unwrap();
        self.idempotency.handle_in(request, tx, handler)
    }

    /// Pays somebody, and answers with that status.
    fn pay(&self, request: Request<&'static str>, payee: &str, status: u16) -> Response<Vec<u8>> {
        self.handle(request, |_, tx| {
            tx.execute("INSERT INTO paid VALUES (?1)", [payee]).unwrap();
            answer(status)
        })
    }

    fn paid(&self) -> u32 {
        self.connect().query_row("SELECT count(*) FROM paid", [], |row| row.get(0)).unwrap()
    }
}

fn replayed(response: &Response<Vec<u8>>) -> bool {
    response.headers().contains_key("idempotent-replayed")
}

#[test]
fn a_payment_and_its_response_are_both_there() {
    let bank = Bank::new("both", Idempotency::builder());
    let pay = || bank.pay(request("k", "100"), "ada", 201);
    let (first, again) = (pay(), pay());
    assert_eq!((first.status().as_u16(), replayed(&first)), (201, false));
    assert_eq!((again.status().as_u16(), replayed(&again)), (201, true));
    assert_eq!(first.body(), again.body());
    assert_eq!(bank.pay(request("k", "900"), "ada", 201).status(), 422);
    assert_eq!(bank.pay(Request::post("/pay").body("100").unwrap(), "ada", 201).status(), 400);
    assert_eq!(bank.paid(), 1);
}

#[test]
fn of_many_at_once_one_pays() {
    let bank = Bank::new("many", Idempotency::builder().wait(Duration::from_secs(60)));
    let barrier = Barrier::new(16);
    let firsts = thread::scope(|scope| {
        let pay = || {
            barrier.wait();
            let response = bank.pay(request("k", "100"), "ada", 201);
            assert_eq!(response.status(), 201);
            u32::from(!replayed(&response))
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(pay)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
    });
    assert_eq!((firsts, bank.paid()), (1, 1));
}

/// By the status, whatever was written by then: the key is as free as it was, for another payload too.
#[test]
fn item_47_an_answer_that_isnt_kept_rolls_back() {
    let bank = Bank::new("status", Idempotency::builder());
    for status in [401, 429, 500, 502, 503] {
        let key = status.to_string();
        for payload in ["100", "900"] {
            let response = bank.pay(request(&key, payload), "ada", status);
            assert_eq!((response.status().as_u16(), replayed(&response)), (status, false));
        }
        assert_eq!(bank.paid(), 0);
        let attempt = bank.handle(request(&key, "100"), |request, _| {
            assert_eq!(execution(&request).attempt, 1, "{status}");
            answer(404)
        });
        assert_eq!(attempt.status(), 404, "kept, though nothing was written");
        assert!(replayed(&bank.pay(request(&key, "100"), "ada", 201)));
    }
    assert_eq!(bank.paid(), 0);
}

#[test]
fn item_47_a_panic_rolls_back() {
    let bank = Bank::new("panic", Idempotency::builder());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        bank.handle(request("k", "100"), |_, tx| {
            tx.execute("INSERT INTO paid VALUES ('ada')", []).unwrap();
            panic!("before the commit")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(bank.paid(), 0);
    assert_eq!(bank.pay(request("k", "100"), "ada", 201).status(), 201);
    assert_eq!(bank.paid(), 1);
}

/// Nobody is told of a payment that isn't there.
#[test]
fn a_commit_that_fails_is_no_success() {
    let bank = Bank::new("commit", Idempotency::builder());
    let refused = bank.pay(request("k", "100"), "eve", 201);
    assert_eq!((refused.status().as_u16(), &*problem(&refused)), (503, "commit-failed"));
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.extensions().get::<Error>().map(Error::kind), Some(ErrorKind::Store));
    assert_eq!(bank.paid(), 0);
    let retry = bank.pay(request("k", "100"), "ada", 201);
    assert_eq!((retry.status().as_u16(), replayed(&retry), bank.paid()), (201, false, 1));
}

#[test]
fn a_response_too_large_to_keep_is_told_with_its_status() {
    let bank = Bank::new("large", Idempotency::builder());
    let pay = || {
        bank.handle(request("k", "100"), |_, tx| {
            tx.execute("INSERT INTO paid VALUES ('ada')", []).unwrap();
            answer(202).map(|_| vec![0; 101])
        })
    };
    assert_eq!(pay().body().len(), 101);
    let again = pay();
    assert_eq!((again.status().as_u16(), &*problem(&again)), (409, "response-not-kept"));
    assert_eq!(bank.paid(), 1);
}

#[test]
fn a_success_is_created_and_then_ok() {
    let bank = Bank::new("created", Idempotency::builder().created_then_ok());
    let pay = || bank.pay(request("k", "100"), "ada", 202).status().as_u16();
    assert_eq!((pay(), pay()), (201, 200));
}

#[test]
fn without_a_key_it_is_one_transaction_too() {
    let bank = Bank::new("unkeyed", Idempotency::builder());
    let put = || Request::put("/pay").body("100").unwrap();
    assert_eq!(bank.pay(put(), "ada", 500).status(), 500);
    assert_eq!(bank.paid(), 0);
    assert_eq!(bank.pay(put(), "eve", 201).status(), 503);
    assert_eq!(bank.paid(), 0);
    assert_eq!(bank.pay(put(), "ada", 201).status(), 201);
    assert_eq!(bank.paid(), 1);
}

#[test]
fn item_49_disabled_keys_leave_the_transaction() {
    let bank = Bank::new("disabled", Idempotency::builder().disabled(true));
    for status in [201, 201, 500] {
        let response = bank.handle(request("k", "100"), |request, tx| {
            assert_eq!(execution(&request).attempt, 1);
            tx.execute("INSERT INTO paid VALUES ('ada')", []).unwrap();
            answer(status)
        });
        assert_eq!((response.status().as_u16(), replayed(&response)), (status, false));
    }
    assert_eq!(bank.paid(), 2);
}

/// What is lost leaves nothing: there is nobody to leave it for.
#[test]
fn a_transaction_takes_no_checkpoint() {
    let bank = Bank::new("checkpoint", Idempotency::builder());
    let response = bank.handle(request("k", "100"), |request, _| {
        let told = execution(&request).set_checkpoint(b"charged").unwrap_err();
        assert_eq!(told.kind(), ErrorKind::Invalid);
        answer(201)
    });
    assert_eq!(response.status(), 201);
}

#[test]
fn a_request_that_waits_for_itself_is_told_so() {
    let bank = Bank::new("itself", Idempotency::builder());
    bank.handle(request("k", "100"), |_, _| {
        let inner = bank.pay(request("k", "100"), "ada", 201);
        assert_eq!((inner.status().as_u16(), &*problem(&inner)), (409, "in-progress"));
        let error = inner.extensions().get::<Error>().map(Error::kind);
        assert_eq!(error, Some(ErrorKind::WouldDeadlock));
        answer(201)
    });
}
