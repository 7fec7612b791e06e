//! Same-transaction mode: the record and the caller's own rows commit together, or not at all.
//!
//! | step | in this process | in the database |
//! |-|-|-|
//! | `claim_in` | joins the flight, or speaks for it | the claim, which nobody sees yet; others wait for its row |
//! | `complete_in` | nothing | the response, which nobody sees yet |
//! | `commit` | the followers have the response | all of it |
//! | any of them dropped | the next follower has its turn | the caller's rollback |
//!
//! There is no lease and no heartbeat: a process that dies takes its transaction with it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Attempt, Begun, Turned};
use super::request::Request;
use super::shared::{Answer, Shared};
use super::turn::Turn;
use crate::error::{Error, ErrorKind};
use crate::store::{Claimed, Held, RecordKey, Response, Settled, Transaction};

/// What [`Request::claim_in`] found.
#[must_use = "a dropped claim passes to the next in line"]
#[derive(Debug)]
pub enum BeginIn<'t> {
    /// This caller does the work, inside its transaction.
    Lead(LeadIn<'t>),
    /// The response of the flight that this caller waited for.
    Shared(Response),
    /// A response completed earlier, within its ttl.
    Replayed(Response),
    /// The leader declined to share: do the work yourself, and settle nothing.
    Bypass,
}

/// A lead inside the caller's transaction. Dropping it cancels: roll back.
#[must_use = "a dropped lead passes to the next in line"]
pub struct LeadIn<'t> {
    claimed: Box<Inside<'t>>,
    attempt: u32,
    checkpoint: Option<Box<[u8]>>,
}

/// A response inside the caller's transaction, that only [`commit`](Self::commit) publishes. Dropping
/// it cancels: roll back.
#[must_use = "only a commit publishes the response"]
pub struct Uncommitted<'t> {
    claimed: Box<Inside<'t>>,
    response: Response,
}

/// What a lead in a transaction holds: its turn here, and its name in the record.
struct Inside<'t> {
    shared: &'t Arc<Shared>,
    turn: Turn,
    key: Arc<RecordKey>,
    held: Held,
    ttl: Duration,
}

impl<'t> Request<'t, '_> {
    /// Leads inside the caller's transaction, or waits for who does: first here, then, as the
    /// database does it, for the other's commit or rollback.
    ///
    /// Claim before the transaction writes anything else: what it has locked stays locked while it
    /// waits here. The request's lease says how long a record stands that was committed without a
    /// response.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin), and [`Invalid`](ErrorKind::Invalid): the transaction is of
    /// another kind of store than the table's. [`Timeout`](ErrorKind::Timeout): somebody leads under
    /// a lease, outside any transaction, or has its claim uncommitted for longer than the database's
    /// lock timeout: roll back, and begin again later.
    pub fn claim_in<T: Transaction>(self, tx: &mut T) -> Result<BeginIn<'t>, Error> {
        let (shared, asking) = (self.shared(), self.asking()?);
        let store = the_store::<T>(shared)?;
        let turn = match Attempt::new(shared, asking.clone(), None).until_turn()? {
            Turned::Turn(turn) => turn,
            Turned::Begun(Begun::Shared(response)) => return Ok(BeginIn::Shared(response)),
            Turned::Begun(Begun::Replayed(response)) => return Ok(BeginIn::Replayed(response)),
            Turned::Begun(Begun::Bypass) => return Ok(BeginIn::Bypass),
            Turned::Begun(Begun::Lead(_)) => unreachable!("a turn doesn't claim by itself"),
        };
        // No mark that somebody waits: it would be inside the transaction, where nobody sees it.
        let claim = turn.claim(shared, &asking, false);
        match tx.claim(store, &asking.key, &claim)? {
            Claimed::Lead(grant) => {
                shared.count_lead(grant.attempt, grant.taken_over);
                let held = Held { token: turn.token, epoch: grant.epoch };
                let (key, ttl) = (asking.key, asking.ttl);
                let claimed = Box::new(Inside { shared, turn, key, held, ttl });
                let (attempt, checkpoint) = (grant.attempt, grant.checkpoint);
                Ok(BeginIn::Lead(LeadIn { claimed, attempt, checkpoint }))
            }
            // What a transaction sees may be older than those who follow it, or its own: they ask the store.
            Claimed::Completed(response) => {
                shared.count(&Ok(Begun::Replayed(response.clone())));
                Ok(BeginIn::Replayed(response))
            }
            Claimed::InProgress { .. } => Err(Error::new(
                ErrorKind::Timeout,
                "the key is in progress outside this transaction; roll back, and begin again later",
            )),
            Claimed::Mismatch => Err(ErrorKind::Mismatch.into()),
            Claimed::Unknown => Err(ErrorKind::Unknown.into()),
        }
    }
}

impl<'t> LeadIn<'t> {
    /// Grows with every leader of the key; see [`Lead::fence`](super::Lead::fence).
    pub fn fence(&self) -> u64 {
        self.claimed.held.epoch
    }

    /// 1 for the first leader of a flight, + 1 for each successor.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What an earlier leader left.
    pub fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_deref()
    }

    /// Writes the response inside the transaction, for the ttl of the request or the table.
    ///
    /// # Errors
    /// In [`RefusedIn`], with the response, and with the lead unless it is
    /// [`Stale`](ErrorKind::Stale): write another, or roll back.
    pub fn complete_in<T: Transaction>(
        self,
        tx: &mut T,
        response: Response,
    ) -> Result<Uncommitted<'t>, RefusedIn<'t>> {
        match self.write(tx, &response) {
            Ok(Settled::Done) => Ok(Uncommitted { claimed: self.claimed, response }),
            Ok(Settled::Stale) => {
                Err(RefusedIn { error: ErrorKind::Stale.into(), response, lead: None })
            }
            Err(error) => Err(RefusedIn { error, response, lead: Some(self) }),
        }
    }

    fn write<T: Transaction>(&self, tx: &mut T, response: &Response) -> Result<Settled, Error> {
        let Inside { shared, key, held, ttl, .. } = &*self.claimed;
        shared.check_response_len(response)?;
        tx.complete(the_store::<T>(shared)?, key, *held, response, *ttl)
    }
}

/// A completion that wasn't written. Nothing is lost.
#[derive(Debug)]
pub struct RefusedIn<'t> {
    /// Why.
    pub error: Error,
    /// The response, back.
    pub response: Response,
    /// The lead, if it is still live.
    pub lead: Option<LeadIn<'t>>,
}

impl From<RefusedIn<'_>> for Error {
    fn from(refused: RefusedIn<'_>) -> Self {
        refused.error
    }
}

impl fmt::Display for RefusedIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for RefusedIn<'_> {}

impl Uncommitted<'_> {
    /// Commits the caller's transaction, and shares the response with those who wait.
    ///
    /// If the answer to the commit is lost, the response is told to the store again, which knows whether
    /// it is there; and so are the caller's rows.
    ///
    /// # Errors
    /// The transaction's error if nothing was committed so far: a server that was cut off in the midst
    /// of it may still do so, and whoever begins again with the key learns that. [`Store`](ErrorKind::Store) if even that
    /// can't be found out: begin again with the key.
    pub fn commit<T: Transaction>(self, tx: T) -> Result<(), Error> {
        let Self { claimed, response } = self;
        let Inside { shared, turn, key, held, ttl } = *claimed;
        let fresh = shared.freshness(&key);
        if let Err(error) = tx.commit() {
            // Sent again outside the transaction, a completion that was committed is done, and one that
            // wasn't has no record to complete.
            let again = shared
                .persist(|store, deadline| store.complete(&key, held, &response, ttl, deadline))?;
            if again == Settled::Stale {
                return Err(error);
            }
        }
        // Forgotten meanwhile: who has come since asks anew.
        if fresh == shared.freshness(&key) {
            turn.answer(shared, Answer::Shared(response));
        }
        Ok(())
    }
}

/// The table's store, as transactions of that kind need it.
fn the_store<T: Transaction>(shared: &Shared) -> Result<&T::Store, Error> {
    let store: &dyn Any = &*shared.store;
    store.downcast_ref().ok_or_else(|| {
        Error::new(
            ErrorKind::Invalid,
            "the transaction is of another kind of store than the table's",
        )
    })
}

impl fmt::Debug for LeadIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeadIn").field("fence", &self.fence()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Uncommitted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uncommitted").field("response", &self.response).finish_non_exhaustive()
    }
}
