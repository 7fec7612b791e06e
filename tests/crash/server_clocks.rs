//! A server's wall clock is set, under tables that have records there.
//!
//! | set | Postgres, Redis | memcached |
//! |-|-|-|
//! | back | leads and responses last so much longer; fences grow all the same | nothing |
//! | forward | leases and responses end so much earlier: another may take over, with a higher fence, and then who led is stale | nothing |
//!
//! The servers have their time from `wall_clock.c`, by a file that a test writes to.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{env, fs};

use onceflight::{ErrorKind, IdempotencyTable};

use crate::harness::{Directory, Found, Place, on_every_store, response};
use crate::servers::{Servers, shared};

on_every_store!(@postgres, "postgres": set_back_it_ends_nothing set_forward_it_ends_leases_and_fences_hold);
on_every_store!(@redis, "redis": set_back_it_ends_nothing set_forward_it_ends_leases_and_fences_hold);
on_every_store!(@memcached, "memcached": whatever_it_is_set_to_nothing_ends);

const HOUR: Duration = Duration::from_secs(3600);
const HOURS: i64 = 3600;
const YEARS: i64 = 365 * 24 * HOURS;

/// Servers whose clocks one test at a time may set.
struct Clocks {
    servers: Servers,
    files: Directory,
}

impl Clocks {
    fn ours() -> Arc<Self> {
        static OURS: Mutex<Weak<Clocks>> = Mutex::new(Weak::new());
        shared(&OURS, || {
            let files = Directory::new();
            let offset = offset(&files);
            fs::write(&offset, "0").expect("a file");
            let library = files.path.join("wall_clock.so");
            let mut gcc = Command::new("gcc");
            gcc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library);
            gcc.arg(format!("-DOFFSET=\"{}\"", offset.display()));
            gcc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/wall_clock.c"));
            assert!(gcc.status().expect("gcc").success());
            let servers = Servers::start(&[("LD_PRELOAD", library.as_os_str())]);
            for server in ["postgres", "redis", "memcached-1", "memcached-2"] {
                let maps = format!("/proc/{}/maps", servers.process(server));
                let maps = fs::read_to_string(maps).expect("what it has loaded");
                assert!(maps.contains("wall_clock.so"), "{server} has another clock");
            }
            Self { servers, files }
        })
    }

    /// Waits for its turn.
    fn take(&self) -> Turn<'_> {
        static TURN: Mutex<()> = Mutex::new(());
        Turn { clocks: self, _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

fn offset(files: &Directory) -> PathBuf {
    files.path.join("offset")
}

/// Whose turn it is to set the clocks. Afterwards they are right again.
struct Turn<'a> {
    clocks: &'a Clocks,
    _turn: MutexGuard<'static, ()>,
}

impl Turn<'_> {
    /// So many seconds off. There is no moment at which the file is half written.
    fn set(&self, seconds: i64) {
        let file = offset(&self.clocks.files);
        let new = file.with_extension("new");
        fs::write(&new, seconds.to_string()).expect("a file");
        fs::rename(&new, &file).expect("the same directory");
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Two tables, as two processes would have them. A lost lead is remembered for ten hours.
fn tables(place: &Place, clocks: &Clocks) -> [IdempotencyTable; 2] {
    let place = place.at(clocks.servers.url(place.store));
    [(); 2].map(|()| place.table(|table| table.lease(HOUR).ttl(10 * HOUR).heartbeat(false)))
}

#[track_caller]
fn assert_in_progress(table: &IdempotencyTable, key: &str) {
    let error = table.begin_timeout(key, Duration::ZERO).expect_err("somebody leads");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

fn set_back_it_ends_nothing(place: &Place) {
    let clocks = Clocks::ours();
    let clock = clocks.take();
    let [table, other] = tables(place, &clocks);
    let lead = table.begin("led").lead();
    table.begin("done").lead().complete(response("done")).unwrap();
    let gone = table.begin("gone").lead();
    let fence = gone.fence();
    gone.cancel().unwrap();

    clock.set(-10 * YEARS);
    assert_in_progress(&other, "led");
    assert_eq!(other.begin("done").response().data(), b"done");
    let again = other.begin("gone").lead();
    assert!(again.fence() > fence, "{} after {fence}", again.fence());
    again.complete(response("again")).unwrap();
    lead.complete(response("led")).expect("nobody took over");
    assert_eq!(other.begin("led").response().data(), b"led");
    assert_eq!(table.begin("gone").response().data(), b"again");
}

fn set_forward_it_ends_leases_and_fences_hold(place: &Place) {
    let clocks = Clocks::ours();
    let clock = clocks.take();
    let [table, other] = tables(place, &clocks);
    let leads = ["led", "left alone"].map(|key| table.begin(key).lead());
    let done = table.begin("done").lead();
    let fence = done.fence();
    done.complete_for(response("done"), HOUR).unwrap();

    clock.set(2 * HOURS);
    let successor = other.begin("led").lead();
    assert_eq!(successor.attempt(), 2);
    let [lead, alone] = leads;
    assert!(successor.fence() > lead.fence());
    let refused = lead.complete(response("late")).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Stale);
    successor.complete(response("successor")).unwrap();
    assert_eq!(table.begin("led").response().data(), b"successor");
    alone.complete(response("in time")).expect("nobody took over");
    assert_eq!(other.begin("left alone").response().data(), b"in time");
    let anew = other.begin("done").lead();
    assert_eq!(anew.attempt(), 1, "it has expired");
    assert!(anew.fence() > fence);
    anew.cancel().unwrap();
}

/// It counts on a clock that nobody sets.
fn whatever_it_is_set_to_nothing_ends(place: &Place) {
    let clocks = Clocks::ours();
    let clock = clocks.take();
    let [table, other] = tables(place, &clocks);
    let lead = table.begin("led").lead();
    table.begin("done").lead().complete(response("done")).unwrap();
    for off in [10 * YEARS, -10 * YEARS] {
        clock.set(off);
        assert_in_progress(&other, "led");
        assert_eq!(other.begin("done").response().data(), b"done");
        let key = format!("{off} s off");
        table.begin(&key).lead().complete(response("then")).unwrap();
        assert_eq!(other.begin(&key).response().data(), b"then");
    }
    lead.complete(response("led")).expect("nobody took over");
    assert_eq!(other.begin("led").response().data(), b"led");
}
