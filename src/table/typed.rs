//! Keys and responses of any Rust types.

use std::any::TypeId;
use std::borrow::Borrow;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::begin::AtOnce;
use super::engine::Inner;
use super::flight::Terms;
use super::form::{Draft, Form, Kept, Probe, Response};
use super::index::Spot;
use super::{Key, Value};
use crate::clock::{Moment, NEVER};

type UserWeigher<K, V> = Box<dyn Fn(&K, &V) -> usize + Send + Sync>;
type UserRetain<V> = Box<dyn Fn(&V) -> bool + Send + Sync>;

/// A table of `K` and `V`, and what its user wants to be asked.
pub(crate) struct Typed<K, V> {
    /// `None`: every response weighs nothing, and only their number is bounded.
    pub weigher: Option<UserWeigher<K, V>>,
    pub retain: Option<UserRetain<V>>,
}

impl<K, V> Default for Typed<K, V> {
    fn default() -> Self {
        Self { weigher: None, retain: None }
    }
}

/// A key stands in an `Arc` only where user code has to see it unlocked (a weigher), or where
/// followers begin again with it.
pub(crate) enum StoredKey<K> {
    Own(K),
    Shared(Arc<K>),
}

impl<K> StoredKey<K> {
    fn get(&self) -> &K {
        match self {
            Self::Own(key) => key,
            Self::Shared(key) => key,
        }
    }
}

impl<K: Key, V: Value> Form for Typed<K, V> {
    type Key = StoredKey<K>;
    type Response = Held<K, V>;

    fn same(one: &StoredKey<K>, other: &StoredKey<K>) -> bool {
        one.get() == other.get()
    }

    fn is_of(key: &StoredKey<K>, response: &Held<K, V>) -> bool {
        response.key.as_ref().is_some_and(|other| other.get() == key.get())
    }

    fn twin(key: StoredKey<K>) -> (StoredKey<K>, StoredKey<K>) {
        let key = match key {
            StoredKey::Own(key) => Arc::new(key),
            StoredKey::Shared(key) => key,
        };
        (StoredKey::Shared(Arc::clone(&key)), StoredKey::Shared(key))
    }

    fn again(twin: &StoredKey<K>) -> StoredKey<K> {
        match twin {
            StoredKey::Shared(key) => StoredKey::Shared(Arc::clone(key)),
            StoredKey::Own(_) => unreachable!("a twin is shared"),
        }
    }

    fn clear(key: &mut Option<StoredKey<K>>) -> Option<StoredKey<K>> {
        key.take()
    }
}

/// A response, with what the window has to know of it.
pub(crate) struct Sealed<K, V> {
    expires: Moment,
    /// What most have none of.
    rare: Option<Box<Rare>>,
    /// `None` for one that is shared with followers alone.
    key: Option<StoredKey<K>>,
    pub value: V,
    hash: u32,
}

struct Rare {
    weight: usize,
    fingerprint: Option<Box<[u8]>>,
}

impl<K, V> Sealed<K, V> {
    fn new(value: V, key: Option<StoredKey<K>>, kept: Kept) -> Self {
        let Kept { hash, expires, weight, fingerprint } = kept;
        let rare = weight != 0 || fingerprint.is_some();
        let rare = rare.then(|| Box::new(Rare { weight, fingerprint }));
        Self { expires, rare, key, value, hash }
    }
}

/// Not `std`'s `Arc`, whose count of weak pointers is eight bytes more an entry.
pub(crate) struct Held<K, V>(triomphe::Arc<Sealed<K, V>>);

impl<K, V> Clone for Held<K, V> {
    fn clone(&self) -> Self {
        Self(triomphe::Arc::clone(&self.0))
    }
}

impl<K, V> Deref for Held<K, V> {
    type Target = Sealed<K, V>;
    fn deref(&self) -> &Sealed<K, V> {
        &self.0
    }
}

// SAFETY: an `Arc`'s own round trip; its pointer isn't null, and it is even since what it points to
// holds a number of eight bytes.
unsafe impl<K: Key, V: Value> Response for Held<K, V> {
    fn into_word(self) -> *mut () {
        triomphe::Arc::into_raw(self.0).cast_mut().cast()
    }

    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { triomphe::Arc::from_raw(word.cast_const().cast()) })
    }

    fn hash(&self) -> u32 {
        self.hash
    }

    fn expires(&self) -> Moment {
        self.expires
    }

    fn weight(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.weight)
    }

    fn fingerprint(&self) -> Option<&[u8]> {
        self.rare.as_ref()?.fingerprint.as_deref()
    }
}

impl<K: Key, V: Value + Clone> Inner<Typed<K, V>> {
    /// `begin_at_once`, with a replay's value.
    ///
    /// As a rule a replay takes a hold on the response, whose value is cloned when the line is let
    /// go, since a clone is user code. But the values that responses are most often, bytes and text
    /// behind an `Arc`, and numbers, are cloned at once: their `Clone` is the standard library's.
    /// That saves two turns of a count that all replays of a key share.
    #[inline(always)]
    pub fn begin_typed<Q>(
        &self,
        asked: &Asked<'_, K, Q>,
        terms: &Terms,
        fingerprint: Option<&[u8]>,
    ) -> AtOnce<V>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned + ?Sized,
        Q::Owned: Into<K>,
    {
        let found = if known::<V>() {
            self.begin_at_once(asked, terms, fingerprint, None, |held| V::clone(&held.value))
        } else {
            match self.begin_at_once(asked, terms, fingerprint, None, Held::clone) {
                AtOnce::Replay(held) => AtOnce::Replay(V::clone(&held.value)),
                AtOnce::Lead(id) => AtOnce::Lead(id),
                AtOnce::Vacant => AtOnce::Vacant,
                AtOnce::No => AtOnce::No,
            }
        };
        // Vacant: whoever has a fingerprint isn't told so.
        match found {
            AtOnce::Vacant => match self.lead_owning(asked, terms) {
                Some(id) => AtOnce::Lead(id.get()),
                None => AtOnce::No,
            },
            found => found,
        }
    }
}

/// Whether cloning a `V` runs no code but the standard library's. Decided by the compiler.
#[inline(always)]
fn known<V: 'static>() -> bool {
    let value = TypeId::of::<V>();
    value == TypeId::of::<Arc<[u8]>>()
        || value == TypeId::of::<Arc<str>>()
        || value == TypeId::of::<Arc<Vec<u8>>>()
        || value == TypeId::of::<Arc<String>>()
        || value == TypeId::of::<u64>()
        || value == TypeId::of::<u32>()
        || value == TypeId::of::<i64>()
        || value == TypeId::of::<i32>()
        || value == TypeId::of::<bool>()
        || value == TypeId::of::<()>()
}

/// A borrowed key, and its hash.
pub(crate) struct Asked<'a, K, Q: ?Sized> {
    pub key: &'a Q,
    pub hash: u64,
    /// Whether user code will have to see the key unlocked.
    pub shared: bool,
    pub kind: PhantomData<fn() -> K>,
}

#[cfg(feature = "store")]
impl<'a, K, Q: ?Sized> Asked<'a, K, Q> {
    /// For a table without a weigher.
    pub fn of(key: &'a Q, hash: u64) -> Self {
        Self { key, hash, shared: false, kind: PhantomData }
    }
}

impl<K, V, Q> Probe<Typed<K, V>> for Asked<'_, K, Q>
where
    K: Key + Borrow<Q>,
    V: Value,
    Q: Eq + ToOwned + ?Sized,
    Q::Owned: Into<K>,
{
    const OURS: bool = false;
    type Light = K;

    fn spot(&self) -> Spot {
        Spot::of(self.hash)
    }

    fn is_key(&self, key: &StoredKey<K>) -> bool {
        key.get().borrow() == self.key
    }

    fn is_response(&self, response: &Held<K, V>) -> bool {
        response.key.as_ref().is_some_and(|key| key.get().borrow() == self.key)
    }

    #[inline(always)]
    fn light(&self) -> Option<K> {
        // What has no destructor owns nothing, and so is copied and not allocated.
        let light = !std::mem::needs_drop::<K>() && size_of::<K>() <= 64 && !self.shared;
        light.then(|| self.key.to_owned().into())
    }

    #[inline(always)]
    fn write(&self, light: K, place: &mut Option<StoredKey<K>>) {
        // There is none: see `clear`. Forgotten rather than dropped, since that would be a call.
        std::mem::forget(place.replace(StoredKey::Own(light)));
    }

    fn own(&self) -> StoredKey<K> {
        let key = self.key.to_owned().into();
        if self.shared { StoredKey::Shared(Arc::new(key)) } else { StoredKey::Own(key) }
    }
}

impl<K: Key, V: Value> Draft<Typed<K, V>> for Work<V> {
    /// The key, for the user's weigher.
    type Chore = Arc<K>;

    #[inline(always)]
    fn asks_nothing(form: &Typed<K, V>) -> bool {
        form.weigher.is_none() && form.retain.is_none()
    }

    fn is_kept(&self, form: &Typed<K, V>) -> bool {
        form.retain.as_ref().is_none_or(|keep| keep(&self.value))
    }

    fn weigh(&mut self, form: &Typed<K, V>, key: &StoredKey<K>) -> Result<usize, Arc<K>> {
        match (self.weight, &form.weigher, key) {
            (Some(weight), ..) => Ok(weight),
            (None, Some(_), StoredKey::Shared(key)) => Err(Arc::clone(key)),
            (None, None, _) => Ok(0),
            (None, Some(_), StoredKey::Own(_)) => unreachable!("keys are shared with a weigher"),
        }
    }

    fn work(&mut self, form: &Typed<K, V>, key: Arc<K>) {
        self.weight = form.weigher.as_ref().map(|weigh| weigh(&key, &self.value));
    }

    fn share(self) -> Held<K, V> {
        let kept = Kept { hash: 0, expires: NEVER, weight: 0, fingerprint: None };
        Held(triomphe::Arc::new(Sealed::new(self.value, None, kept)))
    }

    fn keep(self, key: StoredKey<K>, kept: Kept) -> Held<K, V> {
        Held(triomphe::Arc::new(Sealed::new(self.value, Some(key), kept)))
    }
}

/// What a leader made.
pub(crate) struct Work<V> {
    pub value: V,
    weight: Option<usize>,
}

impl<V> Work<V> {
    pub fn new(value: V) -> Self {
        Self { value, weight: None }
    }
}

#[cfg(all(test, not(onceflight_shuttle)))]
mod tests {
    use super::{Arc, Sealed};

    #[test]
    fn a_response_is_as_small_as_measured() {
        assert_eq!(size_of::<Sealed<[u8; 16], Arc<[u8]>>>(), 64);
        assert_eq!(size_of::<Sealed<u64, u64>>(), 48);
    }
}
