//! What every contestant does, and the loops over it that are timed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use crate::keys::Key;

/// The response of every contestant but the C ABI, which copies its bytes.
pub type Value = Arc<[u8]>;

pub const RESPONSE: usize = 64;

pub fn response() -> Value {
    Arc::from([7u8; RESPONSE])
}

/// What a contestant does with a response once its flight is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    Nothing,
    /// Until this has passed, and the contestant looks whether it has.
    For(Duration),
    Always,
}

pub trait Contestant<K>: Sync {
    type Got: AsRef<[u8]>;

    /// Leads, with `work`, or has what another's work gave. `None`: it led.
    fn run<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Self::Got>;

    /// `run` that keeps nothing, in a contestant that else does.
    fn pass<'w>(&self, key: &K, work: impl FnOnce() -> &'w Value) -> Option<Self::Got> {
        self.run(key, work)
    }

    /// Leads on all `keys` at once, calls `look`, and settles. False: it can't.
    fn hold(&self, _keys: &[K], _look: &mut dyn FnMut()) -> bool {
        false
    }

    /// How many responses are held, where the contestant can tell.
    fn held(&self) -> Option<usize> {
        None
    }
}

/// A contestant behind a pointer: a call goes through it once a loop, not once a request.
pub trait Bench<K>: Sync {
    fn cycles(&self, first: u64, count: u64, value: &Value);
    fn passes(&self, first: u64, count: u64, value: &Value);
    fn replays(&self, keys: &[K]);
    /// Completes the keys `first..first + count`, each with bytes of its own.
    fn fill(&self, first: u64, count: u64, bytes: &[u8]);
    /// One request; whether it led.
    fn request(&self, key: &K, work: &mut dyn FnMut(), value: &Value) -> bool;
    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool;
    fn held(&self) -> Option<usize>;
}

impl<K: Key, C: Contestant<K>> Bench<K> for C {
    fn cycles(&self, first: u64, count: u64, value: &Value) {
        for n in first..first + count {
            black_box(self.run(&K::nth(n), || value));
        }
    }

    fn passes(&self, first: u64, count: u64, value: &Value) {
        for n in first..first + count {
            black_box(self.pass(&K::nth(n), || value));
        }
    }

    fn replays(&self, keys: &[K]) {
        for key in keys {
            let got = self.run(key, || panic!("a key that is to be replayed isn't held"));
            black_box(got.map(|got| got.as_ref()[0]));
        }
    }

    fn fill(&self, first: u64, count: u64, bytes: &[u8]) {
        for n in first..first + count {
            let value = Value::from(bytes);
            self.run(&K::nth(n), || &value);
        }
    }

    fn request(&self, key: &K, work: &mut dyn FnMut(), value: &Value) -> bool {
        let got = self.run(key, || {
            work();
            value
        });
        got.map(|got| assert_eq!(got.as_ref()[0], value[0])).is_none()
    }

    fn hold(&self, keys: &[K], look: &mut dyn FnMut()) -> bool {
        Contestant::hold(self, keys, look)
    }

    fn held(&self) -> Option<usize> {
        Contestant::held(self)
    }
}

/// A contestant that can be made anew.
pub struct Entry<K> {
    pub name: &'static str,
    pub make: Box<dyn Fn() -> Box<dyn Bench<K>>>,
}

impl<K: Key> Entry<K> {
    pub fn new<C: Contestant<K> + 'static>(
        name: &'static str,
        make: impl Fn() -> C + 'static,
    ) -> Self {
        Self { name, make: Box::new(move || Box::new(make())) }
    }
}
