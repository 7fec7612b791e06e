//! Which servers there are, and on which of them a record is.

use std::fmt;

use super::wire::Connection;
use crate::error::{Error, ErrorKind};
use crate::fingerprint::Fingerprint;
use crate::store::RecordId;
use crate::store::pool::{MAX_CONNECTIONS, Pool};

/// All of them; at least one.
pub(super) struct Servers(Vec<Server>);

struct Server {
    name: Box<str>,
    pool: Pool<Connection>,
}

impl Servers {
    /// Those that a URL names.
    pub fn of(url: &str) -> Result<Self, Error> {
        let servers = names(url)?.into_iter().map(|name| {
            let address = name.clone();
            let open = move |deadline| Connection::open(&address, deadline);
            Server { name, pool: Pool::new(MAX_CONNECTIONS, open) }
        });
        Ok(Self(servers.collect()))
    }

    pub fn set_max(&mut self, max: usize) {
        for server in &mut self.0 {
            server.pool.set_max(max);
        }
    }

    /// For calls that need none of them.
    ///
    /// # Errors
    /// [`Forked`](ErrorKind::Forked): a parent process made this.
    pub fn check_fork(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|server| server.pool.check_fork())
    }

    /// The connections to the server that has a record.
    pub fn of_record(&self, id: RecordId) -> &Pool<Connection> {
        &self.server(id).pool
    }

    /// That one whose name and the record's id have the greatest fingerprint together: the same for
    /// every process, whatever their order, and for every release.
    fn server(&self, id: RecordId) -> &Server {
        if let [only] = &self.0[..] {
            return only;
        }
        let weight =
            |server: &&Server| *Fingerprint::of([server.name.as_bytes(), &id.0]).as_bytes();
        self.0.iter().max_by_key(weight).expect("a URL names a server")
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|server| &server.name)).finish()
    }
}

/// The servers that a URL names, each with its port.
fn names(url: &str) -> Result<Vec<Box<str>>, Error> {
    let invalid = |what: &str| {
        Error::new(ErrorKind::Invalid, format!("{what}; a URL is memcached://HOST:PORT,HOST:PORT"))
    };
    let servers = url.strip_prefix("memcached://").ok_or_else(|| invalid("no memcached URL"))?;
    if servers.contains('@') {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a memcached with users and passwords isn't supported; leave them out of the URL",
        ));
    }
    let servers = servers.strip_suffix('/').unwrap_or(servers).split(',');
    servers
        .map(|server| {
            // The colons of an address of IPv6 stand in brackets.
            let port = server.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
            match port {
                _ if server.is_empty() => Err(invalid("a server without a name")),
                _ if server.contains(['/', '?', '#']) => {
                    Err(invalid("a memcached URL has no path"))
                }
                None => Ok(format!("{server}:11211").into()),
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(server.into())
                }
                Some(_) => Err(invalid("no host, or no port of 0 to 65535")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordKey;

    #[test]
    fn urls_are_read_whole() {
        let names =
            |url: &str| names(url).map(|names| names.join(" ")).map_err(|error| error.kind());
        assert_eq!(names("memcached://a:1,b:2").as_deref(), Ok("a:1 b:2"));
        assert_eq!(names("memcached://a,[::1]/").as_deref(), Ok("a:11211 [::1]:11211"));
        assert_eq!(names("memcached://[::1]:9").as_deref(), Ok("[::1]:9"));
        for wrong in ["", "a:1,", "a:port", "a:65536", ":1", "a:1/path", "a:1?x", "a,,b"] {
            let url = format!("memcached://{wrong}");
            assert_eq!(names(&url), Err(ErrorKind::Invalid), "{url}");
        }
        assert_eq!(names("memcached://me:secret@a:1"), Err(ErrorKind::Unsupported));
    }

    /// Where a record is must never change, or it would be led twice.
    #[test]
    fn records_stay_with_their_server() {
        let place = |url: &str, key: u32| {
            let key = RecordKey::new("scope", key.to_le_bytes()).unwrap();
            Servers::of(url).unwrap().server(key.id()).name.clone()
        };
        let mut on_a = 0;
        for key in 0..300 {
            let two = place("memcached://a:1,b:1", key);
            assert_eq!(place("memcached://b:1,a:1", key), two);
            on_a += u32::from(&*two == "a:1");
            // A third takes from both, and moves nothing between them.
            let three = place("memcached://a:1,b:1,c:1", key);
            assert!(three == two || &*three == "c:1");
        }
        assert!((100..200).contains(&on_a), "{on_a} of 300");
        let fixed: Vec<_> = (0..8).map(|key| place("memcached://a:1,b:1,c:1", key)).collect();
        assert_eq!(fixed.join(" "), "b:1 a:1 a:1 c:1 a:1 a:1 a:1 a:1");
    }
}
