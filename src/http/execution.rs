//! What a handler finds of its execution, and what it can leave for the next one.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};
use crate::idempotency::{Checkpoints, Lead, LeadIn};

/// What a handler may want to know of its execution: in the request's extensions.
///
/// A handler that works step by step, with other systems, leaves what it has done so far. Should it be
/// lost, the next execution goes on from there:
///
/// ```
/// use http::{Request, Response};
/// use onceflight::http::Execution;
///
/// fn ship(request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, onceflight::Error> {
///     let execution = request.extensions().get::<Execution>().expect("a key is required");
///     let parcel = match &execution.checkpoint {
///         Some(parcel) => parcel.clone(), // packed by an execution before this one
///         None => {
///             let parcel = pack(&execution.key);
///             execution.set_checkpoint(&parcel)?;
///             parcel
///         }
///     };
///     Ok(Response::new(parcel))
/// }
/// # fn pack(key: &str) -> Vec<u8> { key.into() }
/// ```
///
/// A clone may go to other threads.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The client's key, unquoted: send it, or what is derived from it, downstream.
    pub key: String,
    /// Grows with every execution of the key: a resource downstream can refuse a lower one.
    pub fence: u64,
    /// 1; more if an earlier execution was lost.
    pub attempt: u32,
    /// What an earlier execution left for this one.
    pub checkpoint: Option<Vec<u8>>,
    place: Place,
}

/// Where a checkpoint is left.
#[derive(Clone, Debug)]
enum Place {
    /// In the key's record, while the key is led.
    Record(Checkpoints),
    /// Inside a transaction, which takes everything with it.
    Transaction,
    /// Keys are disabled.
    Nowhere,
}

impl Execution {
    pub(super) fn of(key: &str, lead: &Lead<'_>) -> Self {
        Self {
            key: key.into(),
            fence: lead.fence(),
            attempt: lead.attempt(),
            checkpoint: lead.checkpoint().map(Into::into),
            place: Place::Record(lead.checkpoints()),
        }
    }

    pub(super) fn inside(key: &str, lead: &LeadIn<'_>) -> Self {
        Self {
            key: key.into(),
            fence: lead.fence(),
            attempt: lead.attempt(),
            checkpoint: lead.checkpoint().map(Into::into),
            place: Place::Transaction,
        }
    }

    /// One that no store knows of, for a handler that expects one. Without a key it has one of its own:
    /// what is sent downstream with it isn't taken for the same, in the next run neither.
    pub(super) fn unrecorded(key: Option<String>) -> Self {
        static FENCE: AtomicU64 = AtomicU64::new(0);
        let fence = FENCE.fetch_add(1, Ordering::Relaxed) + 1;
        let drawn = || RandomState::new().hash_one(fence);
        let key = key.unwrap_or_else(|| format!("disabled-{:016x}{:016x}", drawn(), drawn()));
        Self { key, fence, attempt: 1, checkpoint: None, place: Place::Nowhere }
    }

    /// Leaves bytes for the next execution of the key, in place of those before: should this one be lost,
    /// or be answered with what isn't kept, the next one finds them as its
    /// [`checkpoint`](Self::checkpoint). They say that something happened: the key is bound to its payload
    /// from then on, whatever the answer is.
    ///
    /// Blocks for the store. With keys [`disabled`](super::Builder::disabled) nothing is left.
    ///
    /// # Errors
    /// [`Stale`](ErrorKind::Stale): the request was answered, or another execution took over.
    /// [`TooLarge`](ErrorKind::TooLarge): longer than a response may be.
    /// [`Store`](ErrorKind::Store): the store couldn't be told. [`Invalid`](ErrorKind::Invalid): inside a
    /// [transaction](super::Idempotency::handle_in), which leaves nothing if it is lost.
    pub fn set_checkpoint(&self, data: &[u8]) -> Result<(), Error> {
        match &self.place {
            Place::Record(record) => record.set(data),
            Place::Transaction => {
                let detail = "a transaction that is lost leaves nothing, and so no checkpoint";
                Err(Error::new(ErrorKind::Invalid, detail))
            }
            Place::Nowhere => Ok(()),
        }
    }
}
