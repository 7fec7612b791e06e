//! Many clients, many callers a client, a log that doubles, drops and delays entries, and leaders that
//! step down: each request is executed once, and whoever got a reply got the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use onceflight::session::{Node, SessionRequest};
use onceflight::{Error, ErrorKind};

use crate::support::{Random, seed, with};

const CLIENTS: usize = 3;
/// Callers a client: its own retries, side by side.
const CALLERS: usize = 3;
const REQUESTS: u64 = 150;

#[derive(Clone, Copy)]
struct Entry {
    client: usize,
    incarnation: u64,
    seq: u64,
}

fn name(client: usize) -> [u8; 1] {
    [u8::try_from(client).unwrap()]
}

#[test]
fn a_storm_executes_each_request_once() {
    let seed = seed();
    let node = Node::new(with(|builder| builder.window(64)));
    let (log, entries) = mpsc::channel::<Entry>();
    let lives: Vec<u64> = (0..CLIENTS)
        .map(|client| node.apply_registration(&name(client), b"n", 0).unwrap())
        .collect();
    let (leads, refused) = (AtomicBool::new(true), AtomicU64::new(0));
    let executed = thread::scope(|scope| {
        let (node, leads, refused) = (&node, &leads, &refused);
        let applier = scope.spawn(move || apply_all(node, &entries, leads, Random(seed)));
        let callers: Vec<_> = (0..CLIENTS * CALLERS)
            .map(|number| {
                let log = log.clone();
                let (client, mut random) = (number % CLIENTS, Random(seed ^ number as u64));
                let incarnation = lives[client];
                scope.spawn(move || {
                    let mut replies = Vec::new();
                    for seq in 1..=REQUESTS {
                        let name = name(client);
                        // Behind by what its fellows may still ask for.
                        let request = SessionRequest::new(&name, incarnation, seq)
                            .ack(seq.saturating_sub(60).max(1));
                        let reply = loop {
                            let timeout = Duration::from_millis(random.within(0..4) * 5);
                            let reply = node.submit(&request, timeout, || {
                                if !leads.load(Relaxed) {
                                    return Err(Error::from(ErrorKind::Closed));
                                }
                                log.send(Entry { client, incarnation, seq }).expect("the log");
                                Ok(())
                            });
                            match reply.map_err(|error| error.kind()) {
                                Ok(response) => break Some(response.data().to_vec()),
                                // The fellows are far ahead: it was acknowledged.
                                Err(ErrorKind::SeqStale) => break None,
                                Err(
                                    ErrorKind::Timeout | ErrorKind::Unknown | ErrorKind::Closed,
                                ) => {
                                    refused.fetch_add(1, Relaxed);
                                }
                                Err(ErrorKind::WindowFull) => thread::yield_now(),
                                Err(other) => panic!("{other:?}"),
                            }
                        };
                        replies.extend(reply.map(|reply| ((client, seq), reply)));
                    }
                    replies
                })
            })
            .collect();
        drop(log);
        let mut replies = BTreeMap::new();
        for (request, reply) in callers.into_iter().flat_map(|caller| caller.join().unwrap()) {
            let first = replies.entry(request).or_insert_with(|| reply.clone());
            assert_eq!(*first, reply, "client and number {request:?}");
        }
        applier.join().unwrap()
    });
    let requests = (0..CLIENTS).flat_map(|client| (1..=REQUESTS).map(move |seq| (client, seq)));
    let once: BTreeMap<_, _> = requests.map(|request| (request, 1)).collect();
    assert_eq!(once, executed);
    assert!(refused.into_inner() > 0, "nobody was ever told anything but a reply");
}

/// The thread that applies the log: how often each request was executed.
fn apply_all(
    node: &Node,
    entries: &Receiver<Entry>,
    leads: &AtomicBool,
    mut random: Random,
) -> BTreeMap<(usize, u64), u32> {
    let (mut executed, mut held) = (BTreeMap::new(), Vec::new());
    loop {
        match entries.recv_timeout(Duration::from_millis(1)) {
            Ok(entry) => held.push(entry),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return executed,
        }
        if random.one_in(50) {
            leads.store(false, Relaxed);
            node.step_down();
            // What isn't committed by then goes, or doesn't.
            held.retain(|_| random.one_in(2));
            leads.store(true, Relaxed);
        }
        while !held.is_empty() && !random.one_in(3) {
            let place = usize::try_from(random.within(0..held.len() as u64)).unwrap();
            let entry = held[place];
            if !random.one_in(4) {
                held.swap_remove(place);
            }
            let Entry { client, incarnation, seq } = entry;
            let name = name(client);
            let ack = seq.saturating_sub(60).max(1);
            let request = SessionRequest::new(&name, incarnation, seq).ack(ack);
            let _ = node.apply(&request, 0, || {
                let times = executed.entry((client, seq)).or_insert(0);
                *times += 1;
                (0, format!("{client} {seq} {times}"))
            });
        }
    }
}
