//! Exactly-once through retries and changes of leader: the sessions of a replicated state machine.
//!
//! A client numbers its requests; the state machine keeps, for each client, the replies to the last
//! few. It lives *in* the state machine: every replica applies the same log to it, so whoever leads
//! next answers a retry with the reply of the first execution. The scheme is that of the Raft
//! dissertation (Ongaro, 2014, section 6.3), with the acknowledgements and definite refusals of RIFL
//! (Lee and others, 2015).
//!
//! From the outside in: this file has the verbs, with `builder` and `request`; `entry` is what leads,
//! `client` one client's window, `ring` and `reply` what it holds, `roster` who has a session and in what order
//! they were used, `snapshot` and `codec` the format, `save` the rows of a database. [`Node`] joins what
//! is in flight, on the leader alone, to what is replicated. With the feature `sqlite`,
//! `DurableSessions` is the whole for one machine.
//!
//! | session | begin | register, same nonce | register, other nonce | unregister | time passes, or no room |
//! |-|-|-|-|-|-|
//! | none | `Expired`; implicit, seq 1: a session, leads | a session | a session | `Expired` | – |
//! | there, lower incarnation than asked for | `Expired` | | | | |
//! | there, higher incarnation | `Fenced` | | | | |
//! | there, this incarnation | by the [window](SessionTable::begin) | the same incarnation | the next incarnation, an empty window | none | none |
//!
//! What always holds:
//! - Nothing here reads a clock, draws a number or does I/O, and no hash order shows: the same calls
//!   give the same answers and the same snapshot, byte by byte, on every replica.
//! - Logical time never goes back, and is looked at before anything else: what has expired by then is
//!   gone, whoever asks.
//! - Between a begin that leads and its record there is nothing else: the entry is open, and every
//!   other change is refused.
//! - A number that was executed is never executed again while its session lives: what is known of it is
//!   a reply, a tombstone, or that it is below the floor.

mod builder;
mod client;
mod codec;
mod entry;
mod name;
mod node;
mod reply;
mod request;
mod ring;
mod roster;
mod save;
mod snapshot;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;

pub use builder::Builder;
pub use node::Node;
pub use request::SessionRequest;
pub use save::Save;
pub use snapshot::Snapshot;
#[cfg(feature = "sqlite")]
pub use sqlite::DurableSessions;

use builder::Limits;
use client::Session;
use entry::{Entered, Open, Place};
use reply::Reply;
use roster::{Roster, Slot};
use save::Changes;

use crate::error::{Error, ErrorKind};
use crate::response::Response;

/// The longest name of a client, and the longest nonce, in bytes.
pub const MAX_NAME: usize = 255;

/// The sessions of a replicated state machine: what was executed, and what was said to it.
///
/// A part of the state machine, changed by its log alone; see the [module](self) for what it has to
/// be. Changes take `&mut self`; [`peek`](Self::peek) may be called from any number of threads between
/// them.
///
/// ```
/// use onceflight::SessionTable;
/// use onceflight::session::SessionRequest;
///
/// let mut sessions = SessionTable::builder().window(8).build()?;
/// let mut balance = 0;
///
/// // Each of these is an entry of the log, with the time that the leader gave it.
/// let incarnation = sessions.register("client", "a nonce", 1_000)?;
/// let request = SessionRequest::new(b"client", incarnation, 1);
/// for now in [2_000, 3_000] {
///     let applied = sessions.apply(&request, now, || {
///         balance += 10;
///         (0, balance.to_string())
///     })?;
///     assert_eq!(applied.response.data(), b"10"); // of the retry too
/// }
/// assert_eq!(balance, 10);
/// # Ok::<(), onceflight::Error>(())
/// ```
pub struct SessionTable {
    limits: Limits,
    roster: Roster,
    /// Logical time, in milliseconds.
    clock: u64,
    /// No session expires before.
    due: u64,
    /// The last incarnation.
    registrations: u64,
    /// The data of all replies.
    bytes: u64,
    open: Option<Open>,
    changes: Option<Changes>,
}

/// What [`SessionTable::begin`] found.
#[must_use = "what leads must be recorded: until then nothing else can be changed"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionBegin {
    /// It wasn't executed: do it now, then [`record`](SessionTable::record).
    Lead,
    /// It was, with this response.
    Replayed(Response),
}

/// What [`SessionTable::apply`] ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the client is told.
    pub response: Response,
    /// Whether it was executed earlier.
    pub replayed: bool,
}

/// A session, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo<'a> {
    /// Whose it is.
    pub client: &'a [u8],
    /// Which of the table's registrations.
    pub incarnation: u64,
    /// When it was used last, in milliseconds of the log's time.
    pub last_used_ms: u64,
    /// The lowest number that isn't acknowledged.
    pub floor: u64,
    /// How many replies it holds.
    pub replies: usize,
    /// The bytes of their data.
    pub bytes: u64,
}

impl SessionTable {
    /// Sets up a table.
    pub fn builder() -> Builder {
        Builder(Limits::default())
    }

    fn empty(limits: Limits) -> Self {
        Self {
            limits,
            roster: Roster::new(),
            clock: 0,
            due: u64::MAX,
            registrations: 0,
            bytes: 0,
            open: None,
            changes: None,
        }
    }

    /// A session for `client`, and its incarnation, which no other has had. Both names are bytes.
    ///
    /// The same nonce again is the same request again, and is answered the same. Another one is
    /// another life of that client: what the earlier one still has under way is `Fenced` from then on.
    /// Draw it at random for each. Only the last nonce is known: a late copy of an earlier registration
    /// is another life too, and the client that it fences registers again.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge): a name of more than [`MAX_NAME`] bytes.
    /// [`Invalid`](ErrorKind::Invalid): an entry is open.
    pub fn register(
        &mut self,
        client: impl AsRef<[u8]>,
        nonce: impl AsRef<[u8]>,
        now_ms: u64,
    ) -> Result<u64, Error> {
        let (client, nonce) = (client.as_ref(), nonce.as_ref());
        check_name(client, "client")?;
        check_name(nonce, "nonce")?;
        self.check_closed()?;
        self.advance(now_ms);
        if let Some(slot) = self.roster.find(client) {
            let session = self.roster.get(slot);
            if session.nonce.as_ref().is_some_and(|it| it.get() == nonce) {
                let incarnation = session.incarnation;
                self.touch(slot);
                return Ok(incarnation);
            }
            self.remove(slot);
        }
        Ok(self.admit(client, Some(nonce)).1)
    }

    /// Whether this request is to be executed now, or what was said to it.
    ///
    /// In this order: what has expired by `now_ms` goes; the session is found, and counts as used; the
    /// floor rises to the request's ack; and then
    ///
    /// | seq | answer |
    /// |-|-|
    /// | below the floor | [`SeqStale`](ErrorKind::SeqStale): the client has acknowledged it |
    /// | floor + W or above | [`WindowFull`](ErrorKind::WindowFull) |
    /// | executed, with another digest | [`Conflict`](ErrorKind::Conflict) |
    /// | executed, the response couldn't be kept | [`TooLarge`](ErrorKind::TooLarge) |
    /// | executed | [`Replayed`](SessionBegin::Replayed) |
    /// | not executed, in whatever order they come | [`Lead`](SessionBegin::Lead) |
    ///
    /// # Errors
    /// Those, none of which executes anything, and before them
    /// [`Expired`](ErrorKind::Expired), [`Fenced`](ErrorKind::Fenced) by the session,
    /// [`Malformed`](ErrorKind::Malformed): a seq of 0 or `u64::MAX`, an ack above the seq, or a client's
    /// name that none can have; [`Invalid`](ErrorKind::Invalid): an entry is open.
    #[inline]
    pub fn begin(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
    ) -> Result<SessionBegin, Error> {
        Ok(match self.enter(request, now_ms)? {
            Entered::Lead(mut place) => {
                place.open(request);
                SessionBegin::Lead
            }
            Entered::Replayed(response) => SessionBegin::Replayed(response),
        })
    }

    /// Begins, and stays in the session.
    #[inline(always)]
    fn enter(&mut self, request: &SessionRequest<'_>, now_ms: u64) -> Result<Entered<'_>, Error> {
        self.check_closed()?;
        request.check()?;
        self.advance(now_ms);
        let slot = self.find_or_admit(request)?;
        self.changed(slot);
        let window = self.limits.window;
        let session = self.roster.touch(slot, self.clock);
        let seq = request.seq;
        let ack = match request.ack {
            0 if session.nonce.is_none() => (seq + 1).saturating_sub(window.into()),
            ack => ack,
        };
        let (gone, spare) = session.raise_floor(ack);
        self.bytes -= gone;
        if let Some(reply) = session.look(seq, window)? {
            return reply.tell(request.digest.as_ref()).map(Entered::Replayed);
        }
        let (limits, open) = (&self.limits, &mut self.open);
        Ok(Entered::Lead(Place { slot, session, limits, spare, open }))
    }

    #[inline(always)]
    fn find_or_admit(&mut self, request: &SessionRequest<'_>) -> Result<Slot, Error> {
        let SessionRequest { client, incarnation, seq, .. } = *request;
        match self.roster.find(client) {
            Some(slot) => self.roster.get(slot).check(incarnation).map(|()| slot),
            None if incarnation == 0 && seq == 1 => Ok(self.admit(client, None).0),
            None => Err(ErrorKind::Expired.into()),
        }
    }

    /// What the open entry, which is of this request, was executed with; it is closed in any case.
    ///
    /// What was said to the client must be what is said to a retry: answer it with this result. Where
    /// all responses together are more than `max_bytes`, sessions go whose last use is the longest ago.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge): the response is longer than `max_response_len`, or the
    /// session has no room for it; that it was executed is remembered.
    /// [`Invalid`](ErrorKind::Invalid): no entry of this request is open; nothing is changed.
    #[inline]
    pub fn record(
        &mut self,
        request: &SessionRequest<'_>,
        status: i32,
        data: &[u8],
    ) -> Result<Response, Error> {
        let open = self.open.take_if(|open| {
            open.seq == request.seq
                && open.incarnation == request.incarnation
                && self.roster.get(open.slot).is_of(request.client)
        });
        let Open { slot, seq, digest, spare, .. } = open.ok_or_else(not_open)?;
        let (limits, session) = (&self.limits, self.roster.get_mut(slot));
        let place = Place { slot, session, limits, spare, open: &mut self.open };
        let response = place.answer(seq, digest.as_ref(), status, data)?;
        self.make_room_for(&response);
        Ok(response)
    }

    /// Executes a request unless it was: [`begin`](Self::begin), `execute` and
    /// [`record`](Self::record) in one. `execute` gives a status of your choosing, and the data.
    ///
    /// If it panics, the entry stays open, and the table is of no more use: the state machine may be
    /// half changed.
    ///
    /// # Errors
    /// Those of the two.
    pub fn apply<D: AsRef<[u8]>>(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, D),
    ) -> Result<Applied, Error> {
        match self.enter(request, now_ms)? {
            Entered::Replayed(response) => Ok(Applied { response, replayed: true }),
            Entered::Lead(mut place) => {
                let executing = place.executing(request);
                let (status, data) = execute();
                let data = data.as_ref();
                std::mem::forget(executing);
                let response = place.answer(request.seq, request.digest.as_ref(), status, data)?;
                self.make_room_for(&response);
                Ok(Applied { response, replayed: false })
            }
        }
    }

    /// What was said to a request, if it was executed here: for a leader, which so answers a retry
    /// without the log. Changes nothing.
    ///
    /// `None`: nothing is known of it here; propose it. Where the log is ahead of what is applied here,
    /// only a response, [`SeqStale`](ErrorKind::SeqStale) and [`Fenced`](ErrorKind::Fenced) are
    /// certain; a session that isn't there may be on its way.
    ///
    /// # Errors
    /// [`Expired`](ErrorKind::Expired), [`Fenced`](ErrorKind::Fenced),
    /// [`SeqStale`](ErrorKind::SeqStale), [`TooLarge`](ErrorKind::TooLarge).
    pub fn peek(
        &self,
        client: impl AsRef<[u8]>,
        incarnation: u64,
        seq: u64,
    ) -> Result<Option<Response>, Error> {
        let Some(slot) = self.roster.find(client.as_ref()) else {
            // A first request of the implicit form makes its session.
            let first = incarnation == 0 && seq == 1;
            return if first { Ok(None) } else { Err(ErrorKind::Expired.into()) };
        };
        let session = self.roster.get(slot);
        session.check(incarnation)?;
        match session.look(seq, self.limits.window) {
            // What the client has acknowledged since isn't known here.
            Err(error) if error.kind() == ErrorKind::WindowFull => Ok(None),
            Err(error) => Err(error),
            Ok(reply) => reply.map(Reply::response).transpose(),
        }
    }

    /// What is certain about a request, whatever of the log isn't applied yet.
    fn certain(&self, request: &SessionRequest<'_>) -> Option<Result<Response, Error>> {
        let session = self.roster.get(self.roster.find(request.client)?);
        let known = session
            .check(request.incarnation)
            .and_then(|()| session.look(request.seq, self.limits.window));
        match known {
            Ok(reply) => reply.map(|reply| reply.tell(request.digest.as_ref())),
            Err(error) => match error.kind() {
                ErrorKind::Fenced | ErrorKind::SeqStale => Some(Err(error)),
                _ => None,
            },
        }
    }

    /// Keeps a session from expiring.
    ///
    /// # Errors
    /// [`Expired`](ErrorKind::Expired), [`Fenced`](ErrorKind::Fenced),
    /// [`Invalid`](ErrorKind::Invalid): an entry is open.
    pub fn keep_alive(
        &mut self,
        client: impl AsRef<[u8]>,
        incarnation: u64,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.check_closed()?;
        self.advance(now_ms);
        let slot = self.roster.find(client.as_ref()).ok_or(ErrorKind::Expired)?;
        self.roster.get(slot).check(incarnation)?;
        self.touch(slot);
        Ok(())
    }

    /// Ends a client's session, whichever incarnation it is.
    ///
    /// # Errors
    /// [`Expired`](ErrorKind::Expired): there is none. [`Invalid`](ErrorKind::Invalid): an entry is
    /// open.
    pub fn unregister(&mut self, client: impl AsRef<[u8]>) -> Result<(), Error> {
        self.check_closed()?;
        let slot = self.roster.find(client.as_ref()).ok_or(ErrorKind::Expired)?;
        self.remove(slot);
        Ok(())
    }

    /// Ends the sessions whose timeout has passed by then; how many. Every other change does so too;
    /// this is for times when there is none.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): an entry is open.
    pub fn expire(&mut self, now_ms: u64) -> Result<u64, Error> {
        self.check_closed()?;
        let before = self.roster.len();
        self.advance(now_ms);
        Ok((before - self.roster.len()) as u64)
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The log's time, in milliseconds: the highest that a change came with.
    pub fn now_ms(&self) -> u64 {
        self.clock
    }

    /// The bytes of all responses' data.
    pub fn response_bytes(&self) -> u64 {
        self.bytes
    }

    /// All sessions, in the order of their last use.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo<'_>> {
        self.roster.by_use().map(|session| SessionInfo {
            client: session.client(),
            incarnation: session.incarnation,
            last_used_ms: session.last_used,
            floor: session.floor(),
            replies: session.replies().count(),
            bytes: session.bytes(),
        })
    }

    fn check_closed(&self) -> Result<(), Error> {
        if self.open.is_some() { Err(is_open()) } else { Ok(()) }
    }

    /// Moves the log's time on, and ends what has expired by then.
    #[inline]
    fn advance(&mut self, now_ms: u64) {
        self.clock = self.clock.max(now_ms);
        if self.clock >= self.due {
            self.expire_due();
        }
    }

    #[cold]
    fn expire_due(&mut self) {
        self.due = u64::MAX;
        while let Some(slot) = self.roster.oldest() {
            let due = self.expiry(self.roster.get(slot).last_used);
            if self.clock < due || due == u64::MAX {
                // Of all that are used later, none expires earlier.
                self.due = due;
                return;
            }
            self.remove(slot);
        }
    }

    /// When a session used at that time expires. Time has an end, and sessions that are to stay don't
    /// see it.
    fn expiry(&self, last_used: u64) -> u64 {
        last_used.saturating_add(self.limits.timeout)
    }

    /// A new session, as the one used last.
    #[cold]
    fn admit(&mut self, client: &[u8], nonce: Option<&[u8]>) -> (Slot, u64) {
        while self.roster.len() >= self.limits.max_sessions as usize {
            let Some(oldest) = self.roster.oldest() else { break };
            self.remove(oldest);
        }
        self.registrations += 1;
        let slot = self.roster.insert(Session::new(client, nonce, self.registrations));
        self.due = self.due.min(self.expiry(self.clock));
        self.touch(slot);
        (slot, self.registrations)
    }

    fn touch(&mut self, slot: Slot) {
        self.changed(slot);
        self.roster.touch(slot, self.clock);
    }

    /// Its row is to be saved.
    #[inline]
    fn changed(&mut self, slot: Slot) {
        if let Some(changes) = &mut self.changes {
            changes.changed(slot);
        }
    }

    fn remove(&mut self, slot: Slot) {
        let session = self.roster.remove(slot);
        self.bytes -= session.bytes();
        if let Some(changes) = &mut self.changes {
            changes.removed(session.into_client());
        }
    }

    /// The session that has just recorded it is the last to go, and never has more than `max_bytes`.
    #[inline]
    fn make_room_for(&mut self, response: &Response) {
        self.bytes += response.data().len() as u64;
        while self.bytes > self.limits.max_bytes {
            let Some(oldest) = self.roster.oldest() else { break };
            self.remove(oldest);
        }
    }
}

fn check_name(name: &[u8], what: &str) -> Result<(), Error> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    let detail = format!("a {what} of {} bytes; {MAX_NAME} are allowed", name.len());
    Err(Error::new(ErrorKind::TooLarge, detail))
}

#[cold]
fn is_open() -> Error {
    let detail = "an entry is open: record what it was executed with first";
    Error::new(ErrorKind::Invalid, detail)
}

#[cold]
fn not_open() -> Error {
    let detail = "no entry of this client, incarnation and sequence number is open: begin it first";
    Error::new(ErrorKind::Invalid, detail)
}

impl fmt::Debug for SessionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionTable")
            .field("sessions", &self.len())
            .field("now_ms", &self.clock)
            .field("response_bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
