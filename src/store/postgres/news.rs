//! What was settled, as the server tells it: LISTEN on a connection of its own.
//!
//! A settlement's NOTIFY is part of its transaction, so it is told if and when that is committed, and
//! its payload is the record's id. The connection outlives the waits; once it fails, news may have been
//! missed, and all that this listener says is an error.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Server};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::store::pool::Failure;
use crate::store::{Heard, News};

pub(super) struct Listener {
    /// `None` once it has failed.
    connection: Option<Connection>,
    generation: u64,
}

impl Listener {
    pub(super) fn open(server: &Server, channel: &str, deadline: Instant) -> Result<Self, Error> {
        let mut config = server.config.clone();
        // It says nothing for hours, so the network must be asked whether the server is still there.
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        let server = Arc::new(Server { config, name: server.name.clone() });
        let generation = fork::enrol();
        let mut connection = Connection::open(&server, deadline)?;
        connection.run(&format!("LISTEN {channel}"), deadline).map_err(Failure::into_error)?;
        Ok(Self { connection: Some(connection), generation })
    }

    fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }
}

impl News for Listener {
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error> {
        if self.is_forked() {
            return Err(ErrorKind::Forked.into());
        }
        let Some(connection) = &mut self.connection else {
            return Err(Error::store("this listener's connection has failed; listen anew"));
        };
        let news = connection.hear(until).inspect_err(|_| drop(self.connection.take()))?;
        for payload in news {
            heard(payload.parse().map_or(Heard::Any, Heard::Record));
        }
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_forked() {
            // The parent's, which uses it.
            mem::forget(self.connection.take());
        }
    }
}
