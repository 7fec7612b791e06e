//! What an execution leaves for the next one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use onceflight::http::Idempotency;
use onceflight::store::Store;
use onceflight::{ErrorKind, IdempotencyTable};

use crate::support::{answer, execution, over_stores, request};

fn idempotency(store: &Arc<dyn Store>) -> Idempotency {
    Idempotency::new(IdempotencyTable::over(Arc::clone(store)).unwrap())
}

/// Sends a payment, and answers which attempt it was and what that found.
fn pay(idempotency: &Idempotency, key: &str) -> (u32, Option<Vec<u8>>) {
    let mut found = None;
    idempotency.handle(request(key, "100 cents"), |request| {
        let execution = execution(&request);
        found = Some((execution.attempt, execution.checkpoint));
        answer(201)
    });
    found.expect("executed")
}

#[test]
fn the_next_execution_finds_it_whatever_became_of_this_one() {
    over_stores("checkpoints-left", |store| {
        let idempotency = idempotency(store);
        // 503 says that nothing happened; what was left says otherwise.
        for status in [500, 503, 429] {
            let key = status.to_string();
            idempotency.handle(request(&key, "100 cents"), |request| {
                let execution = execution(&request);
                assert_eq!((execution.attempt, &execution.checkpoint), (1, &None));
                for data in ["reserved", "charged"] {
                    execution.set_checkpoint(data.as_bytes()).unwrap();
                }
                answer(status)
            });
            let other = idempotency.handle(request(&key, "900 cents"), |_| answer(201));
            assert_eq!(other.status(), 422, "{status}: bound to its payload");
            assert_eq!(pay(&idempotency, &key), (2, Some(b"charged".to_vec())), "{status}");
        }
    });
}

#[test]
fn a_panic_leaves_it_too() {
    over_stores("checkpoints-panic", |store| {
        let idempotency = idempotency(store);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            idempotency.handle(request("k", "100 cents"), |request| {
                execution(&request).set_checkpoint(b"charged").unwrap();
                panic!("after the charge")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(pay(&idempotency, "k"), (2, Some(b"charged".to_vec())));
    });
}

/// Left by a thread of the handler's, and refused once the request is answered.
#[test]
fn what_comes_after_the_answer_is_refused() {
    over_stores("checkpoints-late", |store| {
        for status in [201, 500, 503] {
            let idempotency = idempotency(store);
            let key = status.to_string();
            let mut late = None;
            idempotency.handle(request(&key, "100 cents"), |request| {
                let execution = execution(&request);
                let helper = execution.clone();
                std::thread::spawn(move || helper.set_checkpoint(b"charged"))
                    .join()
                    .unwrap()
                    .unwrap();
                late = Some(execution);
                answer(status)
            });
            let late = late.expect("executed");
            let told = late.set_checkpoint(b"late").unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Stale, "{status}");
            if status != 201 {
                assert_eq!(pay(&idempotency, &key), (2, Some(b"charged".to_vec())));
            }
            drop(idempotency);
            let told = late.set_checkpoint(b"later still").unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Stale, "{status}: without a table");
        }
    });
}

/// Another process took over: what the first one leaves now isn't the third one's to find.
#[test]
fn an_execution_that_was_overtaken_leaves_nothing() {
    const LEASE: Duration = Duration::from_millis(20);
    over_stores("checkpoints-overtaken", |store| {
        let mortal = IdempotencyTable::builder().lease(LEASE).heartbeat(false);
        let mortal = Idempotency::new(mortal.over(Arc::clone(store)).unwrap());
        let other = idempotency(store);
        mortal.handle(request("k", "100 cents"), |first| {
            let first = execution(&first);
            first.set_checkpoint(b"of the first").unwrap();
            other.handle(request("k", "100 cents"), |second| {
                let second = execution(&second);
                assert_eq!(
                    (second.attempt, second.checkpoint.as_deref()),
                    (2, Some(&b"of the first"[..]))
                );
                assert!(second.fence > first.fence);
                second.set_checkpoint(b"of the second").unwrap();
                let told = first.set_checkpoint(b"of the first, late").unwrap_err();
                assert_eq!(told.kind(), ErrorKind::Stale);
                answer(500)
            });
            answer(500)
        });
        assert_eq!(pay(&other, "k"), (3, Some(b"of the second".to_vec())));
    });
}

#[test]
fn one_that_is_too_large_is_refused() {
    over_stores("checkpoints-large", |store| {
        let table =
            IdempotencyTable::builder().max_response_len(10).over(Arc::clone(store)).unwrap();
        let idempotency = Idempotency::new(table);
        idempotency.handle(request("k", "100 cents"), |request| {
            let told = execution(&request).set_checkpoint(&[0; 11]).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::TooLarge);
            answer(500)
        });
        assert_eq!(pay(&idempotency, "k"), (2, None));
    });
}
