//! The command `proxy`: what it is told to do, and when to stop.
//!
//! | file | its one idea |
//! |-|-|
//! | `options.rs`, `help.txt` | the command line |
//! | `route.rs` | what becomes of a request: the use of the two tables |
//! | `identity.rs` | when two requests without a key are the same, and what may be shared |
//! | `backend.rs` | asking the backend |
//! | `metrics.rs`, `admin.rs` | what operators see |
//! | `demo.rs` | a slow backend and a crowd of clients |

mod admin;
mod backend;
mod demo;
mod identity;
mod metrics;
mod options;
mod route;

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName};
use onceflight::http::{Idempotency, Requirement};
use onceflight::store::{self, MemoryStore, Store};
use onceflight::{IdempotencyTable, OnLeaseExpired};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::budget::Budget;
use crate::command::{Failed, secret};
use crate::scope;
use crate::server::{Limits, Server};
use backend::Backend;
use options::Options;
use route::{Observer, Proxy};

pub fn run(arguments: lexopt::Parser) -> Result<ExitCode, Failed> {
    let options = Options::parse(arguments)?;
    log_to_stderr(options.verbose);
    // A connection is a file, and the usual limit of a process is for programs with few.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        log::warn!("the number of files can't be raised: {error}");
    }
    // Before anything is served, so that no signal finds us unprepared.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let demo = if options.backend.is_none() { Some(demo::Demo::start()?) } else { None };
    let exit = options.demo_exit && demo.is_some();
    let (admin, drain) = (options.admin.clone(), options.drain);
    let (server, proxy) = serve(options, demo.as_ref())?;
    let admin = admin.map(|address| admin::serve(&address, proxy, &server)).transpose()?;
    writeln!(io::stdout(), "listening on {}", server.address())?;
    if let Some(admin) = &admin {
        writeln!(io::stdout(), "admin on {}", admin.address())?;
    }
    io::stdout().flush()?;

    let mut code = ExitCode::SUCCESS;
    if let Some(demo) = &demo {
        let as_promised = demo.run(server.address())?;
        if !as_promised {
            code = ExitCode::FAILURE;
        }
        if !exit {
            demo::invite(server.address())?;
        }
    }
    if !exit {
        signals.forever().next();
    }
    let draining = server.stop_accepting();
    log::info!("stopping: what is in flight is finished first");
    thread::spawn(move || {
        signals.forever().next();
        log::warn!("stopped by a second signal");
        process::exit(1);
    });
    match draining.drain(drain) {
        0 => log::info!("stopped"),
        left => log::warn!("stopped, with {left} connections still busy"),
    }
    Ok(code)
}

fn serve(options: Options, demo: Option<&demo::Demo>) -> Result<(Server, Arc<Proxy>), Failed> {
    let backend = options.backend.clone().or_else(|| Some(demo?.backend())).unwrap_or_default();
    let usual = if demo.is_some() { "127.0.0.1:0" } else { "127.0.0.1:8080" };
    let memory = Budget::new(options.max_body_memory);
    let proxy = Arc::new(Proxy {
        backend: Backend::new(&backend, options.backend_timeout)
            .map_err(|why| Failed::Usage(format!("--backend: {why}")))?,
        // Kept responses have a quarter of the memory at most, or those in flight would have to wait for their end.
        table: route::table(options.window, options.max_in_flight, options.max_body_memory / 4),
        keys: keys(&options)?,
        metrics: Arc::default(),
        wait: options.wait,
        max_body: options.max_body,
        memory: Arc::clone(&memory),
        observe: observer(demo.map(demo::Demo::observer)),
        identity: options.identity,
    });
    let limits = Limits {
        connections: options.max_connections,
        body: options.max_body,
        memory,
        patience: options.client_timeout,
    };
    let listener = listener(options.listen.as_deref().unwrap_or(usual))?;
    let server = Server::start(listener, limits, {
        let proxy = Arc::clone(&proxy);
        move |request, interim| proxy.handle(request, interim)
    })?;
    Ok((server, proxy))
}

/// What becomes of requests with a key.
fn keys(options: &Options) -> Result<Idempotency, Failed> {
    let table = IdempotencyTable::builder()
        .ttl(options.ttl)
        .lease(options.lease)
        // As long as the backend takes: its timeouts end an execution, and nothing else does.
        .max_lead(Duration::from_secs(24 * 3600))
        .max_in_flight(options.max_in_flight)
        .max_response_len(options.max_body)
        .on_lease_expired(if options.hold {
            OnLeaseExpired::Hold
        } else {
            OnLeaseExpired::TakeOver
        })
        .over(store(options)?)?;
    let (must, header) = (options.require_key, options.scope_header.clone());
    let one_host = options.one_host;
    Ok(Idempotency::builder()
        .require(move |method, _| match Requirement::usual(method) {
            Requirement::Required if !must => Requirement::Optional,
            usual => usual,
        })
        .lenient_keys(options.lenient_keys)
        .principal(move |headers| {
            let caller = all_of(headers, &header);
            if one_host { caller } else { scope::principal(&all_of(headers, &HOST), &caller) }
        })
        .wait(options.wait)
        .max_request(options.max_body)
        .secret(secret()?)
        .over(table))
}

fn store(options: &Options) -> Result<Arc<dyn Store>, Failed> {
    if let Some(url) = &options.store {
        return Ok(store::open(url)?);
    }
    log::info!("without --store, keys are remembered in memory, until this process ends");
    Ok(Arc::new(MemoryStore::bounded(options.max_kept)))
}

/// The header's value. Several of them are one list, as everywhere in HTTP.
fn all_of(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let values: Vec<_> = headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    values.join(&b", "[..])
}

fn listener(address: &str) -> Result<TcpListener, Failed> {
    TcpListener::bind(address).map_err(|error| Failed::Run(format!("{address}: {error}").into()))
}

fn observer(demo: Option<Observer>) -> Observer {
    Box::new(move |step, request| {
        log::debug!("{step:?} {} {}", request.method(), request.uri());
        if let Some(demo) = &demo {
            demo(step, request);
        }
    })
}

/// What was logged is on stderr, a line each. Journals and containers add the time.
fn log_to_stderr(verbose: bool) {
    let usual = if verbose { "debug" } else { "info" };
    let choice = env_logger::Env::default().default_filter_or(usual);
    env_logger::Builder::from_env(choice)
        .format(|line, record| writeln!(line, "{}: {}", record.level(), record.args()))
        .init();
}
