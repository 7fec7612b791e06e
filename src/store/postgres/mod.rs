//! Records in Postgres (12 or newer; tested with 15).
//!
//! One row a record, in `onceflight_records`:
//!
//! | column | type | |
//! |-|-|-|
//! | `id` | `bytea`, primary key | 16 bytes: the hash of scope and key |
//! | `scope`, `key` | `bytea` | whose record, compared whole |
//! | `fingerprint` | `bytea` or NULL | what says "the same payload" |
//! | `state` | `smallint` | 1 in progress, 2 completed, 3 released |
//! | `token`, `epoch` | `bytea`, `bigint` | whose lead, zeros once it is abandoned; `epoch` from the sequence `onceflight_epochs` |
//! | `attempt`, `taken_over` | `integer`, `boolean` | 1 for a flight's first lead; whether the one before was lost |
//! | `lease_until` | `timestamptz` | `infinity`: no lease |
//! | `keep` | `interval` or NULL | how long past its lease a lost lead is remembered; NULL: for ever |
//! | `expires_at` | `timestamptz` | from when it counts as gone; `infinity`: never |
//! | `status`, `body` | `integer`, `bytea` | of the response; NULL until there is one |
//! | `checkpoint` | `bytea` or NULL | for a successor |
//! | `watched` | `boolean` | somebody waits for this lead elsewhere |
//! | `created_at` | `timestamptz` | when the flight began: for operators |
//!
//! Each transition is one statement, one round trip and one transaction:
//!
//! | from | to | by |
//! |-|-|-|
//! | none, or free to be claimed | in progress | `onceflight_claim`, a function in the schema (`sql/schema-2.sql`) |
//! | in progress | completed | `UPDATE … WHERE id, token, epoch, state = 1`, with a `pg_notify` if it is watched |
//! | in progress | released, or none | the same, or a `DELETE` |
//! | any | none | `forget`, `evict`, `purge` |
//!
//! 1. A replay, and any other refusal, is one read: no lock, no write, no WAL. (But for the first that
//!    waits for a lead, which marks it.)
//! 2. A claim of a free key holds an advisory lock of that key, which no other claim of the key can have
//!    before this one is committed. The epoch is drawn under it, so a key's epochs are in the order of its
//!    leads, over evictions and purges too. The sequence isn't owned by the table, so truncating that
//!    doesn't set it back.
//! 3. The record that a claim replaces is still the one that it judged: epoch, state, lease and expiry
//!    stand in the `WHERE` of the write.
//! 4. All times are the server's `clock_timestamp()`, for it has no other clock to ask. If somebody sets
//!    that, leases and responses end so much sooner or later. Where a lease ends too soon another may take
//!    over; who led is stale then. Epochs go by no clock.
//!
//! Durability is the server's: what was answered survives a crash if `synchronous_commit` is on, and a
//! failover if the standby is synchronous. Otherwise the last claims and epochs before it may be
//! forgotten, and given out again.
//!
//! Sessions must be the store's own: no pooler that changes them between statements (`PgBouncer`'s
//! transaction mode), which LISTEN doesn't bear either. TLS isn't spoken.

mod answers;
mod connection;
mod fault;
mod news;
mod schema;
mod statements;
mod transaction;
mod verbs;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::Row;
use tokio_postgres::config::{Host, SslMode};

use self::connection::{Connection, Server};
use self::news::Listener;
use self::schema::Schema;
pub use self::statements::PostgresStatement;
use self::statements::Texts;
use self::verbs::{Params, Run};
use super::pool::{Failure, MAX_CONNECTIONS, Pool};
use super::{
    Claim, Claimed, Held, News, Record, RecordId, RecordKey, RecordState, Release, Response,
    Settled, Store, Token,
};
use crate::error::{Error, ErrorKind};

/// How long [`PostgresStore::open`] may take.
const OPENING: Duration = Duration::from_secs(10);

/// Records in Postgres, 12 or newer. Threads may share it: each call takes a connection for itself, and
/// blocks. In asynchronous code, call it where blocking is allowed.
///
/// Leases go by the server's wall clock, and by no other machine's. Set forward by more than is left of a
/// lease, it lets another take over from a lead that still works, and is stale then; set back, what was
/// lost is taken over so much later. Fences grow however it is set. Have it slewed, not stepped.
pub struct PostgresStore {
    server: Arc<Server>,
    texts: Texts,
    channel: String,
    pool: Pool<Connection>,
}

impl PostgresStore {
    /// Opens the store that a URL names: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`, as
    /// [`tokio_postgres::Config`](https://docs.rs/tokio-postgres/0.7/tokio_postgres/config/struct.Config.html)
    /// reads it. Makes the tables, in the first schema of the `search_path`, unless they are there. Takes 10
    /// seconds at most.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid): the URL. [`Unsupported`](ErrorKind::Unsupported): it wants TLS.
    /// [`Store`](ErrorKind::Store): the server can't be reached, or its tables can't be made or used.
    pub fn open(url: &str) -> Result<Self, Error> {
        let server = Arc::new(Server::of(url)?);
        let deadline = Instant::now() + OPENING;
        let mut connection = Connection::open(&server, deadline)?;
        let schema = Schema::prepare(&mut connection, deadline).map_err(Failure::into_error)?;
        let pool = {
            let server = Arc::clone(&server);
            Pool::new(MAX_CONNECTIONS, move |deadline| Connection::open(&server, deadline))
        };
        Ok(Self { server, texts: Texts::new(&schema), channel: schema.channel(), pool })
    }

    /// Has at most `max` connections (16, if this isn't called; at least one), opened when they are needed.
    /// Calls that find all in use wait in line. Each listener has one more.
    #[must_use]
    pub fn with_max_connections(mut self, max: usize) -> Self {
        self.pool.set_max(max);
        self
    }

    /// The text of a statement, for programs that run it over a connection of their own.
    pub fn sql(&self, statement: PostgresStatement) -> &str {
        self.texts.of(statement)
    }

    fn query(
        &self,
        statement: PostgresStatement,
        params: &Params<'_>,
        deadline: Instant,
    ) -> Result<Vec<Row>, Error> {
        self.pool
            .with(deadline, |connection| connection.query(&self.texts, statement, params, deadline))
    }

    /// A statement that is given the whole key.
    fn query_whole(
        &self,
        statement: PostgresStatement,
        key: &RecordKey,
        deadline: Instant,
    ) -> Result<Vec<Row>, Error> {
        let id = key.id().0;
        self.query(statement, &[&id.as_slice(), &key.scope(), &key.key()], deadline)
    }

    /// What the verbs run their statements by.
    fn until(&self, deadline: Instant) -> Until<'_> {
        Until { store: self, deadline }
    }
}

/// A connection of the pool for each statement.
struct Until<'a> {
    store: &'a PostgresStore,
    deadline: Instant,
}

impl Run for Until<'_> {
    fn rows(
        &mut self,
        statement: PostgresStatement,
        params: &Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.store.query(statement, params, self.deadline)
    }

    fn count(&mut self, statement: PostgresStatement, params: &Params<'_>) -> Result<u64, Error> {
        let Self { store, deadline } = *self;
        store.pool.with(deadline, |connection| {
            connection.execute(&store.texts, statement, params, deadline)
        })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password stands in the configuration.
        f.debug_struct("PostgresStore").field("server", &self.server.name).finish_non_exhaustive()
    }
}

impl Server {
    fn of(url: &str) -> Result<Self, Error> {
        let invalid = |detail: &str| {
            Error::new(ErrorKind::Invalid, format!("the postgres URL can't be used: {detail}"))
        };
        // What isn't understood isn't repeated: it may be a part of the password.
        let mut config: Config = url.parse().map_err(|_| {
            invalid("write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %-escapes, and options of tokio-postgres; of sslmode there are disable and prefer")
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "TLS to Postgres isn't in this build: take sslmode=require out of the URL, or reach the server through a tunnel",
            ));
        }
        let mut hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
        if hosts.is_empty() {
            hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        }
        if hosts.is_empty() {
            return Err(invalid("it names no host"));
        }
        let port = match config.get_ports() {
            [one] => format!(":{one}"),
            _ => String::new(),
        };
        let name = format!("postgres at {}{port}", hosts.join(","));
        if config.get_application_name().is_none() {
            config.application_name("onceflight");
        }
        Ok(Self { config, name })
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    }
}

impl Store for PostgresStore {
    fn claim(
        &self,
        key: &RecordKey,
        claim: &Claim<'_>,
        deadline: Instant,
    ) -> Result<Claimed, Error> {
        verbs::claim(self.until(deadline), key, claim)
    }

    fn renew(
        &self,
        key: &RecordKey,
        held: Held,
        lease: Option<Duration>,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        verbs::renew(self.until(deadline), key, held, lease)
    }

    fn checkpoint(
        &self,
        key: &RecordKey,
        held: Held,
        data: &[u8],
        deadline: Instant,
    ) -> Result<Settled, Error> {
        verbs::checkpoint(self.until(deadline), key, held, data)
    }

    fn complete(
        &self,
        key: &RecordKey,
        held: Held,
        response: &Response,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        verbs::complete(self.until(deadline), key, held, response, ttl)
    }

    fn release(
        &self,
        key: &RecordKey,
        held: Held,
        release: Release,
        deadline: Instant,
    ) -> Result<Settled, Error> {
        verbs::release(self.until(deadline), key, held, release)
    }

    fn withdraw(&self, key: &RecordKey, token: Token, deadline: Instant) -> Result<(), Error> {
        verbs::withdraw(self.until(deadline), key, token)
    }

    fn forget(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        let rows = self.query_whole(PostgresStatement::Forget, key, deadline)?;
        Ok(rows.first().is_some_and(|row| row.get("live")))
    }

    fn read(&self, key: &RecordKey, deadline: Instant) -> Result<Option<Record>, Error> {
        let rows = self.query(PostgresStatement::Read, &[&key.id().0.as_slice()], deadline)?;
        let Some(row) = rows.first() else { return Ok(None) };
        let Some(mut record) = answers::record(row)? else { return Ok(None) };
        key.check(record.key.scope(), record.key.key())?;
        if record.state == RecordState::Completed {
            record.response = Some(answers::response(row, key.id())?);
        }
        Ok(Some(record))
    }

    fn list(
        &self,
        scope: &[u8],
        after: Option<RecordId>,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<Record>, Error> {
        let after = after.as_ref().map(|id| id.0.as_slice());
        let rows = self.query(PostgresStatement::List, &[&scope, &after, &limit(max)], deadline)?;
        rows.iter().filter_map(|row| answers::record(row).transpose()).collect()
    }

    fn evict(&self, key: &RecordKey, deadline: Instant) -> Result<bool, Error> {
        let rows = self.query(PostgresStatement::Evict, &[&key.id().0.as_slice()], deadline)?;
        Ok(!rows.is_empty())
    }

    fn purge(&self, max: usize, deadline: Instant) -> Result<usize, Error> {
        Ok(self.query(PostgresStatement::Purge, &[&limit(max)], deadline)?.len())
    }

    fn listen(&self, deadline: Instant) -> Result<Box<dyn News>, Error> {
        self.pool.check_fork()?;
        Ok(Box::new(Listener::open(&self.server, &self.channel, deadline)?))
    }
}

fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
