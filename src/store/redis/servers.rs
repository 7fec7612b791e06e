//! Which server has what, and how it is asked.
//!
//! Records stand in 256 partitions, by the first byte of their ids, and a partition stands on one
//! server. A single server has all of them. In a cluster the first two hexadecimal digits of an id
//! are its key's hash tag, so a partition is a hash slot of the cluster's; who has which is learnt
//! from any server of it, and anew
//!
//! | when | then the command |
//! |-|-|
//! | a server says MOVED | goes where it says |
//! | a server says ASK | goes there, this once |
//! | a server can't be reached | goes on if the partition has another server now, else fails |
//! | a server didn't answer in time | fails; the next one begins by asking who has what |
//! | a server isn't ready (CLUSTERDOWN, LOADING, TRYAGAIN) | is sent again in a moment, until the deadline |
//!
//! The crate's own cluster connection isn't used: it opens its connections, and sleeps between
//! attempts, for as long as its settings say and not until the caller's deadline.

use std::collections::HashMap;
use std::mem;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult, ServerError, ServerErrorKind, Value, from_redis_value_ref};

use super::connection::{Connection, Reply, lost, refused};
use super::url::{Address, Settings};
use crate::error::Error;
use crate::store::pool::{Failure, Pool};
use crate::sync::Mutex;

/// Before a server that isn't ready is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// So many redirections are followed at once: more, and the servers disagree at the moment.
const HOPS: u32 = 4;
/// Partitions: the values of a byte.
const PARTITIONS: usize = 256;
/// What a server says that will soon be able to do more.
const NOT_READY: [ServerErrorKind; 4] = [
    ServerErrorKind::TryAgain,
    ServerErrorKind::ClusterDown,
    ServerErrorKind::MasterDown,
    ServerErrorKind::BusyLoading,
];

/// A server, and the connections to it.
pub(super) struct Server {
    pub address: Address,
    settings: Arc<Settings>,
    pool: Pool<Connection>,
}

impl Server {
    fn new(address: Address, settings: Arc<Settings>, max_connections: usize) -> Arc<Self> {
        let (at, by) = (address.clone(), Arc::clone(&settings));
        let pool = Pool::new(max_connections, move |deadline| Connection::open(&at, &by, deadline));
        Arc::new(Self { address, settings, pool })
    }

    /// A connection beside the others.
    pub(super) fn connect(&self, deadline: Instant) -> Result<Connection, Error> {
        Connection::open(&self.address, &self.settings, deadline)
    }

    /// Sends a packed command, then reads its reply. It may be sent twice.
    pub(super) fn call(&self, command: &[u8], deadline: Instant) -> Result<Reply, Error> {
        self.talk(deadline, |connection| connection.call(command, deadline))
    }

    /// The same for what is about to be this server's: one must ask for it.
    fn call_asking(&self, command: &[u8], deadline: Instant) -> Result<Reply, Error> {
        let both = [&redis::cmd("ASKING").get_packed_command(), command].concat();
        self.talk(deadline, |connection| {
            connection.send(&both, deadline)?;
            let _asked = connection.receive(deadline)?;
            connection.receive(deadline)
        })
    }

    /// Sends so many packed commands, then reads a reply for each. They may be sent twice.
    pub(super) fn call_all(
        &self,
        commands: &[u8],
        count: usize,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Error> {
        self.pool.with(deadline, |connection| {
            let replies = connection.send(commands, deadline);
            let replies =
                replies.and_then(|()| (0..count).map(|_| connection.receive(deadline)).collect());
            replies.map_err(|error| self.broken(&error))
        })
    }

    /// Has a connection ask for something.
    fn talk(
        &self,
        deadline: Instant,
        mut ask: impl FnMut(&mut Connection) -> RedisResult<Reply>,
    ) -> Result<Reply, Error> {
        self.pool.with(deadline, |connection| match ask(connection) {
            // After a failover another server may have the address: a new connection will show.
            Ok(Err(refusal)) if refusal.kind() == Some(ServerErrorKind::ReadOnly) => {
                Err(Failure::Broken(refused(&self.address, &refusal)))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.broken(&error)),
        })
    }

    fn broken(&self, error: &RedisError) -> Failure {
        Failure::Broken(lost(&self.address, error))
    }

    /// Where a refusal sends the caller: "SLOT HOST:PORT", without the host if that is the same.
    fn elsewhere(&self, refusal: &ServerError) -> Option<Address> {
        let (host, port) = refusal.details()?.split(' ').nth(1)?.rsplit_once(':')?;
        Some(Address { host: self.host_or_mine(host), port: port.parse().ok()? })
    }

    /// Who has which slots, in an answer of this server: of each range the first and the last one,
    /// the primary and the replicas.
    fn ranges(&self, answer: &Value) -> Option<Vec<(RangeInclusive<u16>, Address)>> {
        let range = |range: &Value| {
            let [first, last, primary, ..] = range.as_sequence()? else { return None };
            let [host, port, ..] = primary.as_sequence()? else { return None };
            let host: Option<String> = from_redis_value_ref(host).ok()?;
            let host = self.host_or_mine(host.as_deref().unwrap_or_default());
            let number = |value| u16::try_from(from_redis_value_ref::<i64>(value).ok()?).ok();
            Some((number(first)?..=number(last)?, Address { host, port: number(port)? }))
        };
        let ranges: Vec<_> = answer.as_sequence()?.iter().map(range).collect::<Option<_>>()?;
        (!ranges.is_empty()).then_some(ranges)
    }

    /// A server that doesn't know its own name leaves it out.
    fn host_or_mine(&self, host: &str) -> String {
        if host.is_empty() || host == "?" { self.address.host.clone() } else { host.to_owned() }
    }
}

/// One server, or those of a cluster.
pub(super) struct Servers {
    settings: Arc<Settings>,
    max_connections: usize,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    /// Those of the URL, and those that have partitions.
    servers: HashMap<Address, Arc<Server>>,
    /// Who has which partition. Empty: to be asked for.
    owners: Vec<Arc<Server>>,
    /// The one that failed last. It is asked last who has what, and not used before that is known.
    suspect: Option<Address>,
}

impl Servers {
    /// Nothing is connected yet.
    pub(super) fn new(settings: Settings, max_connections: usize) -> Self {
        let this = Self { settings: Arc::new(settings), max_connections, map: Mutex::default() };
        for address in &this.settings.servers {
            let server = this.server(address);
            if !this.settings.cluster {
                this.map.lock().owners = vec![server; PARTITIONS];
            }
        }
        this
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Has the server of a partition run a command, which may happen more than once.
    ///
    /// # Errors
    /// No reply until the deadline; a refusal that isn't a script's own.
    pub(super) fn call(
        &self,
        partition: u8,
        command: &[u8],
        deadline: Instant,
    ) -> Result<Reply, Error> {
        let mut server = self.owner(partition, deadline)?;
        let (mut asking, mut hops) = (false, 0);
        loop {
            let reply = if mem::take(&mut asking) {
                server.call_asking(command, deadline)
            } else {
                server.call(command, deadline)
            };
            let refusal = match reply {
                Ok(Err(refusal)) if !is_scripts_own(&refusal) => refusal,
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    server = self.successor(partition, &server, deadline).ok_or(error)?;
                    continue;
                }
            };
            asking = refusal.kind() == Some(ServerErrorKind::Ask);
            hops += 1;
            let elsewhere = server.elsewhere(&refusal).filter(|_| self.settings.cluster);
            let at_once = match (refusal.kind(), elsewhere) {
                (Some(ServerErrorKind::Ask), Some(address)) => {
                    server = self.server(&address);
                    hops <= HOPS
                }
                (Some(ServerErrorKind::Moved), Some(address)) => {
                    server = self.server(&address);
                    self.map.lock().owners[usize::from(partition)] = Arc::clone(&server);
                    hops <= HOPS
                }
                (Some(kind), _) if NOT_READY.contains(&kind) => {
                    server = self.owner(partition, deadline)?;
                    false
                }
                _ => return Err(refused(&server.address, &refusal)),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(refused(&server.address, &refusal));
            }
            if !at_once {
                thread::sleep(PAUSE.min(left));
            }
        }
    }

    /// Has any server do something, the next one if one fails. Each has its share of the time.
    pub(super) fn any<T>(
        &self,
        deadline: Instant,
        mut ask: impl FnMut(&Server, Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut servers: Vec<Arc<Server>> = {
            let map = self.map.lock();
            let (bad, good): (Vec<_>, Vec<_>) =
                map.servers.values().cloned().partition(|server| map.suspects(server));
            good.into_iter().chain(bad).collect()
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(servers.len()).unwrap_or(u32::MAX);
            match ask(&servers.remove(0), Instant::now() + share) {
                Err(_) if !servers.is_empty() => {}
                result => return result,
            }
        }
    }

    /// The servers that have partitions.
    pub(super) fn all(&self, deadline: Instant) -> Result<Vec<Arc<Server>>, Error> {
        if self.settings.cluster {
            self.learn(deadline)?;
        }
        let mut all: Vec<Arc<Server>> = Vec::new();
        for owner in &self.map.lock().owners {
            if !all.iter().any(|other| Arc::ptr_eq(other, owner)) {
                all.push(Arc::clone(owner));
            }
        }
        Ok(all)
    }

    fn server(&self, address: &Address) -> Arc<Server> {
        let mut map = self.map.lock();
        let server = map.servers.entry(address.clone());
        let new = || Server::new(address.clone(), Arc::clone(&self.settings), self.max_connections);
        Arc::clone(server.or_insert_with(new))
    }

    fn owner(&self, partition: u8, deadline: Instant) -> Result<Arc<Server>, Error> {
        let known = |map: &Map| map.owners.get(usize::from(partition)).cloned();
        {
            let map = self.map.lock();
            if let Some(owner) = known(&map).filter(|owner| !map.suspects(owner)) {
                return Ok(owner);
            }
        }
        self.learn(deadline)?;
        Ok(known(&self.map.lock()).expect("all partitions are known"))
    }

    /// Who has a partition now that its server has failed, if it is another.
    fn successor(&self, partition: u8, failed: &Server, deadline: Instant) -> Option<Arc<Server>> {
        if !self.settings.cluster {
            return None;
        }
        self.map.lock().suspect = Some(failed.address.clone());
        if Instant::now() >= deadline {
            return None;
        }
        let owner = self.owner(partition, deadline).ok()?;
        (owner.address != failed.address).then_some(owner)
    }

    /// Asks who has what.
    fn learn(&self, deadline: Instant) -> Result<(), Error> {
        let question = redis::cmd("CLUSTER").arg("SLOTS").get_packed_command();
        let (asked, ranges) = self.any(deadline, |server, deadline| {
            let answer = server.call(&question, deadline)?;
            let answer = answer.map_err(|refusal| refused(&server.address, &refusal))?;
            let ranges = server.ranges(&answer).ok_or_else(|| {
                Error::store(format!("Redis at {} has no part of a cluster yet", server.address))
            })?;
            Ok((server.address.clone(), ranges))
        })?;
        let owner = |partition| {
            let slot = slot(format!("{partition:02x}").as_bytes());
            let range = ranges.iter().find(|(range, _)| range.contains(&slot));
            // Whoever was asked will say what is wrong with a slot that nobody has.
            self.server(range.map_or(&asked, |(_, address)| address))
        };
        let owners: Vec<_> = (0..PARTITIONS).map(owner).collect();
        let mut map = self.map.lock();
        let seeds = &self.settings.servers;
        map.servers.retain(|address, server| {
            seeds.contains(address) || owners.iter().any(|owner| Arc::ptr_eq(owner, server))
        });
        map.owners = owners;
        map.suspect = None;
        Ok(())
    }
}

impl Map {
    fn suspects(&self, server: &Server) -> bool {
        self.suspect.as_ref() == Some(&server.address)
    }
}

/// What the scripts themselves answer with, and what is answered by sending their texts.
fn is_scripts_own(refusal: &ServerError) -> bool {
    ["NOSCRIPT", "CORRUPT", "FORMAT"].contains(&refusal.code())
}

/// The cluster's hash of a key's tag: CRC-16/XMODEM, of which it takes 14 bits.
fn slot(tag: &[u8]) -> u16 {
    let shift = |crc: u16, _| if crc >> 15 == 1 { crc << 1 ^ 0x1021 } else { crc << 1 };
    let crc = tag.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, shift));
    crc % 16384
}

#[cfg(test)]
mod tests {
    use super::slot;

    #[test]
    fn slots_are_the_cluster_specifications() {
        assert_eq!(slot(b"123456789"), 0x31C3); // as the specification says
        assert_eq!(slot(b"user1000"), 3443); // as CLUSTER KEYSLOT says
    }
}
