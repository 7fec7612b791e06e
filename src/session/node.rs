//! One entry point of a node for "in flight, done, stale": the replicated table, and who waits for what
//! on this node alone.
//!
//! | request | on the leader, [`submit`](Node::submit) |
//! |-|-|
//! | executed, or certain to be refused | answered at once, without the log |
//! | being proposed or applied here | joins, and gets the same outcome |
//! | otherwise | leads: proposes it, and waits until it is applied |
//!
//! A flight begins with a proposal and ends as its entry is applied, with that outcome; with
//! `Unknown` when this node stops leading, since the entry may or may not be in the log that survives.
//! A proposer whose time is up leaves, and the next in line proposes again: the table, not the flight,
//! is what keeps an entry that is logged twice from being executed twice. Nothing of this is replicated.
//!
//! Locks, none held while another is taken or user code runs: the sessions', the proposals'. A flight's
//! own stand in the [`DedupTable`].

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::{Applied, SessionBegin, SessionRequest, SessionTable, Snapshot};
use crate::error::{Error, ErrorKind};
use crate::response::Response;
use crate::sync::Mutex;
use crate::table::{Begin, DedupTable};

/// A [`SessionTable`] on one node of a cluster, with the callers that wait for its log.
///
/// Threads that serve clients [`submit`](Self::submit); the one that applies the log
/// [`apply`](Self::apply)s each entry, on every node. Whoever learns that this node no longer leads says
/// [`step_down`](Self::step_down). All methods may be called from any thread.
///
/// ```
/// use std::sync::mpsc;
/// use std::thread;
/// use std::time::Duration;
/// use onceflight::session::{Node, SessionRequest, SessionTable};
///
/// let node = Node::new(SessionTable::builder().build()?);
/// let request = SessionRequest::implicit(b"client", 1);
/// let (log, entries) = mpsc::channel();
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         for now in entries {
///             node.apply(&request, now, || (0, "done")).unwrap();
///         }
///     });
///     let propose = || -> Result<(), onceflight::Error> {
///         log.send(1_000).unwrap(); // to a log that gives it back to all nodes
///         Ok(())
///     };
///     let response = node.submit(&request, Duration::from_secs(9), propose)?;
///     assert_eq!(response.data(), b"done");
///     drop(log);
///     Ok::<(), onceflight::Error>(())
/// })?;
/// # Ok::<(), onceflight::Error>(())
/// ```
pub struct Node {
    sessions: Mutex<SessionTable>,
    flights: DedupTable<Vec<u8>, Outcome>,
    /// Who proposed which entry, and waits for it to be applied: the leader of each flight. By all of the
    /// request, since another payload or ack under the same number, logged elsewhere, may be applied first.
    proposals: Mutex<HashMap<Vec<u8>, Sender<Outcome>>>,
}

type Outcome = Result<Told, Error>;

/// What an applied entry has to say.
#[derive(Clone)]
enum Told {
    Response(Response),
    Incarnation(u64),
}

impl Node {
    /// Around the table of a new state machine, or of one that was restored.
    pub fn new(sessions: SessionTable) -> Self {
        let flights = DedupTable::new();
        Self { sessions: Mutex::new(sessions), flights, proposals: Mutex::new(HashMap::new()) }
    }

    /// On the leader: the outcome of a request, proposed by whoever comes first.
    ///
    /// `propose` appends it to the log and doesn't wait. Its `Err` says that the entry is certainly not
    /// in the log (this node doesn't lead, the log is full): then the next caller in line proposes, and
    /// this one gets that error. Where that isn't certain, it says `Ok`.
    ///
    /// # Errors
    /// Those of [`SessionTable::begin`] and [`record`](SessionTable::record), and of `propose`.
    /// [`Unknown`](ErrorKind::Unknown): this node stopped leading, and
    /// [`Timeout`](ErrorKind::Timeout): it wasn't applied in time. Of both the request may be executed
    /// or not: the client sends it again, with the same number.
    /// [`Overloaded`](ErrorKind::Overloaded): too many wait.
    pub fn submit<E: From<Error>>(
        &self,
        request: &SessionRequest<'_>,
        timeout: Duration,
        propose: impl FnOnce() -> Result<(), E>,
    ) -> Result<Response, E> {
        request.check()?;
        let known = || Some(self.sessions.lock().certain(request)?.map(Told::Response));
        let digest = request.digest.as_ref().map(|digest| &digest.as_bytes()[..]);
        let (flight, entry) = (key_of(request), entry_of(request));
        match self.through(&flight, &entry, digest, timeout, known, propose)? {
            Told::Response(response) => Ok(response),
            Told::Incarnation(_) => unreachable!("the keys of registrations are others"),
        }
    }

    /// On the leader: the incarnation that a registration gets, likewise.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`register`](SessionTable::register).
    pub fn submit_registration<E: From<Error>>(
        &self,
        client: &[u8],
        nonce: &[u8],
        timeout: Duration,
        propose: impl FnOnce() -> Result<(), E>,
    ) -> Result<u64, E> {
        super::check_name(client, "client")?;
        super::check_name(nonce, "nonce")?;
        // That it was registered isn't certain: it may have been again, since.
        let key = key_of_registration(client, nonce);
        match self.through(&key, &key, None, timeout, || None, propose)? {
            Told::Incarnation(incarnation) => Ok(incarnation),
            Told::Response(_) => unreachable!("the keys of requests are others"),
        }
    }

    fn through<E: From<Error>>(
        &self,
        flight: &[u8],
        entry: &[u8],
        digest: Option<&[u8]>,
        timeout: Duration,
        known: impl Fn() -> Option<Outcome>,
        propose: impl FnOnce() -> Result<(), E>,
    ) -> Result<Told, E> {
        if let Some(known) = known() {
            return Ok(known?);
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut request = self.flights.request(flight).timeout(timeout);
        if let Some(digest) = digest {
            request = request.fingerprint(digest);
        }
        let lead = match request.begin().map_err(in_flight)? {
            Begin::Lead(lead) => lead,
            Begin::Shared(outcome) | Begin::Replayed(outcome) => return Ok(outcome?),
            Begin::Bypass => unreachable!("nobody declines"),
        };
        let (proposal, applied) = bounded(1);
        self.proposals.lock().insert(entry.to_vec(), proposal);
        // It may have been applied since the first look: a flight that has just ended isn't joined.
        let mut outcome = known();
        if outcome.is_none() {
            if let Err(refused) = self.withdrawn_by_a_panic(entry, propose) {
                self.proposals.lock().remove(entry);
                lead.cancel()?;
                return Err(refused);
            }
            outcome = self.wait(entry, &applied, deadline);
        }
        let Some(outcome) = outcome else {
            // The next in line proposes; if there is none, nothing stays of it here.
            lead.cancel()?;
            return Err(not_in_time().into());
        };
        self.proposals.lock().remove(entry);
        lead.complete(outcome.clone()).map_err(Error::from)?;
        Ok(outcome?)
    }

    /// Until the entry is applied. `None`: not in time.
    fn wait(
        &self,
        entry: &[u8],
        applied: &Receiver<Outcome>,
        deadline: Option<Instant>,
    ) -> Option<Outcome> {
        let told = match deadline {
            Some(deadline) => applied.recv_deadline(deadline),
            None => applied.recv().map_err(RecvTimeoutError::from),
        };
        match told {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Disconnected) => Some(Err(not_leading())),
            // Whoever has taken the proposal away has something to tell, in the last moment.
            Err(RecvTimeoutError::Timeout) => match self.proposals.lock().remove(entry) {
                Some(_) => None,
                None => Some(applied.recv().unwrap_or_else(|_| Err(not_leading()))),
            },
        }
    }

    /// On every node: executes an entry of the log unless it was, as [`SessionTable::apply`] does, and
    /// tells those who wait for it here. The entries are applied one after the other; no lock is held
    /// while `execute` runs.
    ///
    /// # Errors
    /// As [`SessionTable::apply`].
    pub fn apply<D: AsRef<[u8]>>(
        &self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, D),
    ) -> Result<Applied, Error> {
        let entry = entry_of(request);
        let applied =
            self.withdrawn_by_a_panic(&entry, || self.apply_entry(request, now_ms, execute));
        let told = applied.as_ref().map(|it| Told::Response(it.response.clone()));
        self.tell(&entry, told.map_err(Error::clone));
        applied
    }

    fn apply_entry<D: AsRef<[u8]>>(
        &self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, D),
    ) -> Result<Applied, Error> {
        let begun = self.sessions.lock().begin(request, now_ms)?;
        match begun {
            SessionBegin::Replayed(response) => Ok(Applied { response, replayed: true }),
            SessionBegin::Lead => {
                let (status, data) = execute();
                let data = data.as_ref(); // the user's, and so before the lock
                let response = self.sessions.lock().record(request, status, data)?;
                Ok(Applied { response, replayed: false })
            }
        }
    }

    /// On every node: applies a registration, as [`SessionTable::register`] does, and tells those who
    /// wait for it here.
    ///
    /// # Errors
    /// As [`SessionTable::register`].
    pub fn apply_registration(
        &self,
        client: &[u8],
        nonce: &[u8],
        now_ms: u64,
    ) -> Result<u64, Error> {
        let incarnation = self.sessions.lock().register(client, nonce, now_ms);
        let key = key_of_registration(client, nonce);
        self.tell(&key, incarnation.clone().map(Told::Incarnation));
        incarnation
    }

    /// Calls what is the user's. Whoever waits for an entry that panics is told that nothing is known.
    fn withdrawn_by_a_panic<R>(&self, entry: &[u8], call: impl FnOnce() -> R) -> R {
        struct Panics<'a>(&'a Node, &'a [u8]);

        impl Drop for Panics<'_> {
            fn drop(&mut self) {
                let proposal = self.0.proposals.lock().remove(self.1);
                drop(proposal); // its channel says so
            }
        }

        let panics = Panics(self, entry);
        let result = call();
        std::mem::forget(panics);
        result
    }

    fn tell(&self, entry: &[u8], outcome: Outcome) {
        let proposal = self.proposals.lock().remove(entry);
        if let Some(proposal) = proposal {
            // It takes one, and whoever isn't there any more needs none.
            let _ = proposal.try_send(outcome);
        }
    }

    /// This node doesn't lead any more, or leads in another term: whoever waits is told
    /// [`Unknown`](ErrorKind::Unknown). Say it on every change of leadership or term, before the node
    /// proposes anew.
    pub fn step_down(&self) {
        let proposals = std::mem::take(&mut *self.proposals.lock());
        drop(proposals); // a channel that has lost its sender says so
    }

    /// [`SessionTable::keep_alive`], an entry of the log too.
    ///
    /// # Errors
    /// As there.
    pub fn keep_alive(&self, client: &[u8], incarnation: u64, now_ms: u64) -> Result<(), Error> {
        self.sessions.lock().keep_alive(client, incarnation, now_ms)
    }

    /// [`SessionTable::unregister`], an entry of the log too.
    ///
    /// # Errors
    /// As there.
    pub fn unregister(&self, client: &[u8]) -> Result<(), Error> {
        self.sessions.lock().unregister(client)
    }

    /// [`SessionTable::expire`], an entry of the log too.
    ///
    /// # Errors
    /// As there.
    pub fn expire(&self, now_ms: u64) -> Result<u64, Error> {
        self.sessions.lock().expire(now_ms)
    }

    /// [`SessionTable::freeze`]: entries are applied while the snapshot is written.
    ///
    /// # Errors
    /// As there.
    pub fn freeze(&self) -> Result<Snapshot, Error> {
        self.sessions.lock().freeze()
    }

    /// Takes a table that came from the leader's snapshot in place of this one, which is given back.
    /// Nobody waits on a node that needs one: [`step_down`](Self::step_down) first.
    pub fn install(&self, sessions: SessionTable) -> SessionTable {
        std::mem::replace(&mut *self.sessions.lock(), sessions)
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What follows the client's name has one length.
fn key_of(request: &SessionRequest<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(request.client.len() + 17);
    key.push(b'r');
    key.extend_from_slice(request.client);
    key.extend_from_slice(&request.incarnation.to_le_bytes());
    key.extend_from_slice(&request.seq.to_le_bytes());
    key
}

fn key_of_registration(client: &[u8], nonce: &[u8]) -> Vec<u8> {
    let len = u32::try_from(client.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&b"c"[..], &len, client, nonce].concat()
}

/// All of a request; the last byte tells whether there is a digest.
fn entry_of(request: &SessionRequest<'_>) -> Vec<u8> {
    let mut entry = key_of(request);
    entry.extend_from_slice(&request.ack.to_le_bytes());
    if let Some(digest) = &request.digest {
        entry.extend_from_slice(digest.as_bytes());
    }
    entry.push(request.digest.is_some().into());
    entry
}

/// Why a flight couldn't be joined, in the words of sessions.
fn in_flight(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Mismatch => ErrorKind::Conflict.into(),
        ErrorKind::Timeout => not_in_time(),
        _ => error,
    }
}

fn not_in_time() -> Error {
    let detail = "it wasn't applied in time, and may still be: send it again, with the same number";
    Error::new(ErrorKind::Timeout, detail)
}

fn not_leading() -> Error {
    let detail = "this node stopped leading: it may be executed or not; send it again, with the same number, to the next leader";
    Error::new(ErrorKind::Unknown, detail)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("sessions", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster without a majority, and clients that go elsewhere.
    #[test]
    fn a_request_that_is_given_up_leaves_nothing() {
        let node = Node::new(SessionTable::builder().build().unwrap());
        for seq in 1..=100 {
            let request = SessionRequest::implicit(b"a", seq);
            let told = node.submit(&request, Duration::ZERO, || Ok::<(), Error>(()));
            assert_eq!(ErrorKind::Timeout, told.unwrap_err().kind());
        }
        assert_eq!((0, 0), (node.flights.stats().in_flight, node.proposals.lock().len()));
    }
}
