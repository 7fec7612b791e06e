use std::sync::Arc;
use std::time::Duration;

use onceflight::idempotency::Begin;
use onceflight::store::{MemoryStore, Response};
use onceflight::{ErrorKind, IdempotencyTable};

#[test]
fn a_completed_key_is_replayed_by_another_table() {
    let store = Arc::new(MemoryStore::new());
    let one = IdempotencyTable::over(store.clone()).unwrap();
    let two = IdempotencyTable::over(store).unwrap();
    let Begin::Lead(lead) = one.begin("k").unwrap() else { panic!("a vacant key") };
    assert_eq!(two.begin_timeout("k", Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| two.begin("k").unwrap().into_response());
        lead.complete(Response::new(7, b"done")).unwrap();
        let response = follower.join().unwrap();
        assert_eq!((response.status(), response.data()), (7, &b"done"[..]));
    });
    let Begin::Replayed(response) = two.begin("k").unwrap() else { panic!("completed") };
    assert_eq!(response.data(), b"done");
}

trait IntoResponse {
    fn into_response(self) -> Response;
}

impl IntoResponse for Begin<'_> {
    fn into_response(self) -> Response {
        match self {
            Begin::Shared(response) | Begin::Replayed(response) => response,
            other => panic!("{other:?}"),
        }
    }
}
