//! What can be chosen: globally, by profile, by request. A request's wish counts first, then its profile,
//! then what is usual.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::HeaderName;
use ureq::http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};

use super::{Coalesce, Event, Inner};
use crate::table::DedupTable;

pub(super) type OnEvent = Box<dyn Fn(&Event) + Send + Sync>;

/// How requests are coalesced.
///
/// | option | default |
/// |-|-|
/// | `enabled` | on |
/// | `ttl` | 0: nothing is kept |
/// | `wait` | 30 s |
/// | `max_request`, `max_response` | 1 MiB, 16 MiB |
/// | `ignored` | none |
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether they are at all.
    pub enabled: bool,
    /// How long a response is given to later requests. Failures (5xx too) never are.
    pub ttl: Duration,
    /// How long a request waits for another's response.
    pub wait: Duration,
    /// A longer body, in bytes, is sent on its own: chunked, if the request has no `Content-Length`.
    pub max_request: usize,
    /// A longer body, in bytes, isn't shared.
    pub max_response: usize,
    /// Headers in which identical requests may differ. `Authorization`, `Cookie` and `Proxy-Authorization`
    /// count even so.
    pub ignored: Vec<HeaderName>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Duration::ZERO,
            wait: Duration::from_secs(30),
            max_request: 1 << 20,
            max_response: 16 << 20,
            ignored: Vec::new(),
        }
    }
}

impl Options {
    pub(super) fn ignores(&self, name: &HeaderName) -> bool {
        const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
        self.ignored.contains(name) && !CREDENTIALS.contains(name)
    }
}

/// What one request wants: in its extensions.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    enabled: Option<bool>,
    ttl: Option<Duration>,
    wait: Option<Duration>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) profile: Option<String>,
}

impl Wish {
    /// To be coalesced, also where that isn't usual.
    pub fn new() -> Self {
        Self { enabled: Some(true), ..Self::default() }
    }

    /// To be sent on its own.
    pub fn off() -> Self {
        Self { enabled: Some(false), ..Self::default() }
    }

    /// By the options of that name.
    #[must_use]
    pub fn profile(self, name: impl Into<String>) -> Self {
        Self { profile: Some(name.into()), ..self }
    }

    /// How long its response is given to later requests.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// How long it waits for another's response.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// The same as every request with this key, whatever else they are: method, URL, credentials and body
    /// aren't looked at.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), ..self }
    }

    pub(super) fn over(&self, base: &Options) -> Options {
        Options {
            enabled: self.enabled.unwrap_or(base.enabled),
            ttl: self.ttl.unwrap_or(base.ttl),
            wait: self.wait.unwrap_or(base.wait),
            ..base.clone()
        }
    }
}

/// Sets up a [`Coalesce`]; the defaults are those of [`Options`].
#[derive(Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    usual: Options,
    profiles: HashMap<String, Options>,
    on_event: Option<OnEvent>,
}

impl Builder {
    /// Whether requests are coalesced that don't say.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.usual.enabled = enabled;
        self
    }

    /// How long a response is given to later requests.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.usual.ttl = ttl;
        self
    }

    /// How long a request waits for another's response.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.usual.wait = wait;
        self
    }

    /// The longest body of a request that is coalesced, and of a response that is shared, in bytes.
    pub fn max_body(mut self, request: usize, response: usize) -> Self {
        (self.usual.max_request, self.usual.max_response) = (request, response);
        self
    }

    /// A header in which identical requests may differ, such as one that traces them.
    pub fn ignore_header(mut self, name: HeaderName) -> Self {
        self.usual.ignored.push(name);
        self
    }

    /// Options under a name, for requests that [ask for it](Wish::profile).
    pub fn profile(mut self, name: impl Into<String>, options: Options) -> Self {
        self.profiles.insert(name.into(), options);
        self
    }

    /// Called once for each request that is coalesced, on its thread, when it is over. Nothing is locked.
    pub fn on_event(mut self, on_event: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// The middleware.
    pub fn build(self) -> Coalesce {
        let Self { usual, profiles, on_event } = self;
        let table = DedupTable::builder()
            .weigher(|key: &Vec<u8>, outcome: &Arc<super::Outcome>| key.len() + outcome.len())
            .build();
        Coalesce(Arc::new(Inner { table, usual, profiles, on_event }))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("usual", &self.usual).finish_non_exhaustive()
    }
}
