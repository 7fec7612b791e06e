//! What a URL says: which servers, as whom, under which names.
//!
//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?…]`, and `redis-cluster://` with several
//! `HOST:PORT` after commas, any of which leads to the others. After the question mark:
//!
//! | parameter | meaning |
//! |-|-|
//! | `prefix=NAME` | what names of keys begin with; `onceflight` |
//! | `eviction=allow` | use a server that may drop records when its memory is full |

use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use crate::error::{Error, ErrorKind};

/// What there is to know before a connection is opened. Shows no password.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub servers: Vec<Address>,
    pub cluster: bool,
    /// User, password, database.
    pub login: RedisConnectionInfo,
    pub prefix: String,
    pub allow_eviction: bool,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Settings {
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), [`Unsupported`](ErrorKind::Unsupported): TLS.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no `//`"))?;
        let cluster = match scheme {
            "redis" => false,
            "redis-cluster" => true,
            _ => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "no TLS to Redis in this build: take redis:// on a private network or through a tunnel",
                ));
            }
        };
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        // How a URL is to be read, the crate knows; but not that there may be several hosts.
        let one = |host| redis::parse_redis_url(&format!("redis://{login}{host}{tail}"));
        let urls: Option<Vec<_>> = hosts.split(',').map(one).collect();
        let urls = urls.filter(|urls| cluster || urls.len() == 1);
        let urls = urls.ok_or_else(|| invalid("it can't be read"))?;

        let mut prefix = "onceflight".to_owned();
        let mut allow_eviction = false;
        for (name, value) in urls[0].query_pairs() {
            match (&*name, &*value) {
                ("prefix", value) if is_plain(value) => value.clone_into(&mut prefix),
                ("eviction", "allow") => allow_eviction = true,
                _ => return Err(invalid("after `?` there is something unknown")),
            }
        }
        let infos: Result<Vec<_>, _> =
            urls.into_iter().map(IntoConnectionInfo::into_connection_info).collect();
        let infos = infos.map_err(|_| invalid("user, host or database can't be read"))?;
        let servers = infos.iter().filter_map(|info| match info.addr() {
            ConnectionAddr::Tcp(host, port) => Some(Address { host: host.clone(), port: *port }),
            _ => None,
        });
        let login = infos[0].redis_settings().clone();
        if cluster && login.db() != 0 {
            return Err(invalid("a cluster has no database but 0"));
        }
        Ok(Self { servers: servers.collect(), cluster, login, prefix, allow_eviction })
    }
}

/// Whether it can stand in names and in patterns for them.
fn is_plain(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    !prefix.is_empty() && prefix.bytes().all(plain)
}

/// Never the URL itself: there may be a password in it.
fn invalid(why: &str) -> Error {
    let detail = format!(
        "not a URL of Redis ({why}): redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?prefix=NAME], \
         or redis-cluster://HOST:PORT,HOST:PORT"
    );
    Error::new(ErrorKind::Invalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(url: &str) -> Vec<String> {
        Settings::parse(url).unwrap().servers.iter().map(Address::to_string).collect()
    }

    #[test]
    fn says_where_and_as_whom() {
        assert_eq!(servers("redis://example.com"), ["example.com:6379"]);
        assert_eq!(servers("redis://[::1]:7000/3"), ["[::1]:7000"]);
        assert_eq!(servers("redis-cluster://a:1,b:2,c"), ["a:1", "b:2", "c:6379"]);
        let settings = Settings::parse("redis-cluster://me:p%40ss@a:1,b:2/?prefix=shop").unwrap();
        assert_eq!(settings.login.username(), Some("me"));
        assert_eq!(settings.login.password(), Some("p@ss"));
        assert_eq!((settings.prefix.as_str(), settings.allow_eviction), ("shop", false));
        assert!(!format!("{settings:?}").contains("p@ss"));
        let settings = Settings::parse("redis://a/7?eviction=allow").unwrap();
        assert_eq!((settings.login.db(), settings.allow_eviction), (7, true));
    }

    #[test]
    fn refuses_what_it_does_not_know_without_telling_the_password() {
        let urls = [
            "redis:secret",
            "redis://",
            "redis://:secret@",
            "redis://:secret@a,b",
            "redis://:secret@a:port",
            "redis://:secret@a/name",
            "redis://:secret@a/?prefix=",
            "redis://:secret@a/?prefix=x*",
            "redis://:secret@a/?tiemout=3",
            "redis-cluster://:secret@a,b/1",
            "redis-cluster://:secret@a,,b",
        ];
        for url in urls {
            let error = Settings::parse(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = Settings::parse("rediss://a").expect_err("TLS");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
