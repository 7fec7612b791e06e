//! News: a subscription on a connection of its own.
//!
//! Whatever a server tells goes to the whole cluster, so any server of it will do. News may have been
//! lost if the connection is; one that is silent may have been cut off. So after some silence it is
//! asked for a sign of life, and counts as lost if none comes.

use std::time::{Duration, Instant};

use redis::Msg;

use super::connection::{Connection, lost, refused};
use super::servers::Servers;
use super::url::Address;
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::store::{Heard, News};

/// So long a connection may be silent, and then so long it may take to answer.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Listener {
    address: Address,
    connection: Connection,
    /// When it last said anything.
    heard: Instant,
    /// When it was asked for a sign of life that hasn't come yet.
    asked: Option<Instant>,
    generation: u64,
}

impl Listener {
    /// Returns once the subscription stands.
    pub(super) fn open(servers: &Servers, channel: &str, deadline: Instant) -> Result<Self, Error> {
        servers.any(deadline, |server, deadline| {
            let address = server.address.clone();
            let mut connection = server.connect(deadline)?;
            let _confirmation = connection
                .call(&redis::cmd("SUBSCRIBE").arg(channel).get_packed_command(), deadline)
                .map_err(|error| lost(&address, &error))?
                .map_err(|refusal| refused(&address, &refusal))?;
            let (heard, generation) = (Instant::now(), fork::enrol());
            Ok(Self { address, connection, heard, asked: None, generation })
        })
    }
}

impl News for Listener {
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error> {
        if fork::generation() != self.generation {
            return Err(ErrorKind::Forked.into());
        }
        loop {
            let patience = self.asked.unwrap_or(self.heard) + SILENCE;
            match self.connection.receive(until.min(patience)) {
                Ok(Ok(value)) => {
                    self.heard = Instant::now();
                    self.asked = None;
                    if let Some(message) = Msg::from_owned_value(value) {
                        let id = std::str::from_utf8(message.get_payload_bytes());
                        let id = id.ok().and_then(|id| id.parse().ok());
                        heard(id.map_or(Heard::Any, Heard::Record));
                        return Ok(());
                    }
                }
                Ok(Err(refusal)) => return Err(refused(&self.address, &refusal)),
                Err(error) if !error.is_timeout() => return Err(lost(&self.address, &error)),
                Err(_) if Instant::now() < patience => return Ok(()),
                Err(error) if self.asked.is_some() => return Err(lost(&self.address, &error)),
                Err(_) => self.ask()?,
            }
        }
    }
}

impl Listener {
    fn ask(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.asked = Some(now);
        let ping = redis::cmd("PING").get_packed_command();
        self.connection.send(&ping, now + SILENCE).map_err(|error| lost(&self.address, &error))
    }
}
