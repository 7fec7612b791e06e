//! The disk under a Postgres server is full: an error in time, nothing lost, and it works again once
//! there is room.

use std::fs;
use std::time::Duration;

use ::postgres::{Client, NoTls};
use onceflight::{Error, ErrorKind, IdempotencyTable};

use crate::disk::{self, User};
use crate::harness::{Found, Place, Random, on_every_store, response, seed};
use crate::servers::Servers;

on_every_store!(@postgres, "postgres": the_disk_is_full);

/// The tables are on a small disk, and the server's log of what it writes is not: a server that has no
/// room for that stops, which is the matter of `outages`.
fn the_disk_is_full(place: &Place) {
    let Some(disk) = disk::small(place, "4m", User::Nobody) else { return };
    let servers = Servers::start(&[]);
    let url = servers.url("postgres");
    let on_disk = format!("CREATE TABLESPACE small LOCATION '{}'", disk.display());
    Client::connect(&url, NoTls).unwrap().batch_execute(&on_disk).unwrap();
    let place = place.at(format!("{url}?options=-cdefault_tablespace%3Dsmall"));
    let table = place.table(|table| table.store_timeout(Duration::from_secs(2)));
    let mut random = Random(seed());
    let large: Vec<u8> = (0..8 << 10).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut done = Vec::new();
    complete(&table, "before", &mut done).unwrap();

    for crashes in [false, true] {
        let during = format!("during; crashes: {crashes}");
        let lead = table.begin(&during).lead();
        let filler = disk.join("filler");
        assert!(fs::write(&filler, vec![0; 8 << 20]).is_err(), "a disk of four megabytes");
        // Some room is left in the pages that the tables have.
        let refused = loop {
            let key = format!("key {}", done.len());
            if let Err(refused) = complete(&table, &key, &mut done) {
                break refused;
            }
            assert!(done.len() < 10_000, "a full disk has no end");
        };
        assert_says_so(&refused);
        assert_says_so(&table.begin(&large).expect_err("no room for so long a key"));
        let refused = lead.complete(response(&large)).unwrap_err();
        assert_says_so(&refused.error);
        let lead = refused.lead.expect("what the store doesn't take leaves the lead live");
        assert_replays(&table, &done);

        if crashes {
            servers.order("postgres", "kill");
        }
        fs::remove_file(&filler).unwrap();
        servers.order("postgres", "start"); // which wants some room, too
        lead.complete(response(&large)).expect("there is room again");
        assert_eq!(table.begin(&during).response().data(), large);
        let first = table.begin(&large).lead();
        assert_eq!(first.attempt(), 1, "nobody led it");
        first.cancel().unwrap();
        complete(&table, &format!("after; crashed: {crashes}"), &mut done).unwrap();
        assert_replays(&table, &done);
    }
}

/// Notes what is done.
fn complete(table: &IdempotencyTable, key: &str, done: &mut Vec<String>) -> Result<(), Error> {
    Ok(table.begin(key)?).lead().complete(response(key))?;
    done.push(key.into());
    Ok(())
}

fn assert_replays(table: &IdempotencyTable, keys: &[String]) {
    for key in keys {
        assert_eq!(table.begin(key).response().data(), key.as_bytes());
    }
}

#[track_caller]
fn assert_says_so(refused: &Error) {
    assert_eq!(refused.kind(), ErrorKind::Store, "{refused}");
    assert!(refused.to_string().contains("make room there"), "{refused}");
}
