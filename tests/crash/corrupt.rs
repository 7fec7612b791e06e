//! Records that somebody else has written to: an error, never a panic, an answer, or a lead.

use std::time::Duration;

use onceflight::{ErrorKind, IdempotencyTable};

use crate::harness::{Found, Place, on_every_store, response};

on_every_store!(spoiled_records_are_noticed);

/// A way to spoil a record: what is done, and how.
type Spoiling<'s> = (String, Box<dyn Fn(&str) + 's>);

/// Whatever is done to a completed record, and then to one in progress, is noticed. Evicted, its key
/// can be used again.
fn are_noticed(place: &Place, spoilings: Spoilings<'_>) {
    let table = place.table(|table| table.heartbeat(false));
    let other = place.table(|table| table.store_timeout(Duration::from_secs(5)));
    for (what, spoil) in spoilings.completed {
        let key = format!("completed, {what}");
        table.begin(&key).lead().complete(response("done")).unwrap();
        spoil(&key);
        assert_noticed(&other, &key);
        other.begin(&key).lead().complete(response("anew")).unwrap();
        assert_eq!(other.begin(&key).response(), response("anew"));
    }
    for (what, spoil) in spoilings.in_progress {
        let key = format!("in progress, {what}");
        let lead = table.begin(&key).lead();
        spoil(&key);
        assert_noticed(&other, &key);
        let refused = lead.complete(response("done")).expect_err("its record was evicted");
        assert_eq!(refused.error.kind(), ErrorKind::Stale, "{key}: {}", refused.error);
        other.begin(&key).lead().cancel().unwrap();
    }
}

fn assert_noticed(table: &IdempotencyTable, key: &str) {
    let error = match table.begin_timeout(key, Duration::ZERO) {
        Err(error) => error,
        Ok(begun) => panic!("{key}: {begun:?}"),
    };
    assert_eq!(error.kind(), ErrorKind::Store, "{key}: {error}");
    let error = table.look_up(key).expect_err(key);
    assert_eq!(error.kind(), ErrorKind::Store, "{key}: {error}");
    table.evict(key).unwrap_or_else(|error| panic!("{key}: {error}"));
}

/// What a store's records are made of: what spoils a completed one, and one in progress.
struct Spoilings<'s> {
    completed: Vec<Spoiling<'s>>,
    in_progress: Vec<Spoiling<'s>>,
}

fn spoiled_records_are_noticed(place: &Place) {
    let spoilings = match place.store {
        "sqlite" => in_sqlite::spoilings(place),
        #[cfg(feature = "redis")]
        "redis" | "redis_cluster" => in_redis::spoilings(place),
        #[cfg(feature = "postgres")]
        "postgres" => in_postgres::spoilings(place),
        #[cfg(feature = "memcached")]
        "memcached" => in_memcached::spoilings(place),
        other => unreachable!("{other}"),
    };
    are_noticed(place, spoilings);
}

mod in_sqlite {
    use std::rc::Rc;

    use onceflight::store::RecordKey;
    use rusqlite::{Connection, params};

    use super::{Spoiling, Spoilings};
    use crate::harness::Place;

    const OF_ANY: &[&str] = &[
        "state = 7",
        "token = x'00'",
        "token = zeroblob(17)",
        "boot = x''",
        "attempt = -1",
        "attempt = 1 << 40",
        "epoch = -5",
        "key = x'99'",
        "scope = x'99'",
    ];
    const OF_COMPLETED: &[&str] = &["body = NULL", "status = NULL", "status = 1 << 40"];
    const OF_IN_PROGRESS: &[&str] = &["state = 2"];

    pub fn spoilings(place: &Place) -> Spoilings<'_> {
        let file = Rc::new(Connection::open(place.file()).unwrap());
        // What SQLite would refuse to write, a disk can still read back.
        file.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
        let all = |of_these: &[&'static str]| {
            let changes = OF_ANY.iter().chain(of_these);
            changes.map(|change| spoiling(place, &file, change)).collect()
        };
        Spoilings { completed: all(OF_COMPLETED), in_progress: all(OF_IN_PROGRESS) }
    }

    fn spoiling<'s>(place: &'s Place, file: &Rc<Connection>, change: &'static str) -> Spoiling<'s> {
        let file = Rc::clone(file);
        let spoil = move |key: &str| {
            let update = format!("UPDATE onceflight_records SET {change} WHERE id = ?1");
            let id = RecordKey::new(&place.scope, key).unwrap().id();
            assert_eq!(file.execute(&update, params![id.0]).unwrap(), 1, "{change}");
        };
        (change.into(), Box::new(spoil))
    }
}

#[cfg(feature = "redis")]
mod in_redis {
    use std::cell::RefCell;
    use std::rc::Rc;

    use onceflight::store::RecordKey;

    use super::{Spoiling, Spoilings};
    use crate::harness::Place;

    /// With the record's name in place of `$`.
    const OF_ANY: &[&str] = &[
        "SETRANGE $ 0 3",         // the format
        "SETRANGE $ 1 X",         // the state
        "SETRANGE $ 2 7",         // whether somebody waits
        "SETRANGE $ 7 ~~~~",      // the lengths of its parts
        "SETRANGE $ 11 ~~~~",     //
        "SETRANGE $ 15 ~~~~",     //
        "SETRANGE $ 19 ~~~~~~~~", // the epoch
        "SETRANGE $ 63 ~~~~",     // whose it is
        "SETRANGE $ 67 ~~~~",     //
        "APPEND $ x",
        "SET $ text",
    ];
    const OF_COMPLETED: &[&str] = &["SETRANGE $ 15 \u{0}"];
    const OF_IN_PROGRESS: &[&str] = &["SETRANGE $ 1 C"];

    /// One to each server.
    type Connections = Rc<RefCell<Vec<redis::Connection>>>;

    pub fn spoilings(place: &Place) -> Spoilings<'_> {
        let (_, servers) = place.url.split_once("://").unwrap();
        let connect = |server: &str| {
            let client = redis::Client::open(format!("redis://{server}")).unwrap();
            client.get_connection().unwrap()
        };
        let servers = Rc::new(RefCell::new(servers.split(',').map(connect).collect()));
        let all = |of_these: &[&'static str]| {
            let commands = OF_ANY.iter().chain(of_these);
            commands.map(|command| spoiling(place, &servers, command)).collect()
        };
        Spoilings { completed: all(OF_COMPLETED), in_progress: all(OF_IN_PROGRESS) }
    }

    fn spoiling<'s>(place: &'s Place, to: &Connections, command: &'static str) -> Spoiling<'s> {
        let servers = Rc::clone(to);
        let spoil = move |key: &str| {
            let id = RecordKey::new(&place.scope, key).unwrap().id().to_string();
            let record = format!("onceflight:{{{}}}:{id}", &id[..2]);
            let mut request = redis::Cmd::new();
            for word in command.split(' ') {
                request.arg(if word == "$" { &record } else { word });
            }
            // In a cluster only one of them takes it.
            let done = |server: &mut redis::Connection| request.exec(server).is_ok();
            assert!(servers.borrow_mut().iter_mut().any(done), "nobody takes {command}");
        };
        (command.into(), Box::new(spoil))
    }
}

#[cfg(feature = "postgres")]
mod in_postgres {
    use std::cell::RefCell;
    use std::rc::Rc;

    use onceflight::store::RecordKey;
    use postgres::{Client, NoTls};

    use super::{Spoiling, Spoilings};
    use crate::harness::Place;

    const OF_ANY: &[&str] = &["state = 7", "key = '\\x99'", "scope = '\\x99'"];
    const OF_COMPLETED: &[&str] = &["body = NULL", "status = NULL"];
    const OF_IN_PROGRESS: &[&str] = &["state = 2", "epoch = -5"];

    pub fn spoilings(place: &Place) -> Spoilings<'_> {
        let client = Rc::new(RefCell::new(Client::connect(&place.url, NoTls).unwrap()));
        let all = |of_these: &[&'static str]| {
            let changes = OF_ANY.iter().chain(of_these);
            changes.map(|change| spoiling(place, &client, change)).collect()
        };
        Spoilings { completed: all(OF_COMPLETED), in_progress: all(OF_IN_PROGRESS) }
    }

    fn spoiling<'s>(
        place: &'s Place,
        client: &Rc<RefCell<Client>>,
        change: &'static str,
    ) -> Spoiling<'s> {
        let client = Rc::clone(client);
        let spoil = move |key: &str| {
            let update = format!("UPDATE onceflight_records SET {change} WHERE id = $1");
            let id = RecordKey::new(&place.scope, key).unwrap().id();
            let changed = client.borrow_mut().execute(&update, &[&id.0.as_slice()]).unwrap();
            assert_eq!(changed, 1, "{change}");
        };
        (change.into(), Box::new(spoil))
    }
}

#[cfg(feature = "memcached")]
mod in_memcached {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;

    use onceflight::store::RecordKey;

    use super::{Spoiling, Spoilings};
    use crate::harness::Place;

    type Change = fn(&mut Vec<u8>);

    const CHANGES: &[(&str, Change)] = &[
        ("nothing left", Vec::clear),
        ("half of it", |item| item.truncate(item.len() / 2)),
        ("the last byte cut off", |item| item.truncate(item.len() - 1)),
        ("a byte more", |item| item.push(0)),
        ("text", |item| *item = b"hello".to_vec()),
        ("another version", |item| item[0] = 2),
        ("a bit of the state", |item| item[1] ^= 1),
        ("a bit of the token", |item| item[2] ^= 1),
        ("a bit of the middle", |item| {
            let middle = item.len() / 2;
            item[middle] ^= 1;
        }),
    ];

    pub fn spoilings(place: &Place) -> Spoilings<'_> {
        let all = || CHANGES.iter().map(|(what, change)| spoiling(place, what, *change)).collect();
        Spoilings { completed: all(), in_progress: all() }
    }

    fn spoiling<'s>(place: &'s Place, what: &str, change: Change) -> Spoiling<'s> {
        let spoil = move |key: &str| {
            let id = RecordKey::new(&place.scope, key).unwrap().id();
            let (_, servers) = place.url.split_once("://").unwrap();
            let mut servers = servers.split(',').map(|server| TcpStream::connect(server).unwrap());
            let found = servers.find_map(|server| {
                let item = get(&server, &format!("onceflight:{id}"))?;
                Some((server, item))
            });
            let (mut server, mut item) = found.expect("one of them has it");
            change(&mut item);
            write!(server, "set onceflight:{id} 0 0 {}\r\n", item.len()).unwrap();
            server.write_all(&[&item[..], b"\r\n"].concat()).unwrap();
            assert_eq!(line(&mut BufReader::new(server)), "STORED");
        };
        (what.into(), Box::new(spoil))
    }

    fn get(mut server: &TcpStream, name: &str) -> Option<Vec<u8>> {
        write!(server, "get {name}\r\n").unwrap();
        let mut answer = BufReader::new(server);
        let head = line(&mut answer);
        if head == "END" {
            return None;
        }
        let len = head.rsplit(' ').next().unwrap().parse().unwrap();
        let mut item = vec![0; len];
        answer.read_exact(&mut item).unwrap();
        while line(&mut answer) != "END" {}
        Some(item)
    }

    fn line(answer: &mut impl BufRead) -> String {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        line.trim_end().into()
    }
}
