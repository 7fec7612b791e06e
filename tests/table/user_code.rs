//! User code never runs under a lock: whatever of it the table calls may call the table back, for
//! the same key and into the same shard. And what it does to one key holds up no other.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, Weak, mpsc};
use std::thread;
use std::time::Duration;

use onceflight::{Builder, DedupTable, ErrorKind, OnCancel, OnLeaseExpired, Role};

use crate::support::*;

type NosyTable = DedupTable<Nosy, Nosy, OneShard>;

/// What user code does when it is called: it calls back. A lock held meanwhile hangs it.
#[derive(Clone, Default)]
struct Probe(Arc<Inner>);

#[derive(Default)]
struct Inner {
    table: OnceLock<Weak<NosyTable>>,
    calls: AtomicUsize,
    /// Whether hashing a key calls back too. Where it does, what that meets first is gone before
    /// the call proper comes by.
    hashes_quietly: AtomicBool,
}

thread_local! {
    static CALLING_BACK: Cell<bool> = const { Cell::new(false) };
}

impl Probe {
    fn call_back(&self, id: u64) {
        let Some(table) = self.0.table.get().and_then(Weak::upgrade) else { return };
        if CALLING_BACK.replace(true) {
            return;
        }
        // Every shard, then the same key, then another one in the same shard.
        let _ = table.stats();
        for id in [id, u64::MAX] {
            let key = self.nosy(id);
            if let Ok(onceflight::Begin::Lead(lead)) = table.begin_timeout(&key, Duration::ZERO) {
                lead.cancel().unwrap();
            }
        }
        let _ = table.forget(&self.nosy(u64::MAX));
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        CALLING_BACK.set(false);
    }

    fn nosy(&self, id: u64) -> Nosy {
        Nosy { id, probe: self.clone() }
    }

    /// How often user code was called since the last time; that it was called proves the test.
    fn calls(&self) -> usize {
        self.0.calls.swap(0, Ordering::SeqCst)
    }

    fn table(
        &self,
        set: impl FnOnce(Builder<Nosy, Nosy>) -> Builder<Nosy, Nosy>,
    ) -> Arc<NosyTable> {
        let table = Arc::new(set(DedupTable::builder()).hasher(OneShard).build());
        assert!(self.0.table.set(Arc::downgrade(&table)).is_ok());
        table
    }
}

/// A key and a value.
struct Nosy {
    id: u64,
    probe: Probe,
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.probe.call_back(self.id);
        self.probe.nosy(self.id)
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.probe.call_back(self.id);
    }
}

impl Hash for Nosy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if !self.probe.0.hashes_quietly.load(Ordering::SeqCst) {
            self.probe.call_back(self.id);
        }
        self.id.hash(state);
    }
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Nosy {}

impl std::fmt::Debug for Nosy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nosy({})", self.id)
    }
}

/// Runs `scene` with a probe, on a thread that may hang.
fn scene(play: impl FnOnce(&Probe) + Send + 'static) {
    within(PATIENCE, move || {
        let probe = Probe::default();
        play(&probe);
        assert!(probe.calls() > 0, "no user code was called");
    });
}

#[test]
fn values_shared_replayed_and_forgotten_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.completed_ttl(LONG));
        let key = probe.nosy(1);
        let lead = table.begin(&key).lead();
        let mut waiting = follower(table.try_begin(&key));
        lead.complete(probe.nosy(1)).unwrap();
        assert!(probe.calls() > 0);
        drop(waiting.wait_timeout(PATIENCE).shared());
        assert!(probe.calls() > 0);
        drop(table.begin(&key).replayed());
        assert!(probe.calls() > 0);
        table.forget(&key).unwrap();
    });
}

#[test]
fn values_that_make_room_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.max_completed(1).completed_ttl(LONG));
        for id in 0..4 {
            table.begin(&probe.nosy(id)).lead().complete(probe.nosy(id)).unwrap();
        }
    });
}

#[test]
fn values_that_a_begin_finds_expired_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.completed_ttl(SHORT));
        probe.0.hashes_quietly.store(true, Ordering::SeqCst);
        for _ in 0..5 {
            table.begin(&probe.nosy(1)).lead().complete(probe.nosy(1)).unwrap();
            // The reaper comes a little later.
            pass(SHORT);
        }
    });
}

#[test]
fn the_reaper_may_be_called_back() {
    scene(|probe| {
        let table = probe.table(|b| b.completed_ttl(SHORT));
        for id in 0..100 {
            table.begin(&probe.nosy(id)).lead().complete(probe.nosy(id)).unwrap();
        }
        probe.calls();
        wait_until("the reaper", || table.stats().completed == 0);
        wait_until("its destructors", || probe.0.calls.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn a_value_refused_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.max_weight(0).weigher(|_, _| 1));
        let refused = table.begin(&probe.nosy(1)).lead().complete(probe.nosy(1)).unwrap_err();
        drop(refused);
        let late = table.request(&probe.nosy(2)).lease(Duration::ZERO).begin().lead();
        let successor = table.begin(&probe.nosy(2)).lead();
        drop(late.complete(probe.nosy(2)));
        drop(successor);
    });
}

#[test]
fn keys_of_flights_that_end_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.on_cancel(OnCancel::FailAll));
        table.begin(&probe.nosy(1)).lead().cancel().unwrap();
        table.begin(&probe.nosy(2)).lead().decline().unwrap();
        table.begin(&probe.nosy(3)).lead().abandon().unwrap();
        table.begin(&probe.nosy(3)).lead().complete(probe.nosy(3)).unwrap();
        let detached = table.begin(&probe.nosy(4)).lead();
        table.forget(&probe.nosy(4)).unwrap();
        detached.complete(probe.nosy(4)).unwrap();
    });
}

#[test]
fn keys_of_detached_flights_that_fail_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.completed_ttl(LONG));
        let key = probe.nosy(1);
        let lead = table.begin(&key).lead();
        let mut waiting = [follower(table.try_begin(&key)), follower(table.try_begin(&key))];
        table.forget(&key).unwrap();
        lead.cancel().unwrap();
        let lead = waiting[0].wait_timeout(PATIENCE).lead();
        assert_eq!(ErrorKind::Timeout, kind(waiting[1].wait_timeout(Duration::ZERO)));
        lead.complete(probe.nosy(1)).unwrap();
        drop(waiting[1].wait_timeout(PATIENCE));
    });
}

#[test]
fn lost_flights_that_make_room_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.max_in_flight(2));
        for id in 0..6 {
            drop(table.begin(&probe.nosy(id)).lead());
        }
    });
}

#[test]
fn an_unknown_flight_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.on_lease_expired(OnLeaseExpired::Hold));
        drop(table.begin(&probe.nosy(1)).lead());
        assert_eq!(ErrorKind::Unknown, kind(table.begin(&probe.nosy(1))));
        table.forget(&probe.nosy(1)).unwrap();
    });
}

#[test]
fn weigher_and_retain_may_call_back() {
    scene(|probe| {
        let (weighing, retaining) = (probe.clone(), probe.clone());
        let [weighed, retained] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let (weighed_in, retained_in) = (Arc::clone(&weighed), Arc::clone(&retained));
        let table = probe.table(|b| {
            b.completed_ttl(LONG)
                .weigher(move |key: &Nosy, _| {
                    weighing.call_back(key.id);
                    weighed_in.fetch_add(1, Ordering::SeqCst)
                })
                .retain(move |value: &Nosy| {
                    retaining.call_back(value.id);
                    retained_in.fetch_add(1, Ordering::SeqCst) == 0
                })
        });
        for id in 0..2 {
            table.begin(&probe.nosy(id)).lead().complete(probe.nosy(id)).unwrap();
        }
        assert_eq!((2, 2), (weighed.load(Ordering::SeqCst), retained.load(Ordering::SeqCst)));
        assert_eq!(1, table.stats().completed);
    });
}

#[test]
fn work_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b);
        let outcome = table.run(&probe.nosy(1), || {
            probe.call_back(1);
            table.run(&probe.nosy(2), || probe.nosy(2)).unwrap().value
        });
        assert_eq!(2, outcome.unwrap().value.id);
    });
}

#[test]
fn values_dropped_by_close_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b.completed_ttl(LONG));
        for id in 0..10 {
            table.begin(&probe.nosy(id)).lead().complete(probe.nosy(id)).unwrap();
        }
        drop(table.begin(&probe.nosy(10)).lead());
        probe.calls();
        table.close();
    });
}

/// Two begins of a vacant key: both make an owned key, one of them in vain.
#[test]
fn keys_of_begins_that_race_may_call_back() {
    scene(|probe| {
        let table = probe.table(|b| b);
        for _ in 0..200 {
            let both = Barrier::new(2);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let key = probe.nosy(1);
                        both.wait();
                        table.run(&key, || probe.nosy(1)).unwrap();
                    });
                }
            });
        }
        assert_eq!(0, table.stats().in_flight);
    });
}

// ---- panics ----

/// What panics when it is told to.
#[derive(Debug)]
struct Fuse(Arc<AtomicBool>);

impl Fuse {
    fn blow(&self) {
        if self.0.swap(false, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("blown"));
        }
    }
}

#[test]
fn a_panic_in_retain_or_weigher_abandons() {
    for by_retain in [true, false] {
        let fuse = Fuse(Arc::new(AtomicBool::new(true)));
        let builder = DedupTable::builder().completed_ttl(LONG);
        let table: Table = if by_retain {
            builder
                .retain(move |_| {
                    fuse.blow();
                    true
                })
                .build()
        } else {
            builder
                .weigher(move |_, _| {
                    fuse.blow();
                    1
                })
                .build()
        };
        let lead = table.begin("k").lead();
        let mut next = follower(table.try_begin("k"));
        assert!(catch_unwind(AssertUnwindSafe(|| lead.complete(1).is_ok())).is_err());
        next.wait_timeout(PATIENCE).lead().complete(2).unwrap();
        assert_eq!(2, table.begin("k").replayed());
    }
}

#[derive(Debug)]
struct FragileKey(Arc<Fuse>);
impl Clone for FragileKey {
    fn clone(&self) -> Self {
        self.0.blow();
        Self(Arc::clone(&self.0))
    }
}
impl Hash for FragileKey {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
impl PartialEq for FragileKey {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for FragileKey {}

#[test]
fn a_panic_in_a_keys_clone_takes_no_room() {
    let lit = Arc::new(AtomicBool::new(true));
    let key = FragileKey(Arc::new(Fuse(Arc::clone(&lit))));
    let table: DedupTable<FragileKey, u64> = DedupTable::builder().max_in_flight(1).build();
    assert!(catch_unwind(AssertUnwindSafe(|| table.begin(&key).is_ok())).is_err());
    assert!(!lit.load(Ordering::SeqCst));
    assert_eq!(1, table.begin(&key).lead().attempt());
}

#[derive(Debug)]
struct FragileValue(Fuse, mpsc::Sender<()>);
impl Drop for FragileValue {
    fn drop(&mut self) {
        let _ = self.1.send(());
        self.0.blow();
    }
}

/// One bad destructor keeps nobody else's memory.
#[test]
fn a_panic_in_a_destructor_does_not_end_the_reaper() {
    let (sender, dropped) = mpsc::channel();
    let table: DedupTable<u64, Arc<FragileValue>> =
        DedupTable::builder().completed_ttl(SHORT).build();
    for round in 0..3 {
        for key in 0..5 {
            let fuse = Fuse(Arc::new(AtomicBool::new(key == 2)));
            let value = Arc::new(FragileValue(fuse, sender.clone()));
            table.begin(&key).lead().complete(value).unwrap();
        }
        for _ in 0..5 {
            dropped.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("round {round}"));
        }
    }
}

#[derive(Debug)]
struct FragileClone(Arc<AtomicBool>);
impl Clone for FragileClone {
    fn clone(&self) -> Self {
        Fuse(Arc::clone(&self.0)).blow();
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn a_panic_in_a_values_clone_is_its_readers_alone() {
    let lit = Arc::new(AtomicBool::new(false));
    let table: DedupTable<u64, FragileClone> = DedupTable::builder().completed_ttl(LONG).build();
    let lead = table.begin(&1).lead();
    let mut waiting = [(); 2].map(|()| follower(table.try_begin(&1)));
    lead.complete(FragileClone(Arc::clone(&lit))).unwrap();
    for waiting in &mut waiting {
        lit.store(true, Ordering::SeqCst);
        let unread = || waiting.wait_timeout(PATIENCE).is_ok();
        assert!(catch_unwind(AssertUnwindSafe(unread)).is_err());
    }
    table.begin(&1).replayed();
}

// ---- distinct keys ----

#[test]
fn distinct_keys_never_wait_for_each_others_work() {
    let table: DedupTable<u64, u64, OneShard> =
        DedupTable::builder().completed_ttl(LONG).max_completed(100).hasher(OneShard).build();
    let (leads, leading) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let table = &table;
        let blocked = scope.spawn(move || {
            table.run(&0, || {
                leads.send(()).unwrap();
                released.recv_timeout(PATIENCE).unwrap();
                7
            })
        });
        leading.recv_timeout(PATIENCE).unwrap();
        let waiting = scope.spawn(|| table.run(&0, || unreachable!()).unwrap());
        in_line(table, 1);
        // In the very same shard, with the very same hash.
        let others: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn(move || {
                    for i in 1..=2_000 {
                        let key = i * 2 + thread;
                        let outcome = table.run(&key, || key).unwrap();
                        assert_eq!((key, Role::Led), (outcome.value, outcome.role));
                    }
                })
            })
            .collect();
        for other in others {
            other.join().unwrap();
        }
        release.send(()).unwrap();
        assert_eq!(Role::Led, blocked.join().unwrap().unwrap().role);
        assert_eq!((7, Role::Shared), {
            let outcome = waiting.join().unwrap();
            (outcome.value, outcome.role)
        });
    });
}

/// User code that blocks, wherever the table calls it, holds up its own key at most.
#[test]
fn a_weigher_that_blocks_holds_up_no_other_key() {
    let (entered, weighing) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let table: DedupTable<u64, u64, OneShard> = DedupTable::builder()
        .completed_ttl(LONG)
        .weigher(move |key: &u64, _: &u64| {
            if *key == 0 {
                entered.send(()).unwrap();
                released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            }
            1
        })
        .hasher(OneShard)
        .build();
    thread::scope(|scope| {
        let slow = scope.spawn(|| table.run(&0, || 5).unwrap().role);
        weighing.recv_timeout(PATIENCE).unwrap();
        for key in 1..100 {
            assert_eq!(Role::Led, table.run(&key, || key).unwrap().role);
        }
        assert_eq!(ErrorKind::Timeout, kind(table.begin_timeout(&0, Duration::ZERO)));
        release.send(()).unwrap();
        assert_eq!(Role::Led, slow.join().unwrap());
    });
}
