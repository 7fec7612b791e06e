//! A deduplicating HTTP/1.1 proxy: identical concurrent requests reach the backend once.
//!
//! ```text
//! cargo run --release --example proxy                                      a demonstration
//! cargo run --release --example proxy -- --backend http://127.0.0.1:9000   the real thing
//! ```
//!
//! | file | its one idea |
//! |-|-|
//! | `main.rs` | what it is told to do, and when to stop |
//! | `proxy.rs` | a request leads, waits, or is answered at once: the use of the table |
//! | `identity.rs` | when two requests are the same, and what may be shared |
//! | `backend.rs` | asking the backend (ureq) |
//! | `server.rs` | an HTTP server on blocking sockets (hyper) |
//! | `demo.rs` | a slow backend and a crowd of clients |

mod backend;
mod demo;
mod identity;
mod proxy;
mod server;

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;
use lexopt::prelude::*;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use backend::Backend;
use identity::Identity;
use proxy::{Observer, Proxy};
use server::Server;

const HELP: &str = "\
usage: proxy [--backend URL] [flags]

  --backend URL            the server behind it, http://HOST[:PORT][/PREFIX];
                           without it: a demonstration with a backend of its own
  --listen ADDR            127.0.0.1:8080 (the demonstration: a free port)
  --window-ms N            how long a response is kept for later requests; 0: not at all (0)
  --wait-ms N              how long a request waits for another's response;
                           past it, it asks the backend alone (30000)
  --backend-timeout-ms N   how long the backend may keep silent before it is 504 (30000)
  --max-body BYTES         of a request: more is answered 413; of a response: more is
                           streamed to one caller each, not shared (16777216)
  --header NAME            two requests are the same only if this header is (repeatable)
  --safe-only              coalesce only GET and HEAD, not every method
  --verbose                a line on stderr for each step of each request
  --demo-exit              end after the demonstration

Two requests are the same if these are: method, URL, body, and the headers Host, Range,
Cache-Control, Pragma, Origin, Prefer, Accept*, If-*, Content-*, X-Forwarded-* (but For),
X-Requested-With, X-HTTP-Method-Override, and each whose name has auth, cookie, token, key,
session, secret, signature or tenant in it (Authorization, X-Api-Key, Idempotency-Key).

Every response says in x-onceflight how it came about: led, shared, replayed or alone.
A failure of the backend (5xx, or our 502 and 504) goes to everybody who waits and is never kept;
nor is a response whose Cache-Control has no-store, no-cache or private. Not shared at all: one that
varies on a header not listed here, one that sets a cookie for a caller without credentials, and a
stream of events; whoever waited for such a response asks for itself.
SIGINT and SIGTERM stop it: requests in flight are answered, then it exits with 0. A second
signal ends it at once, with 1.";

/// What the command line says.
struct Options {
    backend: Option<String>,
    listen: Option<String>,
    window: Duration,
    wait: Duration,
    timeout: Duration,
    max_body: usize,
    headers: Vec<HeaderName>,
    safe_only: bool,
    verbose: bool,
    demo_exit: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("proxy: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    run(options).unwrap_or_else(|error| {
        eprintln!("proxy: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    // Before anything is served, so that no signal finds us unprepared.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let demo = match options.backend {
        Some(_) => None,
        None => Some(demo::Demo::start()?),
    };
    let backend = options.backend.or_else(|| Some(demo.as_ref()?.backend())).unwrap_or_default();
    let usual = if demo.is_some() { "127.0.0.1:0" } else { "127.0.0.1:8080" };
    let listen = options.listen.as_deref().unwrap_or(usual);
    let listener = TcpListener::bind(listen).map_err(|error| format!("{listen}: {error}"))?;

    let proxy = Proxy::new(
        Backend::new(&backend, options.max_body, options.timeout),
        Identity { headers: options.headers, safe_only: options.safe_only },
        options.window,
        options.wait,
        observer(options.verbose, demo.as_ref().map(demo::Demo::observer)),
    );
    let server = Server::start(listener, options.max_body, move |request| proxy.handle(&request))?;
    writeln!(io::stdout(), "listening on {}", server.address())?;
    io::stdout().flush()?;

    let mut exit = ExitCode::SUCCESS;
    if let Some(demo) = &demo {
        let as_promised = demo.run(server.address())?;
        if !as_promised {
            exit = ExitCode::FAILURE;
        }
    }
    if demo.is_none() || !options.demo_exit {
        if demo.is_some() {
            demo::invite(server.address())?;
        }
        signals.forever().next();
    }
    let draining = server.stop_accepting();
    eprintln!("stopping: what is in flight is finished first");
    thread::spawn(move || {
        signals.forever().next();
        eprintln!("stopped by a second signal");
        process::exit(1);
    });
    draining.wait();
    Ok(exit)
}

fn observer(verbose: bool, demo: Option<Observer>) -> Observer {
    Box::new(move |step, request| {
        if verbose {
            eprintln!("{step:?} {} {}", request.method(), request.uri());
        }
        if let Some(demo) = &demo {
            demo(step, request);
        }
    })
}

/// None: only help was asked for.
fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        backend: None,
        listen: None,
        window: Duration::ZERO,
        wait: Duration::from_secs(30),
        timeout: Duration::from_secs(30),
        max_body: 16 << 20,
        headers: Vec::new(),
        safe_only: false,
        verbose: false,
        demo_exit: false,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("backend") => options.backend = Some(arguments.value()?.parse_with(base)?),
            Long("listen") => options.listen = Some(arguments.value()?.string()?),
            Long("window-ms") => options.window = milliseconds(&mut arguments)?,
            Long("wait-ms") => options.wait = milliseconds(&mut arguments)?,
            Long("backend-timeout-ms") => options.timeout = milliseconds(&mut arguments)?,
            Long("max-body") => options.max_body = arguments.value()?.parse()?,
            Long("header") => options.headers.push(arguments.value()?.parse()?),
            Long("safe-only") => options.safe_only = true,
            Long("verbose") | Short('v') => options.verbose = true,
            Long("demo-exit") => options.demo_exit = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(options))
}

fn milliseconds(arguments: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    Ok(Duration::from_millis(arguments.value()?.parse()?))
}

/// The proxy speaks plain HTTP to the backend, and adds each request's path and query itself.
fn base(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err("it has to begin with http://HOST".into());
    }
    if uri.query().is_some() {
        return Err("it can't have a query".into());
    }
    Ok(url.into())
}
