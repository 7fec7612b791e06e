//! What the command line says.

use std::time::Duration;

use http::HeaderName;
use http::header::AUTHORIZATION;
use lexopt::prelude::*;

use super::identity::Identity;
use crate::command::{Failed, time};

#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    pub backend: Option<String>,
    pub listen: Option<String>,
    pub store: Option<String>,
    pub admin: Option<String>,
    pub require_key: bool,
    pub lenient_keys: bool,
    pub scope_header: HeaderName,
    pub one_host: bool,
    pub ttl: Duration,
    pub lease: Duration,
    pub hold: bool,
    pub identity: Identity,
    pub window: Duration,
    pub wait: Duration,
    pub backend_timeout: Duration,
    pub client_timeout: Duration,
    pub drain: Duration,
    pub max_body: usize,
    pub max_body_memory: usize,
    pub max_kept: usize,
    pub max_connections: usize,
    pub max_in_flight: usize,
    pub verbose: bool,
    pub demo_exit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend: None,
            listen: None,
            store: None,
            admin: None,
            require_key: false,
            lenient_keys: false,
            scope_header: AUTHORIZATION,
            one_host: false,
            ttl: Duration::from_secs(24 * 3600),
            lease: Duration::from_secs(30),
            hold: false,
            identity: Identity::default(),
            window: Duration::ZERO,
            wait: Duration::from_secs(30),
            backend_timeout: Duration::from_secs(30),
            client_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            max_body: 16 << 20,
            max_body_memory: 1 << 30,
            max_kept: 1 << 30,
            max_connections: 4096,
            max_in_flight: 65536,
            verbose: false,
            demo_exit: false,
        }
    }
}

impl Options {
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Self, Failed> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next()? {
            // Borrowed from the parser, and so said once before its value is taken.
            let flag = match argument {
                Long(name) => name.to_owned(),
                Short('h') => "help".into(),
                Short('v') => "verbose".into(),
                other => return Err(other.unexpected().into()),
            };
            options.set(&flag, &mut arguments).map_err(|error| match error {
                Failed::Usage(why) => Failed::Usage(format!("--{flag}: {why}")),
                other => other,
            })?;
        }
        if options.max_connections == 0 || options.max_in_flight == 0 {
            return Err(Failed::Usage("nothing could be served within limits of 0".into()));
        }
        if options.max_body_memory < options.max_body.saturating_mul(2).max(1 << 20) {
            let least = "--max-body-memory: it has to be twice --max-body, and 1 MiB, at least";
            return Err(Failed::Usage(least.into()));
        }
        if options.lease.is_zero() {
            return Err(Failed::Usage("--lease: a lease of 0 would be over at once".into()));
        }
        for timeout in [options.backend_timeout, options.client_timeout] {
            if timeout.is_zero() {
                return Err(Failed::Usage("no answer arrives within a timeout of 0".into()));
            }
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, arguments: &mut lexopt::Parser) -> Result<(), Failed> {
        match flag {
            "backend" => self.backend = Some(arguments.value()?.string()?),
            "listen" => self.listen = Some(arguments.value()?.string()?),
            "store" => self.store = Some(arguments.value()?.string()?),
            "admin" => self.admin = Some(arguments.value()?.string()?),
            "require-key" => self.require_key = true,
            "lenient-keys" => self.lenient_keys = true,
            "scope-header" => self.scope_header = arguments.value()?.parse()?,
            "one-host" => self.one_host = true,
            "ttl" => self.ttl = arguments.value()?.parse_with(time)?,
            "lease" => self.lease = arguments.value()?.parse_with(time)?,
            "hold" => self.hold = true,
            "ignore-header" => {
                let name = arguments.value()?.parse()?;
                self.identity.ignore(name).map_err(Failed::Usage)?;
            }
            "window-ms" => self.window = milliseconds(arguments)?,
            "wait-ms" => self.wait = milliseconds(arguments)?,
            "backend-timeout-ms" => self.backend_timeout = milliseconds(arguments)?,
            "client-timeout-ms" => self.client_timeout = milliseconds(arguments)?,
            "drain-ms" => self.drain = milliseconds(arguments)?,
            "max-body" => self.max_body = arguments.value()?.parse()?,
            "max-body-memory" => self.max_body_memory = arguments.value()?.parse()?,
            "max-kept" => self.max_kept = arguments.value()?.parse()?,
            "max-connections" => self.max_connections = arguments.value()?.parse()?,
            "max-in-flight" => self.max_in_flight = arguments.value()?.parse()?,
            "verbose" => self.verbose = true,
            "demo-exit" => self.demo_exit = true,
            "help" => return Err(Failed::Help(include_str!("help.txt"))),
            _ => return Err(Failed::Usage("there is no such flag".into())),
        }
        Ok(())
    }
}

fn milliseconds(arguments: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    Ok(Duration::from_millis(arguments.value()?.parse()?))
}
