//! `handle_in` on Postgres, where a statement that fails spoils its transaction, and a second claim waits for the first
//! one's commit.

use std::sync::Barrier;
use std::time::Duration;
use std::{env, process, thread};

use http::{Request, Response};
use onceflight::IdempotencyTable;
use onceflight::http::Idempotency;
use postgres::{Client, NoTls, Transaction};

use crate::support::{answer, problem, request};

/// A table of payments of its own, dropped in the end.
struct Bank {
    url: String,
    paid: String,
}

impl Bank {
    fn new() -> Self {
        let url =
            env::var("ONCEFLIGHT_TEST_POSTGRES").expect("run this under `scripts/servers.sh run`");
        let bank = Self { url, paid: format!("http_paid_{}", process::id()) };
        bank.run(&format!("CREATE TABLE {} (cents integer NOT NULL)", bank.paid));
        bank
    }

    /// One for each process.
    fn idempotency(&self) -> Idempotency {
        let rules = Idempotency::builder().wait(Duration::from_secs(60));
        rules.over(IdempotencyTable::open(&self.url).expect("a table"))
    }

    fn connect(&self) -> Client {
        Client::connect(&self.url, NoTls).expect("a connection")
    }

    fn run(&self, sql: &str) {
        self.connect().batch_execute(sql).expect("done");
    }

    fn paid(&self) -> i64 {
        let count = format!("SELECT count(*) FROM {}", self.paid);
        self.connect().query_one(&count, &[]).expect("a row").get(0)
    }

    /// Pays, and then does what the handler does.
    fn pay(
        &self,
        idempotency: &Idempotency,
        request: Request<&'static str>,
        then: impl FnOnce(&mut Transaction<'_>) -> Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        let mut connection = self.connect();
        let tx = connection.transaction().expect("a transaction");
        idempotency.handle_in(request, tx, |_, tx| {
            tx.batch_execute(&format!("INSERT INTO {} VALUES (100)", self.paid)).expect("a row");
            then(tx)
        })
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.run(&format!("DROP TABLE {}", self.paid));
    }
}

#[test]
fn one_transaction_on_postgres() {
    let bank = Bank::new();
    let processes = [bank.idempotency(), bank.idempotency()];
    let key = format!("{}-{}", bank.paid, "k");
    let send = || request(&key, "100");

    // Rolled back by its status; and by a failed statement that the handler thought nothing of.
    let failed = bank.pay(&processes[0], send(), |_| answer(500));
    assert_eq!((failed.status().as_u16(), bank.paid()), (500, 0));
    let spoiled = bank.pay(&processes[0], send(), |tx| {
        assert!(tx.batch_execute("SELECT 1 / 0").is_err());
        answer(201)
    });
    assert_eq!((spoiled.status().as_u16(), &*problem(&spoiled)), (503, "unavailable"));
    let unkeyed = Request::put("/pay").body("100").expect("a request");
    let spoiled = bank.pay(&processes[0], unkeyed, |tx| {
        assert!(tx.batch_execute("SELECT 1 / 0").is_err());
        answer(201)
    });
    assert_eq!((spoiled.status().as_u16(), &*problem(&spoiled)), (503, "commit-failed"));
    assert_eq!(bank.paid(), 0);

    let barrier = Barrier::new(8);
    let firsts = thread::scope(|scope| {
        let (bank, barrier, processes) = (&bank, &barrier, &processes);
        let pay = |process| {
            barrier.wait();
            let response = bank.pay(process, send(), |_| answer(201));
            assert_eq!(response.status(), 201);
            u32::from(!response.headers().contains_key("idempotent-replayed"))
        };
        let threads: Vec<_> =
            (0..8).map(|number| scope.spawn(move || pay(&processes[number % 2]))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<u32>()
    });
    assert_eq!((firsts, bank.paid()), (1, 1));
}
