//! The workloads of the Rust API.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use onceflight::{Begin, Builder, DedupTable, Lead, Role, TryBegin};

use crate::meter::{Default13, Fast, counted, keys};
use crate::{Workload, with_goal, workload};

pub const WORKLOADS: &[Workload] = &[
    with_goal(430, "cycle_16", cycle::<16, Default13>),
    workload("cycle_64", cycle::<64, Default13>),
    with_goal(300, "cycle_16_fast", cycle::<16, Fast>),
    workload("cycle_64_fast", cycle::<64, Fast>),
    workload("run_16", run),
    workload("lease_16", lease),
    workload("fingerprint_16", fingerprint),
    workload("cancel_16", cancel),
    workload("follower_leaves", follower_leaves),
    workload("follower_shares", follower_shares),
    workload("window_and_forget", window_and_forget),
    workload("replay_64", replay::<64>),
    workload("replay_64k", replay::<65_536>),
];

type Table<const N: usize, S = Default13> = DedupTable<[u8; N], u64, S>;

/// So long that nothing expires meanwhile.
const HOUR: Duration = Duration::from_secs(3600);

/// How many keys a replay goes round: all of them stay in the processor's cache.
const HOT: usize = 64;

fn builder<const N: usize, V, S>() -> Builder<[u8; N], V, S>
where
    V: Clone + Send + Sync + 'static,
    S: Default,
{
    DedupTable::builder().hasher(S::default())
}

fn leads<const N: usize, V>(begun: Begin<'_, [u8; N], V>) -> Lead<'_, [u8; N], V>
where
    V: std::fmt::Debug + Send + Sync + 'static,
{
    match begun {
        Begin::Lead(lead) => lead,
        other => panic!("a lead was due: {other:?}"),
    }
}

/// Begin, complete, gone.
fn cycle<const N: usize, S: BuildHasher + Default>(rounds: usize) -> usize {
    let table: Table<N, S> = builder().build();
    let keys = keys();
    counted(rounds, |round| {
        leads(table.begin(&keys[round]).unwrap()).complete(1).unwrap();
    })
}

fn run(rounds: usize) -> usize {
    let table: Table<16> = builder().build();
    let keys = keys();
    counted(rounds, |round| {
        let outcome = table.run(&keys[round], || black_box(1)).unwrap();
        assert_eq!(Role::Led, outcome.role);
    })
}

/// A cycle whose lead has a lease, as most would where a leader may hang.
fn lease(rounds: usize) -> usize {
    let table: Table<16> = builder().lease(HOUR).build();
    let keys = keys();
    counted(rounds, |round| {
        leads(table.begin(&keys[round]).unwrap()).complete(1).unwrap();
    })
}

fn fingerprint(rounds: usize) -> usize {
    let table: Table<16> = builder().build();
    let (keys, payloads) = (keys(), keys::<16>());
    counted(rounds, |round| {
        let request = table.request(&keys[round]).fingerprint(&payloads[round]);
        leads(request.begin().unwrap()).complete(1).unwrap();
    })
}

fn cancel(rounds: usize) -> usize {
    let table: Table<16> = builder().build();
    let keys = keys();
    counted(rounds, |round| leads(table.begin(&keys[round]).unwrap()).cancel().unwrap())
}

/// A cycle whose only follower gives up before it ends.
fn follower_leaves(rounds: usize) -> usize {
    let table: Table<16> = builder().build();
    let keys = keys();
    counted(rounds, |round| {
        let lead = leads(table.begin(&keys[round]).unwrap());
        assert!(matches!(table.try_begin(&keys[round]), Ok(TryBegin::Follower(_))));
        lead.complete(1).unwrap();
    })
}

/// A cycle whose only follower gets the response, without blocking.
fn follower_shares(rounds: usize) -> usize {
    let table: Table<16> = builder().build();
    let keys = keys();
    counted(rounds, |round| {
        let lead = leads(table.begin(&keys[round]).unwrap());
        let Ok(TryBegin::Follower(mut follower)) = table.try_begin(&keys[round]) else {
            panic!("it is in flight")
        };
        lead.complete(1).unwrap();
        assert!(matches!(follower.wait_timeout(Duration::ZERO), Ok(Begin::Shared(1))));
    })
}

/// A cycle that leaves its response in the window, and takes it out of there.
fn window_and_forget(rounds: usize) -> usize {
    let table: Table<16> = builder().completed_ttl(HOUR).build();
    let keys = keys();
    counted(rounds, |round| {
        leads(table.begin(&keys[round]).unwrap()).complete(1).unwrap();
        assert!(table.forget(&keys[round]).unwrap());
    })
}

/// A begin that finds its response, of `SIZE` bytes, in a small window.
fn replay<const SIZE: usize>(rounds: usize) -> usize {
    let table: DedupTable<[u8; 16], Arc<[u8]>, Default13> = builder().completed_ttl(HOUR).build();
    let keys = keys();
    for key in &keys[..HOT] {
        leads(table.begin(key).unwrap()).complete(vec![1; SIZE].into()).unwrap();
    }
    counted(rounds, |round| match table.begin(&keys[round % HOT]) {
        Ok(Begin::Replayed(response)) => assert_eq!(SIZE, black_box(response).len()),
        other => panic!("a replay was due: {other:?}"),
    })
}
