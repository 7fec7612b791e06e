//! Records in Redis (6 or newer), or in a Redis Cluster.
//!
//! Each verb is one script, which the server runs as one atomic step, and one round trip: a claim, a
//! replay, a settle. Times are the server's own clock.
//!
//! A record is a string under `onceflight:{7f}:7f2a…`: the record's id in hexadecimal digits, the first
//! two of which also say in which of 256 partitions it stands, and are the hash tag of a cluster. Beside
//! them is `onceflight:{7f}:epoch`, the last epoch of the partition's records, which stays for ever.
//!
//! | bytes | meaning |
//! |-|-|
//! | 1 | the format: `2` (1 was a hash) |
//! | 1 | the state: `P` in progress, `C` completed, `R` released |
//! | 1 | `1` if somebody waits elsewhere, else `0` |
//! | 4 | status of the response |
//! | 4, 4, 4 | the lengths of the last three parts; of the rest -1 if there is none |
//! | 8 | epoch of the last lead |
//! | 16 | its token |
//! | 4 | its attempt |
//! | 8 | until when no other may lead, in µs since 1970; -1: no lease. Abandoned: when that was |
//! | 8 | how long past its lease a lead is remembered, in µs; -1: for ever |
//! | n | whose record it is: the length of the scope in 4 bytes, the scope, the key |
//! | n | `=` and the fingerprint; empty: there is none |
//! | n | the rest: of completed records the response's bytes, of others the checkpoint |
//!
//! Numbers are little-endian. When a record expires, the server says: it drops it 10 s later.
//!
//! | step | script | when | leads to |
//! |-|-|-|-|
//! | claim | `fresh.lua`, `claim.lua` | none or expired; released; lost, and may be taken over | `in_progress`, a new token, a higher epoch |
//! | renew, checkpoint | `renew.lua`, `checkpoint.lua` | `in_progress`, token and epoch are the lead's | the same lead |
//! | complete | `complete.lua` | the same | `completed` |
//! | release, withdraw | `release.lua` | the same | none; `released`; or a lease that has passed |
//! | forget | `forget.lua` | not `in_progress` | none |
//! | evict | `evict.lua` | always | none |
//!
//! Why a string, and not a hash with a field for each part: what a lead costs the server is the number of
//! its commands, of all arguments, and of the strings that a script makes. A leader's claim is four commands now, its
//! completion two, and what the claimer knows of its record comes as one argument.
//!
//! An epoch is the partition's last one + 1, or the server's clock in µs if that is higher: so it grows
//! even where the counter was lost. News of a record that somebody waits for is its id, published on
//! `onceflight:0:settled` (0 is the database).
//!
//! # What is weaker than in a database
//!
//! - A write is on disk when Redis likes: with `appendonly yes` and `appendfsync always` before it is
//!   acknowledged, as Redis is set up by default up to an hour later. What a crash loses, runs again.
//! - Replication is asynchronous: a failover can lose what the primary had acknowledged, claims too,
//!   and a key may then have two leads. The second one's epoch is higher if the new primary's clock
//!   isn't behind, and then a resource that compares fences refuses the first.
//! - A server that is allowed to drop keys when its memory is full (`maxmemory-policy` other than
//!   `noeviction`) drops records, live ones too. Such a server is refused, since the loss would be
//!   silent; `?eviction=allow` in the URL accepts it. (Where INFO is forbidden, nobody can tell.)
//! - The clock is the server's wall clock, for a script has no other: a step moves leases and expiries with
//!   it, and so does a failover to a server whose clock differs. Where a lease ends too soon another may
//!   take over; who led is stale then. Epochs grow all the same.

mod connection;
mod layout;
mod news;
mod reply;
mod scan;
mod script;
mod servers;
mod url;
mod wire;

use std::fmt;
use std::time::{Duration, Instant};

use redis::Value;

use self::news::Listener;
use self::script::{Script, Scripts};
use self::servers::Servers;
use self::url::Settings;
use super::pool::MAX_CONNECTIONS;
use super::{
    Claim, Claimed, GRACE, Held, News, Record, RecordId, RecordKey, Release, Response, Settled,
    Store, Token,
};
use crate::error::{Error, ErrorKind};
use crate::fork;

/// So long `open` waits for a server.
const OPENING: Duration = Duration::from_secs(5);
/// Some 70 years, in microseconds: sums must stay below 2^53, where the scripts' numbers are exact.
const AGES: u128 = 1 << 51;
/// The longest value that a server takes is 512 MiB (`proto-max-bulk-len`).
const MAX_BYTES: usize = 512 << 20;

/// Records in Redis or Redis Cluster: `redis://…`, `redis-cluster://…`.
///
/// The server is Redis 6 or newer, or one of its descendants. A user of its own needs
/// `~onceflight:* &onceflight:* +@read +@write +@scripting +@pubsub +@connection +time`, in a cluster
/// `+cluster|slots`, and better has `+info`: by that the store sees whether records are safe there.
///
/// Weaker than a database: what a crash of the server or a failover loses, runs again. A write is safe
/// from a crash once it is on disk: with `appendonly yes` and `appendfsync always` that is before it is
/// acknowledged. A failover forgets what the replica hadn't been told. Where memory may run full,
/// `maxmemory-policy` must be `noeviction`.
///
/// Leases go by the server's wall clock, and by no other machine's. Set forward by more than is left of a
/// lease, it lets another take over from a lead that still works, and is stale then; set back, what was
/// lost is taken over so much later. Fences grow however it is set. Have it slewed, not stepped.
///
/// May be used from any thread. No call lasts past its deadline, but for the look-up of a host's name. In
/// the child of a fork every call says [`Forked`](ErrorKind::Forked).
pub struct RedisStore {
    servers: Servers,
    scripts: Scripts,
    /// What tells of records that somebody waits for.
    channel: String,
    generation: u64,
}

impl RedisStore {
    /// Opens `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or
    /// `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`, any of whose servers lead to the others.
    ///
    /// Parameters may follow a question mark: `prefix=NAME`, what names of keys begin with
    /// (`onceflight`); `eviction=allow`, to use a server that drops records when its memory is full.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): no such URL. [`Unsupported`](ErrorKind::Unsupported): `rediss://`,
    /// since there is no TLS in this build. [`Store`](ErrorKind::Store): no server answers within 5 s, or
    /// it can't be used.
    pub fn open(url: &str) -> Result<Self, Error> {
        let store = Self::new(Settings::parse(url)?, MAX_CONNECTIONS);
        let deadline = Instant::now() + OPENING;
        // What it answers doesn't matter: it may still be loading.
        let _ = store.servers.any(deadline, |server, deadline| {
            server.call(&redis::cmd("PING").get_packed_command(), deadline)
        })?;
        Ok(store)
    }

    /// At most so many connections to each server (at least one; 16 if nothing is said), and one more
    /// for each who listens.
    #[must_use]
    pub fn with_max_connections(self, max: usize) -> Self {
        Self::new(self.servers.settings().clone(), max)
    }

    fn new(settings: Settings, max_connections: usize) -> Self {
        let channel = format!("{}:{}:settled", settings.prefix, settings.login.db());
        let servers = Servers::new(settings, max_connections);
        Self { servers, scripts: Scripts::new(&channel), channel, generation: fork::enrol() }
    }

    fn check_fork(&self) -> Result<(), Error> {
        if fork::generation() == self.generation { Ok(()) } else { Err(ErrorKind::Forked.into()) }
    }

    /// Runs a script on a record.
    fn run(
        &self,
        script: &Script,
        id: RecordId,
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Value, Error> {
        self.check_fork()?;
        let partition = id.0[0];
        let (prefix, id_text) = (self.servers.settings().prefix.as_bytes(), id.digits());
        // Braces around what tells the partition: all keys of one are on one server.
        let record = [prefix, b":{", &id_text[..2], b"}:", &id_text].concat();
        let epochs = [prefix, b":{", &id_text[..2], b"}:epoch"].concat();
        let keys = [&*record, &*epochs];
        let mut reply = self.servers.call(partition, &script.by_hash(keys, args), deadline)?;
        if reply.as_ref().is_err_and(|refusal| refusal.code() == "NOSCRIPT") {
            reply = self.servers.call(partition, &script.by_text(keys, args), deadline)?;
        }
        reply.map_err(|refusal| reply::refusal(id, &refusal))
    }

    /// Runs a script that ends or changes a lead.
    fn settle(
        &self,
        script: &Script,
        key: &RecordKey,
        held: Held,
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let lead = [&held.epoch.to_le_bytes()[..], &held.token.0].concat();
        let args = [&[&*lead], args].concat();
        reply::settled(key.id(), &self.run(script, key.id(), &args, deadline)?)
    }

    fn read_id(
        &self,
        id: RecordId,
        whole: bool,
        deadline: Instant,
    ) -> Result<Option<Record>, Error> {
        let answer = self.run(&self.scripts.read, id, &[flag(whole)], deadline)?;
        reply::record(id, answer, whole)
    }
}

impl Store for RedisStore {
    fn claim(
        &self,
        key: &RecordKey,
        claim: &Claim<'_>,
        deadline: Instant,
    ) -> Result<Claimed, Error> {
        let first = layout::first(key, claim);
        let ends = claim.lease.zip(claim.keep).map(|(lease, keep)| lease.saturating_add(keep));
        let lasts = ends.map_or_else(String::new, outlasts);
        let following = claim.following.map_or_else(String::new, |epoch| epoch.to_string());
        let asks = [flag(claim.take_over), flag(claim.watch), following.as_bytes()].concat();
        let args = [&*first, lasts.as_bytes(), &asks];
        reply::claimed(key, self.run(&self.scripts.claim, key.id(), &args, deadline)?)
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let lease = layout::span(lease).to_string();
        self.settle(&self.scripts.renew, key, held, &[lease.as_bytes()], deadline)
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Settled, Error> {
        check_len(data)?;
        self.settle(&self.scripts.checkpoint, key, held, &[data], deadline)
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        check_len(response.data())?;
        let begin = layout::begin(b'C', response.status());
        let lasts = lasts(ttl);
        let args = [&begin, response.data(), lasts.as_bytes()];
        self.settle(&self.scripts.complete, key, held, &args, deadline)
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        let (how, successor, keep): (&[u8], _, _) = match release {
            Release::Cancel { successor, keep } => (b"cancel", successor, keep),
            Release::Abandon => (b"abandon", false, Duration::ZERO),
        };
        let lasts = lasts(keep);
        let args = [how, flag(successor), lasts.as_bytes()];
        self.settle(&self.scripts.release, key, held, &args, deadline)
    }

    fn withdraw(&self, key: &RecordKey, token: Token, deadline: Instant) -> Result<(), Error> {
        let lasts = lasts(Duration::ZERO);
        let args = [&token.0[..], b"cancel", flag(false), lasts.as_bytes()];
        let answer = self.run(&self.scripts.release, key.id(), &args, deadline)?;
        reply::settled(key.id(), &answer).map(|_| ())
    }

    fn forget(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        reply::existed(key.id(), self.run(&self.scripts.forget, key.id(), &[], deadline)?)
    }

    fn read(&self, key: &RecordKey, deadline: Instant) -> Result<Option<Record>, Error> {
        let record = self.read_id(key.id(), true, deadline)?;
        if let Some(record) = &record {
            key.check(record.key.scope(), record.key.key())?;
        }
        Ok(record)
    }

    /// Walks over all names of all servers, not only this scope's: for operators. What a cluster moves
    /// from server to server meanwhile may be missed.
    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Record>, Error> {
        self.check_fork()?;
        scan::list(self, scope, after, max, deadline)
    }

    fn evict(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        reply::existed(key.id(), self.run(&self.scripts.evict, key.id(), &[], deadline)?)
    }

    /// Nothing to do: Redis drops expired records by itself.
    fn purge(&self, _: usize, _: Instant) -> Result<usize, Error> {
        self.check_fork()?;
        Ok(0)
    }

    fn listen(&self, deadline: Instant) -> Result<Box<dyn News>, Error> {
        self.check_fork()?;
        Ok(Box::new(Listener::open(&self.servers, &self.channel, deadline)?))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("settings", self.servers.settings())
            .finish_non_exhaustive()
    }
}

/// For how many milliseconds the server keeps what expires so soon. Rounded down: nothing is replayed
/// past its ttl.
fn lasts(time: Duration) -> String {
    (time.as_millis().min(AGES / 1000) + GRACE.as_millis()).to_string()
}

/// The same for a lead. Rounded up, and one more for the millisecond that has begun on the server's clock: it
/// doesn't expire before its lease has passed.
fn outlasts(time: Duration) -> String {
    lasts(time.saturating_add(Duration::from_micros(1999)))
}

fn flag(on: bool) -> &'static [u8] {
    if on { b"1" } else { b"0" }
}

fn check_len(data: &[u8]) -> Result<(), Error> {
    if data.len() <= MAX_BYTES {
        return Ok(());
    }
    let detail = format!("{} bytes; Redis takes {MAX_BYTES}", data.len());
    Err(Error::new(ErrorKind::TooLarge, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_child_of_a_fork_every_call_says_so() {
        let settings = Settings::parse("redis-cluster://127.0.0.1:1,127.0.0.1:2").unwrap();
        let mut store = RedisStore::new(settings, 1);
        store.generation += 1; // as it looks from a child
        let (key, at) = (RecordKey::new("s", "k").unwrap(), Instant::now());
        let token = Token([0; 16]);
        let held = Held { token, epoch: 1 };
        let claim = Claim {
            token,
            fingerprint: None,
            lease: None,
            keep: None,
            take_over: true,
            watch: false,
            following: None,
        };
        let response = Response::new(0, b"");
        let answers = [
            store.claim(&key, &claim, at).err(),
            store.renew(&key, held, None, at).err(),
            store.checkpoint(&key, held, b"", at).err(),
            store.complete(&key, held, &response, Duration::ZERO, at).err(),
            store.release(&key, held, Release::Abandon, at).err(),
            store.withdraw(&key, token, at).err(),
            store.forget(&key, at).err(),
            store.read(&key, at).err(),
            store.list(b"s", None, 1, at).err(),
            store.evict(&key, at).err(),
            store.purge(1, at).err(),
            store.listen(at).err(),
        ];
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.map(|error| error.kind()), Some(ErrorKind::Forked), "call {number}");
        }
    }
}
