//! What a handler finds, and may do with its request.

use std::cell::Cell;
#[cfg(feature = "sqlite")]
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Uri};
use onceflight::http::{Builder, Execution, Idempotency, Requirement};
use onceflight::store::{MemoryStore, RecordKey};
use onceflight::{Error, ErrorKind, IdempotencyTable};

#[cfg(feature = "sqlite")]
use crate::support::Dir;
use crate::support::{answer, execution, problem, request};

fn over_memory(rules: Builder) -> Idempotency {
    rules.over(IdempotencyTable::over(Arc::new(MemoryStore::new())).unwrap())
}

/// What a request is known by is decided before the handler has it.
#[test]
fn item_15_a_handler_may_change_its_request() {
    let idempotency = over_memory(Idempotency::builder());
    let first = idempotency.handle(request("k", "100"), |mut request| {
        let headers = request.headers_mut();
        headers.insert("idempotency-key", HeaderValue::from_static("\"another\""));
        headers.insert("authorization", HeaderValue::from_static("another"));
        *request.uri_mut() = Uri::from_static("/another?way");
        *request.body_mut() = "900";
        answer(201)
    });
    assert_eq!(first.status(), 201);
    let again = idempotency.handle(request("k", "100"), |_| unreachable!("executed before"));
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(idempotency.handle(request("k", "900"), |_| answer(201)).status(), 422);
    let other = idempotency.handle(request("another", "900"), |_| answer(202));
    assert_eq!(other.status(), 202, "a key that nobody has sent");
}

/// For the server's log: the client is told less.
#[test]
fn what_the_store_failed_with_is_in_the_response() {
    let idempotency = over_memory(Idempotency::builder());
    let overtaken = idempotency.handle(request("k", ""), |_| {
        let scope = idempotency.scope_of(&request("k", ""));
        let store = idempotency.table().store();
        let key = RecordKey::new(scope.as_bytes(), "k").unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        assert_eq!(store.evict(&key, soon), Ok(true));
        answer(201)
    });
    assert_eq!(overtaken.status(), 201, "it was executed");
    assert_eq!(overtaken.extensions().get::<Error>().map(Error::kind), Some(ErrorKind::Stale));

    idempotency.table().close();
    let refused = idempotency.handle(request("k", ""), |_| unreachable!("refused"));
    assert_eq!((refused.status().as_u16(), &*problem(&refused)), (503, "unavailable"));
    assert_eq!(refused.extensions().get::<Error>().map(Error::kind), Some(ErrorKind::Closed));
}

fn disabled(rules: Builder) -> Idempotency {
    over_memory(rules.disabled(true))
}

#[test]
fn item_49_disabled_keys_refuse_nothing_and_keep_nothing() {
    let idempotency = disabled(Idempotency::builder().max_request(3));
    let executed = Cell::new(0);
    let requests = [
        request("k", "100"),
        request("k", "100"),
        request("k", "900"),
        request("k", "longer than 3"),
        Request::post("/pay").body("without a key").unwrap(),
        Request::post("/pay").header("idempotency-key", "no key").body("").unwrap(),
    ];
    let sent = requests.len();
    for request in requests {
        let response = idempotency.handle(request, |request| {
            executed.set(executed.get() + 1);
            execution(&request).set_checkpoint(b"kept nowhere").unwrap();
            answer(201)
        });
        assert_eq!(response.status(), 201);
        assert!(!response.headers().contains_key("idempotent-replayed"));
    }
    assert_eq!(executed.get(), sent);
    assert_eq!(idempotency.table().stats().leads, 0, "the store wasn't asked");
    assert_eq!(idempotency.identify(&request("k", "100")), Ok(None));
}

/// A handler that expects an execution finds one: of its key, or of one that is nobody else's.
#[test]
fn item_49_a_handler_finds_what_it_expects() {
    let idempotency = disabled(Idempotency::builder());
    let find = |request: Request<&'static str>| {
        let mut found = None;
        idempotency.handle(request, |request| {
            found = request.extensions().get::<Execution>().cloned();
            answer(500)
        });
        found
    };
    let expected = |request| find(request).expect("an execution");
    let bare = |method| Request::builder().method(method).uri("/pay").body("").unwrap();
    let executions = [
        expected(request("k", "")),
        expected(request("k", "")),
        expected(bare("POST")),
        expected(bare("POST")),
    ];
    for execution in &executions {
        assert_eq!((execution.attempt, &execution.checkpoint), (1, &None));
    }
    assert!(executions.is_sorted_by(|one, next| one.fence < next.fence));
    assert_eq!((&*executions[0].key, &*executions[1].key), ("k", "k"));
    assert!(!executions[2].key.is_empty() && executions[2].key != executions[3].key);
    // Where none is expected there is none.
    for method in ["GET", "PUT", "DELETE"] {
        assert!(find(bare(method)).is_none(), "{method}");
    }
}

#[test]
fn item_49_a_success_is_told_as_at_first() {
    let idempotency = disabled(Idempotency::builder().created_then_ok());
    for _ in 0..2 {
        assert_eq!(idempotency.handle(request("k", ""), |_| answer(202)).status(), 201);
    }
    let get = Request::get("/").body("").unwrap();
    assert_eq!(idempotency.handle(get, |_| answer(202)).status(), 202);
    let off = disabled(Idempotency::builder().require(|_, _| Requirement::Off));
    off.handle(request("k", ""), |request| {
        assert!(request.extensions().get::<Execution>().is_none());
        answer(201)
    });
}

/// Though the store can't be told that the key is given up.
#[test]
#[cfg(feature = "sqlite")]
fn item_37_a_panic_goes_on_as_it_was() {
    let dir = Dir::new("handlers-panic");
    let path = dir.0.join("records.db");
    let table = IdempotencyTable::builder().store_timeout(Duration::from_millis(50));
    let table = table.open(&format!("sqlite:{}", path.display())).unwrap();
    let idempotency = Idempotency::new(table);
    let locker = rusqlite::Connection::open(&path).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        idempotency.handle(request("k", "100"), |_| {
            locker.execute_batch("BEGIN IMMEDIATE").unwrap();
            panic_any("the handler's own words")
        })
    }));
    let told = panicked.expect_err("a panic");
    assert_eq!(told.downcast_ref(), Some(&"the handler's own words"));
    locker.execute_batch("ROLLBACK").unwrap();
    // The next one knows of it, whether or not the store has been told by now.
    let next = idempotency.handle(request("k", "100"), |request| {
        assert_eq!(execution(&request).attempt, 2);
        answer(201)
    });
    assert_eq!(next.status(), 201);
}
