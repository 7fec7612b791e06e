//! What an operator can do with the record of a request: find it, see what became of it, let it go.

use std::cell::Cell;
use std::time::Duration;

use hyper::{Request, Response};
use onceflight::http::Idempotency;
use onceflight::store::{RecordKey, RecordState};
use onceflight::{IdempotencyTable, OnLeaseExpired};

fn request() -> Request<&'static str> {
    Request::post("/payments?to=ada")
        .header("idempotency-key", r#""4f2c81""#)
        .header("authorization", "Basic YWRhOg==")
        .body("100")
        .expect("a request")
}

/// By who called, what was called, and the key: the table and its scope.
#[test]
fn item_46_a_record_is_found_and_let_go() {
    let path = std::env::temp_dir().join(format!("onceflight-operators-{}", std::process::id()));
    let url = format!("sqlite:{}", path.display());
    let held = || {
        let table = IdempotencyTable::builder().on_lease_expired(OnLeaseExpired::Hold);
        Idempotency::new(table.open(&url).expect("a table"))
    };
    let idempotency = held();
    let executions = Cell::new(0);
    let ask = |status: u16| {
        let execute = |_| {
            executions.set(executions.get() + 1);
            Response::builder().status(status).body(Vec::new()).expect("a response")
        };
        idempotency.handle(request(), execute).status().as_u16()
    };
    assert_eq!((ask(500), ask(500)), (500, 409));

    // The operator's own table, elsewhere.
    let scope = held().scope_of(&request());
    let operator = IdempotencyTable::builder().scope(scope.as_bytes()).open(&url).expect("a table");
    let record = operator.look_up("4f2c81").expect("an answer").expect("a record");
    assert_eq!(record.state, RecordState::InProgress);
    assert_eq!(record.lease_left, Some(Duration::ZERO), "nobody leads it");
    let listed = operator.list(None, 10).expect("a list");
    let key = RecordKey::new(scope.as_bytes(), "4f2c81").expect("a short scope");
    assert_eq!(listed.iter().map(|it| it.key.id()).collect::<Vec<_>>(), [key.id()]);

    // Having found out that nothing happened, they let it go.
    assert_eq!(operator.evict("4f2c81"), Ok(true));
    assert_eq!((ask(201), ask(201), executions.get()), (201, 201, 2));
    assert_eq!(
        operator.look_up("4f2c81").expect("an answer").map(|it| it.state),
        Some(RecordState::Completed)
    );
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
}
