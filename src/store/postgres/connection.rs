//! One connection, driven by the thread that uses it.
//!
//! `tokio_postgres` wants its connection driven by a task. Here each has a runtime of its own that runs
//! only while a thread is inside a call, so that there are no threads of ours, and every call ends at its
//! deadline though the server be frozen. A connection that was cut off so is of no use any more: it owes
//! an answer that somebody else would take for his.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket, Statement};

use super::fault::{self, Fault};
use super::statements::{PostgresStatement, Texts};
use crate::error::Error;
use crate::store::pool::Failure;

/// Said to the server first, since the statements are made for it: each sees what was committed before
/// it; plans are made once, and never for a table that was small when they were.
const SETUP: &str = "SET default_transaction_isolation TO 'read committed';
    SET plan_cache_mode TO force_generic_plan; SET enable_seqscan TO off";

/// Has the server look every second whether we are still there. Else a statement that waits for a lock,
/// and was given up here, would hold its connection there, and might claim later for nobody. Before
/// Postgres 14, and on Windows, servers don't know this; then the lease and `withdraw` must do.
const SETUP_IF_KNOWN: &str = "SET client_connection_check_interval TO '1s'";

/// A server, and how to get there.
pub(super) struct Server {
    pub(super) config: Config,
    /// For texts: without the password.
    pub(super) name: String,
}

pub(super) struct Connection {
    server: Arc<Server>,
    client: Client,
    prepared: [Option<Statement>; PostgresStatement::COUNT],
    line: Line,
}

/// What moves the bytes.
struct Line {
    /// `None` once it has ended; it mustn't be driven then.
    driver: Option<tokio_postgres::Connection<Socket, NoTlsStream>>,
    runtime: Runtime,
    /// Payloads of notifications that nobody took yet.
    heard: Vec<String>,
}

impl Connection {
    pub(super) fn open(server: &Arc<Server>, deadline: Instant) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Error::store(format!("no runtime for a connection to {}: {error}", server.name))
        })?;
        let connecting = async { timeout_at(deadline.into(), server.config.connect(NoTls)).await };
        let (client, driver) = match runtime.block_on(connecting) {
            Ok(Ok(both)) => both,
            failed => {
                // A name that is still being looked up, by a thread of the runtime's, isn't waited for.
                runtime.shutdown_background();
                let fault = match failed {
                    Ok(Err(error)) => fault::explain(&server.name, &error),
                    _ => fault::late(&server.name),
                };
                return Err(Failure::from(fault).into_error());
            }
        };
        let line = Line { driver: Some(driver), runtime, heard: Vec::new() };
        let prepared = [const { None }; PostgresStatement::COUNT];
        let mut connection = Self { server: Arc::clone(server), client, prepared, line };
        connection.run(SETUP, deadline).map_err(Failure::into_error)?;
        match connection.run(SETUP_IF_KNOWN, deadline) {
            Err(Failure::Broken(error)) => Err(error),
            Ok(()) | Err(Failure::Refused(_)) => Ok(connection),
        }
    }

    /// The server's name, for texts.
    pub(super) fn server(&self) -> &str {
        &self.server.name
    }

    /// The rows of one of the statements.
    pub(super) fn query(
        &mut self,
        texts: &Texts,
        statement: PostgresStatement,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let query =
            async |client: &Client, prepared: &Statement| client.query(prepared, params).await;
        self.perform(texts, statement, &query, deadline)
    }

    /// How many rows one of the statements changed.
    pub(super) fn execute(
        &mut self,
        texts: &Texts,
        statement: PostgresStatement,
        params: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<u64, Failure> {
        let execute =
            async |client: &Client, prepared: &Statement| client.execute(prepared, params).await;
        self.perform(texts, statement, &execute, deadline)
    }

    fn perform<T>(
        &mut self,
        texts: &Texts,
        statement: PostgresStatement,
        how: &impl AsyncFn(&Client, &Statement) -> Result<T, tokio_postgres::Error>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let Self { server, client, prepared, line } = self;
        let slot = &mut prepared[statement as usize];
        let prepared = if let Some(prepared) = slot {
            prepared
        } else {
            let preparing = client.prepare_typed(texts.of(statement), statement.types());
            slot.insert(line.finish(&server.name, preparing, deadline)?)
        };
        loop {
            match line.drive(&server.name, how(client, prepared), deadline) {
                Ok(done) => return Ok(done),
                Err(Fault::Yielded(_)) if Instant::now() < deadline => {}
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// The rows of a statement that is sent once a connection at most.
    pub(super) fn ask(&mut self, text: &str, deadline: Instant) -> Result<Vec<Row>, Failure> {
        self.line.finish(&self.server.name, self.client.query_typed(text, &[]), deadline)
    }

    /// Runs statements that have nothing to say.
    pub(super) fn run(&mut self, text: &str, deadline: Instant) -> Result<(), Failure> {
        self.line.finish(&self.server.name, self.client.batch_execute(text), deadline)
    }

    /// What the server tells of its own accord: all that is there, or what comes first until `until`.
    pub(super) fn hear(&mut self, until: Instant) -> Result<Vec<String>, Error> {
        self.line.hear(&self.server.name, until)
    }
}

impl Line {
    /// Drives until `work` is done, or until `deadline`.
    fn drive<T>(
        &mut self,
        server: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
        deadline: Instant,
    ) -> Result<T, Fault> {
        let mut work = pin!(work);
        let Self { driver, runtime, heard } = self;
        let both = poll_fn(|context| {
            let moved = advance(driver, heard, context);
            // The answer may have come before the end.
            match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(done.map_err(Some)),
                Poll::Pending => moved.map_or_else(|end| Poll::Ready(Err(end)), |()| Poll::Pending),
            }
        });
        match runtime.block_on(async { timeout_at(deadline.into(), both).await }) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Some(error))) => Err(fault::explain(server, &error)),
            Ok(Err(None)) => Err(fault::lost(server, "closed")),
            Err(_) => Err(fault::late(server)),
        }
    }

    /// The same, for what isn't sent again if it must give way.
    fn finish<T>(
        &mut self,
        server: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        self.drive(server, work, deadline).map_err(Failure::from)
    }

    fn hear(&mut self, server: &str, until: Instant) -> Result<Vec<String>, Error> {
        let Self { driver, runtime, heard } = self;
        let some = poll_fn(|context| match advance(driver, heard, context) {
            _ if !heard.is_empty() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(Err(end)),
        });
        let fault = match runtime.block_on(async { timeout_at(until.into(), some).await }) {
            Ok(Ok(())) | Err(_) => return Ok(mem::take(heard)),
            Ok(Err(Some(error))) => fault::explain(server, &error),
            Ok(Err(None)) => fault::lost(server, "closed"),
        };
        Err(Failure::from(fault).into_error())
    }
}

/// Moves what can be moved now. An error: it has ended, and why if that is known.
fn advance(
    driver: &mut Option<tokio_postgres::Connection<Socket, NoTlsStream>>,
    heard: &mut Vec<String>,
    context: &mut Context<'_>,
) -> Result<(), Option<tokio_postgres::Error>> {
    loop {
        match driver.as_mut().ok_or(None)?.poll_message(context) {
            Poll::Ready(Some(Ok(AsyncMessage::Notification(news)))) => {
                heard.push(news.payload().to_owned());
            }
            Poll::Ready(Some(Ok(_))) => {} // notices are for people
            Poll::Ready(end) => {
                *driver = None;
                return Err(end.and_then(Result::err));
            }
            Poll::Pending => return Ok(()),
        }
    }
}
