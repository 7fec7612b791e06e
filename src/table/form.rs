//! What keys and responses are made of: any Rust types (`typed`), or bytes (`bytes`).
//!
//! The verbs of a table are written once, over these traits. They say what may happen under a
//! lock: code of ours always, a key's `Eq`, and no other code of a user.

use super::index::Spot;
use crate::clock::Moment;

/// A kind of table.
pub(crate) trait Form: Send + Sync + Sized + 'static {
    /// A key as its flight owns it.
    type Key: Send + Sync;
    /// A response that followers and the window share.
    type Response: Response;

    /// Compares two keys. May run under a lock.
    fn same(one: &Self::Key, other: &Self::Key) -> bool;

    /// Whether that is the key of that response. May run under a lock.
    fn is_of(key: &Self::Key, response: &Self::Response) -> bool;

    /// Makes two keys of one, with no user code.
    fn twin(key: Self::Key) -> (Self::Key, Self::Key);

    /// Another of a twin, with no user code.
    fn again(twin: &Self::Key) -> Self::Key;

    /// Takes a key out of a flight that ended, unless it is to be written over by the next.
    fn clear(key: &mut Option<Self::Key>) -> Option<Self::Key>;
}

/// A response, shared: a clone is one increment of a count, and the last one dropped drops it.
///
/// # Safety
/// `into_word` gives a pointer that isn't null and is even, `from_word` of it gives the same
/// response back, and nothing but these two looks at that pointer.
pub(crate) unsafe trait Response: Clone + Send + Sync + 'static {
    fn into_word(self) -> *mut ();

    /// # Safety
    /// `word` came from `into_word`, and each one comes back once at most.
    unsafe fn from_word(word: *mut ()) -> Self;

    /// Which line it stands in.
    fn hash(&self) -> u32;
    fn expires(&self) -> Moment;
    fn weight(&self) -> usize;
    fn fingerprint(&self) -> Option<&[u8]>;
}

/// A key as a caller has it.
pub(crate) trait Probe<F: Form> {
    /// Whether making the key owned runs code of ours alone, and so may happen under a lock.
    const OURS: bool;
    /// A key that costs so little to make owned that it is made before it is known to be needed.
    type Light;

    fn spot(&self) -> Spot;
    /// May run under a lock.
    fn is_key(&self, key: &F::Key) -> bool;
    /// May run under a lock.
    fn is_response(&self, response: &F::Response) -> bool;
    fn own(&self) -> F::Key;

    /// `None`: it isn't so cheap, or not just a copy. With nothing locked.
    fn light(&self) -> Option<Self::Light>;
    /// Puts such a key where another may have been; may run under a lock.
    fn write(&self, light: Self::Light, place: &mut Option<F::Key>);
}

/// How a response that is kept is found and when it goes.
pub(crate) struct Kept {
    pub hash: u32,
    pub expires: Moment,
    pub weight: usize,
    pub fingerprint: Option<Box<[u8]>>,
}

/// What a leader completes with, before it is a response.
pub(crate) trait Draft<F: Form> {
    /// Something that mustn't be done under a lock.
    type Chore;

    /// Whether nobody wants to be asked about one that isn't kept.
    fn asks_nothing(form: &F) -> bool;

    /// Whether it may be kept at all. Called with nothing locked.
    fn is_kept(&self, form: &F) -> bool;

    /// Its weight; or what must be done before it is known. Under the lock.
    fn weigh(&mut self, form: &F, key: &F::Key) -> Result<usize, Self::Chore>;

    /// Does it, with nothing locked.
    fn work(&mut self, form: &F, chore: Self::Chore);

    /// A response for the followers alone.
    fn share(self) -> F::Response;

    /// A response for the window too.
    fn keep(self, key: F::Key, kept: Kept) -> F::Response;
}
