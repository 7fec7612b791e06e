//! Round trips, counted between the client and the server: of a flight, of a replay, and of a follower
//! in the leader's process.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use onceflight::IdempotencyTable;
use onceflight::idempotency::Begin;
use onceflight::store::Response;

use super::fresh::Fresh;
use super::{Kind, RESPONSE, STATUS, ours};
use crate::report::{Report, Table};
use crate::rounds::{self, Taken};

/// Flights, or replays, that are counted together.
const COUNTED: usize = 100;
const FOLLOWERS: u64 = 64;

pub fn run(report: &mut Report, kind: &Kind, fresh: &Fresh) {
    let (url, trips) = tap(&kind.url);
    let tapped = Kind { url, ..*kind };
    let mut contestants = tapped.contestants(1);
    let names = contestants.iter().map(|(name, _)| *name).collect();
    let rounds = rounds::take(1, 1, names, |contestant| {
        let client = &mut contestants[contestant].1[0];
        // Once unseen, while connections are opened and statements prepared.
        let known = fresh.key();
        client.flight(&known);
        client.replay(&known);
        trips.store(0, Ordering::Relaxed);
        let each = |lap: &mut dyn FnMut()| {
            (0..COUNTED).for_each(|_| lap());
            trips.swap(0, Ordering::Relaxed) as f64 / COUNTED as f64
        };
        let flight = each(&mut || client.flight(&fresh.key()));
        Taken { figures: vec![flight, each(&mut || client.replay(&known))], foreign: 0.0 }
    });
    for (figure, what) in ["flight", "replay"].into_iter().enumerate() {
        told(report, &rounds, kind, what, figure);
    }
    let table = ours::table(&tapped.url);
    let rounds = rounds::take(1, 1, vec!["onceflight"], |_| {
        let led = |followers| {
            trips.store(0, Ordering::Relaxed);
            followed(&table, followers, fresh);
            trips.load(Ordering::Relaxed) as f64
        };
        // The first one prepares.
        let [_, alone, followed] = [0, 0, FOLLOWERS].map(led);
        Taken { figures: vec![(followed - alone) / FOLLOWERS as f64], foreign: 0.0 }
    });
    told(report, &rounds, kind, "follower", 0);
}

fn told(report: &mut Report, rounds: &rounds::Rounds, kind: &Kind, what: &str, figure: usize) {
    let work = format!("{}-{what}-trips", kind.name);
    let title = format!("{}: round trips of a {what}", kind.name);
    let (unit, against) = ("trips", &[][..]);
    let table = Table { work: &work, title: &title, unit, threads: 1, n: 0, figure, against };
    report.table(rounds, &table);
}

/// A flight that this process leads and that others of its threads follow, from begin to response.
fn followed(table: &IdempotencyTable, followers: u64, fresh: &Fresh) {
    let key = fresh.key();
    let Ok(Begin::Lead(lead)) = table.begin(key) else { panic!("a new key isn't led") };
    thread::scope(|scope| {
        for _ in 0..followers {
            scope.spawn(|| assert!(matches!(table.begin(key), Ok(Begin::Shared(_)))));
        }
        while table.stats().waiting < followers {
            thread::sleep(Duration::from_millis(1));
        }
        lead.complete(Response::new(STATUS, &RESPONSE)).expect("complete");
    });
}

/// A URL that leads to the same server, and the count of round trips there.
fn tap(url: &str) -> (String, Arc<AtomicU64>) {
    let authority = url.split('/').nth(2).expect("a URL with a server");
    let server = authority.rsplit('@').next().unwrap_or_default().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let trips = Arc::new(AtomicU64::new(0));
    let tapped = url.replacen(&server, &format!("127.0.0.1:{port}"), 1);
    let counted = Arc::clone(&trips);
    // For as long as this program runs.
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client?, TcpStream::connect(&server)?);
            pass_on(client, server, &counted)?;
        }
        io::Result::Ok(())
    });
    (tapped, trips)
}

/// A round trip is whatever a client says once the server has answered.
fn pass_on(client: TcpStream, server: TcpStream, trips: &Arc<AtomicU64>) -> io::Result<()> {
    let answered = Arc::new(AtomicBool::new(true));
    let (to_client, to_server) = (client.try_clone()?, server.try_clone()?);
    to_client.set_nodelay(true)?;
    to_server.set_nodelay(true)?;
    let (asked, trips) = (Arc::clone(&answered), Arc::clone(trips));
    thread::spawn(move || {
        pump(client, to_server, || {
            trips.fetch_add(u64::from(asked.swap(false, Ordering::SeqCst)), Ordering::SeqCst);
        })
    });
    thread::spawn(move || pump(server, to_client, || answered.store(true, Ordering::SeqCst)));
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, seen: impl Fn()) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(std::net::Shutdown::Both);
        }
        seen();
        to.write_all(&buffer[..read])?;
    }
}
