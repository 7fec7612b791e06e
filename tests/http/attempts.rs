//! What the key remembers of attempts that came to nothing.

use std::sync::{Arc, Mutex};

use onceflight::IdempotencyTable;
use onceflight::http::Idempotency;
use onceflight::store::MemoryStore;

use crate::support::{answer, execution, request};

/// 500: it may have been executed. 503 of the attempt after it: that one wasn't. The third must know of the first.
#[test]
fn a_lost_attempt_isnt_forgotten_by_one_that_did_nothing() {
    let table = IdempotencyTable::over(Arc::new(MemoryStore::new())).unwrap();
    let idempotency = Idempotency::new(table);
    let attempts = Mutex::new(Vec::new());
    for status in [500, 503, 201] {
        idempotency.handle(request("k", "100 cents"), |request| {
            attempts.lock().unwrap().push(execution(&request).attempt);
            answer(status)
        });
    }
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3]);
}

#[test]
fn a_lost_attempt_binds_its_payload() {
    let table = IdempotencyTable::over(Arc::new(MemoryStore::new())).unwrap();
    let idempotency = Idempotency::new(table);
    idempotency.handle(request("k", "100 cents"), |_| answer(500));
    assert_eq!(idempotency.handle(request("k", "900 cents"), |_| answer(201)).status(), 422);
    idempotency.handle(request("k", "100 cents"), |_| answer(429));
    assert_eq!(idempotency.handle(request("k", "900 cents"), |_| answer(201)).status(), 422);
}

#[test]
fn a_key_too_long_for_the_table_isnt_the_stores_fault() {
    let table =
        IdempotencyTable::builder().max_key_len(16).over(Arc::new(MemoryStore::new())).unwrap();
    let idempotency = Idempotency::new(table);
    let had = idempotency.handle(request("0123456789abcdef0", ""), |_| answer(201));
    assert_eq!(had.status(), 400, "{}", String::from_utf8_lossy(had.body()));
}
