//! Expiry, and the order of use. Time is the log's: whoever calls says what it is.

use onceflight::ErrorKind::{Expired, SeqStale};
use onceflight::session::SessionRequest;

use crate::support::{A, B, Calls, add, kind, table, with};

#[test]
fn a_session_expires_when_its_timeout_has_passed_and_not_before() {
    for unused in [99, 100] {
        let mut table = with(|builder| builder.timeout_ms(100));
        let life = table.register(A, "n", 1000).unwrap();
        let expired = table.keep_alive(A, life, 1000 + unused).is_err();
        assert_eq!(unused == 100, expired);
    }
}

/// Every change does so first, whatever it is about.
#[test]
fn every_change_expires_before_it_does_anything() {
    let after = |change: fn(&mut onceflight::SessionTable, u64)| {
        let mut table = with(|builder| builder.timeout_ms(100));
        let life = table.register(A, "n", 0).unwrap();
        table.lead(&SessionRequest::new(A, life, 1), b"kept");
        change(&mut table, life);
        (table.names(), table.response_bytes())
    };
    let gone = (vec![], 0);
    assert_eq!(
        gone,
        after(|table, life| {
            let request = SessionRequest::new(A, life, 2);
            assert_eq!(Expired, kind(table.begin(&request, 100)));
        })
    );
    assert_eq!(
        gone,
        after(|table, life| {
            assert_eq!(Expired, kind(add(table, &SessionRequest::new(A, life, 2), 100, &mut 0)));
        })
    );
    assert_eq!(
        gone,
        after(|table, life| {
            assert_eq!(Expired, kind(table.keep_alive(A, life, 100)));
        })
    );
    assert_eq!(gone, after(|table, _| assert_eq!(1, table.expire(100).unwrap())));
    let b_alone = (vec!["b".to_owned()], 0);
    assert_eq!(b_alone, after(|table, _| assert_eq!(2, table.register(B, "n", 100).unwrap())));
    // The nonce of a session that has expired is no longer known.
    let a_anew = (vec!["a".to_owned()], 0);
    assert_eq!(a_anew, after(|table, _| assert_eq!(2, table.register(A, "n", 100).unwrap())));
    // An unregistration has no time.
    assert_eq!(gone, after(|table, _| table.unregister(A).unwrap()));
}

#[test]
fn every_use_keeps_a_session() {
    let keeps = |name: &str, use_it: fn(&mut onceflight::SessionTable, u64)| {
        let mut table = with(|builder| builder.timeout_ms(100));
        let life = table.register(A, "n", 0).unwrap();
        table.lead(&SessionRequest::new(A, life, 1), b"");
        table.lead(&SessionRequest::new(A, life, 2).ack(2), b"");
        use_it(&mut table, life);
        assert_eq!(0, table.expire(149).unwrap(), "{name}");
        assert_eq!(1, table.expire(150).unwrap(), "{name}");
    };
    keeps("a lead", |table, life| {
        add(table, &SessionRequest::new(A, life, 3), 50, &mut 0).unwrap();
    });
    keeps("a replay", |table, life| {
        assert!(add(table, &SessionRequest::new(A, life, 2), 50, &mut 0).unwrap().replayed);
    });
    keeps("a refusal", |table, life| {
        assert_eq!(SeqStale, kind(table.begin(&SessionRequest::new(A, life, 1), 50)));
    });
    keeps("a registration", |table, life| assert_eq!(life, table.register(A, "n", 50).unwrap()));
    keeps("a keep-alive", |table, life| table.keep_alive(A, life, 50).unwrap());
}

/// The clock of a new leader may be behind.
#[test]
fn time_never_goes_back() {
    let mut table = with(|builder| builder.timeout_ms(100));
    let life = table.register(A, "n", 1000).unwrap();
    table.keep_alive(A, life, 500).unwrap();
    assert_eq!((1000, 1000), (table.now_ms(), table.sessions().next().unwrap().last_used_ms));
    assert_eq!(0, table.expire(1099).unwrap());
    let late = table.register(B, "n", 0).unwrap();
    assert_eq!(1099, table.sessions().last().unwrap().last_used_ms);
    assert_eq!(1, table.expire(1100).unwrap());
    table.keep_alive(B, late, 0).unwrap();
    assert_eq!(Expired, kind(table.keep_alive(A, life, 0)));
}

/// Only those that are due go, and it is told how many.
#[test]
fn expire_ends_those_that_are_due_in_the_order_of_use() {
    let mut table = with(|builder| builder.timeout_ms(100));
    for (at, client) in (0..).zip([b"a", b"b", b"c", b"d", b"e"]) {
        table.register(client, "n", at * 10).unwrap();
    }
    table.keep_alive(A, 1, 45).unwrap();
    assert_eq!(0, table.expire(109).unwrap());
    assert_eq!(2, table.expire(120).unwrap());
    assert_eq!(["d", "e", "a"], *table.names());
    assert_eq!(1, table.expire(130).unwrap());
    assert_eq!(2, table.expire(10_000).unwrap());
    assert_eq!(0, table.expire(u64::MAX).unwrap());
}

/// What was due next has gone otherwise: nothing goes too early or too late.
#[test]
fn the_next_expiry_is_right_whoever_leaves() {
    let mut table = with(|builder| builder.timeout_ms(100));
    let life = table.register(A, "n", 0).unwrap();
    table.register(B, "n", 50).unwrap();
    table.unregister(A).unwrap();
    assert_eq!(0, table.expire(149).unwrap());
    assert_eq!(1, table.expire(150).unwrap());
    let next = table.register(A, "n", 200).unwrap();
    assert!(next > life);
    assert_eq!(0, table.expire(299).unwrap());
    assert_eq!(1, table.expire(300).unwrap());
}

#[test]
fn sessions_that_do_not_expire_do_not() {
    let mut table = with(|builder| builder.timeout_ms(u64::MAX));
    let life = table.register(A, "n", 7).unwrap();
    for now in [1 << 40, u64::MAX - 1, u64::MAX, u64::MAX] {
        assert_eq!(0, table.expire(now).unwrap());
        table.keep_alive(A, life, now).unwrap();
    }
    let mut table = onceflight::SessionTable::restore(&table.bytes()).unwrap();
    table.keep_alive(A, life, u64::MAX).unwrap();
}

/// One more than there is room for, and that whose use is the longest ago goes.
#[test]
fn the_least_recently_used_goes_first() {
    let mut table = with(|builder| builder.max_sessions(3));
    let a = table.life(A);
    let b = table.life(B);
    let c = table.life(b"c");
    add(&mut table, &SessionRequest::new(A, a, 1), 0, &mut 0).unwrap();
    assert_eq!(["b", "c", "a"], *table.names());
    table.life(b"d");
    assert_eq!(["c", "a", "d"], *table.names());
    assert_eq!(Expired, kind(table.keep_alive(B, b, 0)));
    // A refusal is a use, and so is a replay.
    table.refusal(&SessionRequest::new(b"c", c, 9));
    table.replay(&SessionRequest::new(A, a, 1));
    table.lead(&SessionRequest::implicit(b"e", 1), b"");
    assert_eq!(["c", "a", "e"], *table.names());
    // What a peek looks at, and what is refused as another's, isn't.
    table.peek(b"c", c, 1).unwrap();
    assert_eq!(Expired, table.refusal(&SessionRequest::new(b"c", c + 9, 1)));
    table.life(b"f");
    assert_eq!(["a", "e", "f"], *table.names());
}

/// Nobody goes for a client that comes again.
#[test]
fn another_life_needs_no_room() {
    let mut table = with(|builder| builder.max_sessions(2));
    table.life(A);
    table.life(B);
    table.register(A, "another", 0).unwrap();
    assert_eq!(["b", "a"], *table.names());
    table.life(b"c");
    assert_eq!(["a", "c"], *table.names());
}

#[test]
fn a_table_of_one_has_the_last_one() {
    let mut table = with(|builder| builder.max_sessions(1));
    for _ in 0..3 {
        table.lead(&SessionRequest::implicit(A, 1), b"a's");
        table.lead(&SessionRequest::implicit(B, 1), b"b's");
    }
    assert_eq!((1, 3), (table.len(), table.response_bytes()));
}

/// Slots of sessions that are gone are used again, and nothing of them shows.
#[test]
fn who_comes_after_another_has_a_window_of_its_own() {
    let mut table = table();
    for round in 0_u64..200 {
        let client = round.to_le_bytes();
        let life = table.life(&client);
        let request = SessionRequest::new(&client, life, 1);
        table.lead(&request, &client);
        assert_eq!(client, *table.replay(&request).data());
        if round >= 70 {
            table.unregister((round - 70).to_le_bytes()).unwrap();
        }
    }
    assert_eq!((70, 70 * 8), (table.len(), table.response_bytes()));
}
