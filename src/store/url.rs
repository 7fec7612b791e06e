//! A store by its URL.

use std::sync::Arc;

use super::Store;
use crate::error::{Error, ErrorKind};

/// What opens a store by its whole URL.
type Open = fn(&str) -> Result<Arc<dyn Store>, Error>;

/// Schemes, and what opens them; `None`: this build has no such store.
const SCHEMES: &[(&str, &str, Option<Open>)] = &[
    ("sqlite:", "sqlite", sqlite()),
    ("postgres:", "postgres", postgres()),
    ("postgresql:", "postgres", postgres()),
    ("redis:", "redis", redis()),
    ("rediss:", "redis", redis()),
    ("redis-cluster:", "redis", redis()),
    ("memcached:", "memcached", memcached()),
];

/// Opens a store: `sqlite:PATH`, `postgres://…`, `redis://…`, `redis-cluster://H:P,H:P`,
/// `memcached://H:P,H:P`.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported): the build lacks that store's feature.
/// [`Invalid`](ErrorKind::Invalid): no such URL. [`Store`](ErrorKind::Store): it can't be reached, or
/// its schema can't be used.
pub fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    let Some((scheme, feature, open)) = SCHEMES.iter().find(|(scheme, ..)| url.starts_with(scheme))
    else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the URL is none of sqlite:PATH, postgres://, redis://, redis-cluster://, memcached://",
        ));
    };
    match open {
        Some(open) => open(url),
        None => Err(Error::new(
            ErrorKind::Unsupported,
            format!("this build has no store for {scheme} (feature `{feature}`)"),
        )),
    }
}

/// The four below: `Some` where the feature is on.
macro_rules! opener {
    ($name:ident, $feature:literal, $open:expr) => {
        #[cfg(feature = $feature)]
        const fn $name() -> Option<Open> {
            Some(|url| Ok(Arc::new($open(url)?)))
        }
        #[cfg(not(feature = $feature))]
        const fn $name() -> Option<Open> {
            None
        }
    };
}

opener!(sqlite, "sqlite", super::sqlite::SqliteStore::open);
opener!(postgres, "postgres", super::postgres::PostgresStore::open);
opener!(redis, "redis", super::redis::RedisStore::open);
opener!(memcached, "memcached", super::memcached::MemcachedStore::open);
