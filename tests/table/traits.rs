//! What can be sent, shared, printed and turned into what. Most of it is held by the compiler.

use std::rc::Rc;
use std::sync::Arc;

use onceflight::{
    Begin, DedupTable, Error, ErrorKind, Follower, Lead, Outcome, Role, Stats, TryBegin,
};

use crate::support::*;

const fn send<T: Send>() {}
const fn sync<T: Sync>() {}

type Shared = DedupTable<String, Arc<[u8]>>;

const _: () = {
    send::<Shared>();
    sync::<Shared>();
    send::<Lead<'static, String, u64>>();
    sync::<Lead<'static, String, u64>>();
    send::<Follower<'static, String, u64>>();
    send::<Begin<'static, String, u64>>();
    send::<TryBegin<'static, String, u64>>();
    send::<Outcome<u64>>();
    send::<Error>();
    sync::<Error>();
    send::<Stats>();
};

#[test]
fn an_error_is_one() {
    let table = Table::new();
    table.close();
    let error = table.begin("k").map(drop).unwrap_err();
    let copy = error.clone();
    let dynamic: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
    assert_eq!(copy.to_string(), dynamic.to_string());
    assert_eq!((ErrorKind::Closed, "closed"), (copy.kind(), &*copy.to_string()));
}

#[test]
fn a_lead_settles_on_another_thread() {
    let table = Table::builder().completed_ttl(LONG).build();
    let lead = table.begin("k").lead();
    std::thread::scope(|scope| {
        scope.spawn(move || lead.complete(1).unwrap());
    });
    assert_eq!(1, table.begin("k").replayed());
}

#[test]
fn work_may_borrow_and_need_not_be_send() {
    let table = Table::new();
    let local = Rc::new(5);
    assert_eq!(5, table.run("k", || *local).unwrap().value);
}

#[test]
fn keys_of_many_kinds() {
    let by_str: DedupTable<Arc<str>, u64> = DedupTable::new();
    assert_eq!(Role::Led, by_str.run("k", || 1).unwrap().role);
    let by_bytes: DedupTable<Vec<u8>, u64> = DedupTable::new();
    assert_eq!(Role::Led, by_bytes.run(&b"k"[..], || 1).unwrap().role);
    let by_pair: DedupTable<(u32, String), u64> = DedupTable::new();
    assert_eq!(Role::Led, by_pair.run(&(1, "k".into()), || 1).unwrap().role);
    let by_nothing: DedupTable<(), u64> = DedupTable::default();
    assert_eq!(Role::Led, by_nothing.run(&(), || 1).unwrap().role);
}

#[test]
fn keys_are_compared_whole_not_by_their_hash() {
    let table: DedupTable<u64, u64, OneShard> =
        DedupTable::builder().completed_ttl(LONG).hasher(OneShard).build();
    for key in 0..100 {
        assert_eq!((key, Role::Led), {
            let outcome = table.run(&key, || key).unwrap();
            (outcome.value, outcome.role)
        });
    }
    for key in 0..100 {
        assert_eq!(key, table.run(&key, || unreachable!()).unwrap().value);
    }
}

#[test]
fn a_response_is_one_value_shared_by_all() {
    let table: DedupTable<String, Arc<Vec<u8>>> = DedupTable::builder().completed_ttl(LONG).build();
    let value = Arc::new(vec![0; 1 << 20]);
    let lead = table.begin("k").lead();
    let mut waiting = follower(table.try_begin("k"));
    lead.complete(Arc::clone(&value)).unwrap();
    assert!(Arc::ptr_eq(&value, &waiting.wait_timeout(PATIENCE).shared()));
    assert!(Arc::ptr_eq(&value, &table.begin("k").replayed()));
}

#[test]
fn everything_prints() {
    let table = Table::new();
    let lead = table.begin("k").lead();
    let waiting = follower(table.try_begin("k"));
    assert!(format!("{table:?}").contains("in_flight: 1"));
    assert!(format!("{lead:?}").contains("attempt: 1"));
    assert!(format!("{waiting:?}").contains("Follower"));
    assert!(format!("{:?}", Table::builder()).contains("Builder"));
    assert!(format!("{:?}", table.request("k")).contains("Request"));
    lead.complete(1).unwrap();
}
