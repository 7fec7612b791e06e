//! Records in memcached: look, decide, write on a condition.
//!
//! A record is one item, under `onceflight:` and its id in hexadecimal; what stands in it is in
//! `item`. Of memcached's commands only two are safe, and nothing else is used to write: `add`, which
//! fails if there is an item, and `cas`, which fails if it has changed since it was read. Every verb is
//! a loop: look, decide, write on the condition that nothing has changed meanwhile.
//!
//! The first look is spared where it is known what it would show, and the condition says whether that was
//! right: a claim takes the key for vacant, and sends its `add` and a look together; a settle begins from
//! what its claim wrote ([`leads`]). So a claim is one round trip, unless it succeeds another's record, and
//! the completion one more.
//!
//! | step | by |
//! |-|-|
//! | none → in progress | `add` |
//! | in progress → in progress (renewed, checkpoint, abandoned, taken over), completed, released | `cas` |
//! | completed and expired, released, gone → in progress | `cas` |
//! | in progress → the same, with a mark that somebody waits | `cas`, once a lead |
//! | any → gone (cancelled, forgotten, evicted): an item that says so | `cas`; a delete can't have a condition |
//! | any → none | the server, when it is told to (see below), or when it needs the room |

mod claim;
mod item;
mod leads;
mod news;
mod seen;
mod servers;
mod wall;
mod wire;

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::item::{Flaw, Item, span};
use self::leads::{Lead, Leads};
use self::news::Watch;
use self::seen::{Seen, Version};
use self::servers::Servers;
use self::wire::Found;
use super::pool::Failure;
use super::{
    Claim, Claimed, Held, News, Record, RecordId, RecordKey, RecordState, Release, Response,
    Settled, Store, Token,
};
use crate::clock::{self, Moment, Span};
use crate::error::{Error, ErrorKind};

/// Records on one or several memcached servers: for work where doing it twice now and then is no harm.
///
/// It may be used from any thread, and not in the child of a fork. A new lead's claim costs one round trip
/// and its completion one; a replay or a refusal one; other calls two.
///
/// # Weaker than other stores
///
/// - **A record may vanish**: the server is restarted, or evicts it for room. Its key is vacant then,
///   while its lead still works. Have memory enough, and watch the server's `evictions`.
/// - **Epochs are as good as clocks**: the greater of the last one + 1 and the microseconds since 1970.
///   They go back if an item vanished and the clock was put back.
/// - **Retention goes by wall clocks**, those of whoever completes and whoever asks; and by the
///   server's, which drops an item some seconds after it expired. Beyond 30 days memcached knows only
///   absolute times.
/// - **A lease is waited for by each observer**: it has passed when the lead has said nothing for so
///   long by the observer's own monotonic clock. So a takeover comes up to one lease later
///   than elsewhere, but no process's clock is compared with another's, and setting one, the server's
///   included, ends no lease. What was abandoned is taken over at once.
/// - **News are a poll**, 2 to 8 ms apart.
/// - **No `list`** (memcached has no index), and nothing to `purge`. A record, its key and checkpoint
///   included, is at most as large as the server's item: 1 MiB by default.
///
/// # Several servers
///
/// Each record lives on one: that whose name and the record's id have the greatest common fingerprint
/// (rendezvous hashing; a function that never changes). All processes must name the same servers in the
/// same words, in any order. A server that is down is an error for the records on it: were they looked
/// for on another, those that it still has would lead twice. Adding or removing a server moves only the
/// records that it gets or had; do it when nothing is in progress. Servers are connected to directly: behind a
/// proxy a restart would go unseen, and a lead that it lost might settle another's record.
pub struct MemcachedStore {
    servers: Servers,
    leads: Leads,
    seen: Seen,
    watch: Arc<Watch>,
}

impl MemcachedStore {
    /// The servers of `memcached://HOST:PORT,HOST:PORT,…`, where a port of 11211 may be left out.
    ///
    /// Nothing is connected until the first call. Names are resolved by the system, whose own time
    /// limit is then a call's: use addresses where deadlines matter.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): no such URL. [`Unsupported`](ErrorKind::Unsupported): it has a
    /// user or a password.
    pub fn open(url: &str) -> Result<Self, Error> {
        let servers = Servers::of(url)?;
        let (leads, seen) = (Leads::default(), Seen::default());
        Ok(Self { servers, leads, seen, watch: Arc::default() })
    }

    /// At most so many connections to each server (16 unless said); further calls wait their turn.
    #[must_use]
    pub fn with_max_connections(mut self, max: usize) -> Self {
        self.servers.set_max(max);
        self
    }

    /// Looks at a record, has `decide` say what follows from it, and writes that if nothing has changed
    /// meanwhile; else again. All of it is done twice if a connection turns out to be dead.
    fn turn<T>(
        &self,
        key: &RecordKey,
        deadline: Instant,
        mut first: First,
        decide: impl Fn(Result<Option<Seeing<'_>>, Error>) -> Result<Turn<T>, Error>,
    ) -> Result<T, Error> {
        let name = format!("onceflight:{}", key.id());
        self.servers.of_record(key.id()).with(deadline, |connection| {
            connection.end_by(deadline);
            let (mut asked, mut found) = match mem::replace(&mut first, First::Look) {
                First::Led(lead) if connection.opened <= lead.since => (None, Some(lead.found)),
                First::Vacant => (Some(clock::now()), None),
                _ => (Some(clock::now()), connection.get(&name)?),
            };
            loop {
                let seeing = match &found {
                    Some(found) => self.see(key, found, asked).map(Some),
                    None => Ok(None),
                };
                let write = match decide(seeing).map_err(Failure::Refused)? {
                    Turn::Answer(answer) => return Ok(answer),
                    Turn::Write(write) => write,
                };
                let Write { value, exptime, held, answer } = write;
                let since = clock::now();
                let (written, there) = connection.put(&name, &value, exptime, found.as_ref())?;
                if written {
                    // It isn't what was written if somebody was there already, to mark or to evict it.
                    if let Some(found) = there.filter(|there| there.value == value) {
                        self.leads.keep(held, Lead { found, since });
                    }
                    return Ok(answer);
                }
                (asked, found) = (Some(since), there);
            }
        })
    }

    /// A record as an answer has it to what was asked then; or as it is only remembered.
    fn see<'a>(
        &self,
        key: &RecordKey,
        found: &'a Found,
        asked: Option<Moment>,
    ) -> Result<Seeing<'a>, Error> {
        let decode = if asked.is_some() { Item::decode } else { Item::own };
        let item = decode(&found.value).map_err(|flaw| unreadable(key.id(), flaw))?;
        key.check(item.scope, item.key)?;
        let version = Version { epoch: item.held.epoch, beat: item.beat };
        let unchanged = match (asked, item.state) {
            // Others here may have seen a successor's since.
            (None, _) => 0,
            (Some(asked), Some(RecordState::InProgress)) => {
                self.seen.unchanged(key.id(), version, asked)
            }
            _ => {
                self.seen.forget(key.id());
                0
            }
        };
        Ok(Seeing { item, unchanged })
    }

    /// Changes the record of a lead that is still that key's. What has reached its goal by an earlier
    /// call is done.
    fn settle(
        &self,
        key: &RecordKey,
        held: Held,
        goal: RecordState,
        deadline: Instant,
        change: impl Fn(Item<'_>) -> Turn<Settled>,
    ) -> Result<Settled, Error> {
        self.servers.check_fork()?;
        let first = self.leads.take(held).map_or(First::Look, First::Led);
        let settled = self.turn(key, deadline, first, |seeing| {
            let Some(Seeing { item, .. }) = seeing?.filter(Seeing::exists) else {
                let gone = goal == RecordState::Released;
                return Ok(Turn::Answer(if gone { Settled::Done } else { Settled::Stale }));
            };
            if item.held != held {
                let abandoned = item.held == Held { token: Token::NOBODY, ..held };
                let done = abandoned && goal == RecordState::Released;
                return Ok(Turn::Answer(if done { Settled::Done } else { Settled::Stale }));
            }
            Ok(match item.state {
                Some(RecordState::InProgress) => change(item),
                state if state == Some(goal) => Turn::Answer(Settled::Done),
                _ => Turn::Answer(Settled::Stale),
            })
        })?;
        if settled == Settled::Done {
            // It is this object's own: nobody here waits for its lease to pass.
            self.seen.forget(key.id());
        }
        Ok(settled)
    }
}

/// What a turn begins with.
enum First {
    /// A look.
    Look,
    /// That there is nothing.
    Vacant,
    /// What the lead wrote.
    Led(Lead),
}

/// A record as it was found.
struct Seeing<'a> {
    item: Item<'a>,
    /// For how long it has surely been so, if it is in progress.
    unchanged: Span,
}

impl Seeing<'_> {
    fn exists(&self) -> bool {
        self.item.state.is_some()
    }

    fn is_expired(&self) -> bool {
        self.item.is_expired(self.unchanged)
    }
}

/// What follows from a record as it was found.
enum Turn<T> {
    Answer(T),
    Write(Write<T>),
}

/// A record to be written, and what to answer once it is.
struct Write<T> {
    value: Vec<u8>,
    exptime: i32,
    /// Whose it is then.
    held: Held,
    answer: T,
}

impl<T> Turn<T> {
    fn write(item: &Item<'_>, answer: T) -> Self {
        let (value, exptime, held) = (item.encode(), item.exptime(), item.held);
        Self::Write(Write { value, exptime, held, answer })
    }
}

fn unreadable(id: RecordId, flaw: Flaw) -> Error {
    Error::store(match flaw {
        Flaw::Corrupt => {
            format!("record {id} is corrupt, or another program's; look at it, then evict it")
        }
        Flaw::Version(version) => format!(
            "record {id} has format {version}, which this release of onceflight doesn't know; use a newer one"
        ),
    })
}

impl Store for MemcachedStore {
    fn claim(
        &self,
        key: &RecordKey,
        claim: &Claim<'_>,
        deadline: Instant,
    ) -> Result<Claimed, Error> {
        // Who follows knows that there is something.
        let first = if claim.following.is_some() { First::Look } else { First::Vacant };
        let claimed =
            self.turn(key, deadline, first, |seeing| Ok(claim::decide(key, claim, seeing?)))?;
        if matches!(claimed, Claimed::InProgress { .. }) && claim.watch && claim.following.is_none()
        {
            self.watch.begin();
        }
        Ok(claimed)
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        self.settle(key, held, RecordState::InProgress, deadline, |item| {
            let item = Item { lease: span(lease), beat: item.beat.wrapping_add(1), ..item };
            Turn::write(&item, Settled::Done)
        })
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Settled, Error> {
        self.settle(key, held, RecordState::InProgress, deadline, |item| {
            let item = Item { checkpoint: Some(data), beat: item.beat.wrapping_add(1), ..item };
            Turn::write(&item, Settled::Done)
        })
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        self.settle(key, held, RecordState::Completed, deadline, |item| {
            let item = Item {
                state: Some(RecordState::Completed),
                expires: wall::after(ttl),
                status: response.status(),
                body: Some(response.data()),
                checkpoint: None,
                watched: false,
                ..item
            };
            Turn::write(&item, Settled::Done)
        })
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        self.settle(key, held, RecordState::Released, deadline, |item| {
            let stays = item.watched || item.checkpoint.is_some();
            let item = Item { watched: false, ..item };
            let item = match release {
                // A lease of nothing has passed for whoever looks. And it is nobody's: a renewal that was
                // under way must not revive it.
                Release::Abandon => {
                    Item { held: Held { token: Token::NOBODY, ..held }, lease: 0, ..item }
                }
                Release::Cancel { successor, keep } if successor || stays => {
                    let expires = wall::after(keep);
                    Item { state: Some(RecordState::Released), expires, ..item }
                }
                Release::Cancel { .. } => Item::gone(key, item.held),
            };
            Turn::write(&item, Settled::Done)
        })
    }

    fn withdraw(&self, key: &RecordKey, token: Token, deadline: Instant) -> Result<(), Error> {
        let lead = self.turn(key, deadline, First::Look, |seeing| {
            let Some(Seeing { item, .. }) = seeing? else {
                // The claim may still be on its way, to a server that has been frozen: its `add` then fails.
                return Ok(Turn::write(&Item::gone(key, Held { token, epoch: 0 }), None));
            };
            Ok(Turn::Answer(
                Some((item.attempt, item.held)).filter(|(_, held)| held.token == token),
            ))
        })?;
        if let Some((attempt, held)) = lead {
            let _ = self.release(key, held, Release::of_withdrawn(attempt), deadline)?;
        }
        Ok(())
    }

    fn forget(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        self.turn(key, deadline, First::Look, |seeing| {
            let Some(seeing) = seeing?.filter(Seeing::exists) else {
                return Ok(Turn::Answer(false));
            };
            Ok(match seeing.item.state {
                Some(RecordState::InProgress) => Turn::Answer(false),
                _ => Turn::write(&Item::gone(key, seeing.item.held), !seeing.is_expired()),
            })
        })
    }

    fn read(&self, key: &RecordKey, deadline: Instant) -> Result<Option<Record>, Error> {
        self.turn(key, deadline, First::Look, |seeing| {
            let live = seeing?.filter(|seeing| !seeing.is_expired());
            Ok(Turn::Answer(live.and_then(|Seeing { item, unchanged }| {
                Some(Record {
                    key: key.clone(),
                    state: item.state?,
                    fingerprint: item.fingerprint.map(Into::into),
                    epoch: item.held.epoch,
                    attempt: item.attempt,
                    lease_left: item.lease_left(unchanged),
                    expires_in: item.expires_in(unchanged),
                    response: item.response(),
                    checkpoint: item.checkpoint.map(Into::into),
                })
            })))
        })
    }

    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), always.
    fn list(
        &self,
        _: &[u8],
        _: Option<RecordId>,
        _: usize,
        _: Instant,
    ) -> Result<Vec<Record>, Error> {
        self.servers.check_fork()?;
        Err(Error::new(
            ErrorKind::Unsupported,
            "memcached has no index to list records by; read them by their keys",
        ))
    }

    /// Whatever stands there, readable or not.
    fn evict(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        self.turn(key, deadline, First::Look, |seeing| {
            let held = match seeing {
                Ok(seeing) => seeing.filter(Seeing::exists).map(|seeing| seeing.item.held),
                Err(_) => Some(Held { token: Token::NOBODY, epoch: wall::now() }),
            };
            Ok(held.map_or(Turn::Answer(false), |held| Turn::write(&Item::gone(key, held), true)))
        })
    }

    /// Nothing: the server drops what has expired.
    fn purge(&self, _: usize, _: Instant) -> Result<usize, Error> {
        self.servers.check_fork()?;
        Ok(0)
    }

    fn listen(&self, _: Instant) -> Result<Box<dyn News>, Error> {
        self.servers.check_fork()?;
        Ok(Box::new(self.watch.poll()))
    }
}

impl fmt::Debug for MemcachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedStore").field("servers", &self.servers).finish_non_exhaustive()
    }
}
