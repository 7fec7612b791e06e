//! Idempotency keys over real sockets.
//!
//! The suite is `conformance/`, in Python, and knows nothing of Rust: its clients are curl and the
//! standard library's, it plays the origin whose requests are to be executed once, and it starts the
//! server under test by a command. So other servers can be put to it too (`conformance/targets.py`).
//! Here that is `target.rs`, a server of hyper's around `onceflight::http::Idempotency`.
//!
//! | what | where |
//! |-|-|
//! | `<store>` | the whole suite over that store, by http.client |
//! | `by_curl` | the same by curl, over SQLite |
//! | `attempts` | what a key remembers of attempts that came to nothing |
//! | `checkpoints` | what an execution leaves for the next one |
//! | `handlers` | what a handler finds, and may do with its request |
//! | `transactions`, `postgres` | a handler's rows and its request's record in one transaction |
//! | `operators` | what an operator can do with the record of a request |
//! | `payments` | the example, killed in the midst of things |
//!
//! `control.sh` breaks `src/http` in many places and demands that the suite fails.
//! Servers' addresses come from `scripts/servers.sh run`.

#![cfg(unix)]

mod attempts;
mod checkpoints;
mod handlers;
#[cfg(feature = "sqlite")]
mod operators;
#[cfg(feature = "sqlite")]
mod payments;
#[cfg(feature = "postgres")]
mod postgres;
mod programs;
mod support;
#[cfg(feature = "sqlite")]
mod transactions;

#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
use std::env;
use std::process::Command;

use programs::program;

/// Runs the suite, with these flags; what it says is shown if it fails.
fn conforms(flags: &[&str]) {
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/conformance"))
        .args(flags)
        .arg("--")
        .arg(program("http_target"))
        .output()
        .expect("Python");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
}

/// Over a server of `scripts/servers.sh`.
#[cfg(any(feature = "postgres", feature = "redis", feature = "memcached"))]
fn conforms_over(variable: &str) {
    let store = env::var(variable)
        .unwrap_or_else(|_| panic!("no {variable}: run this under `scripts/servers.sh run`"));
    conforms(&["--store", &store]);
}

#[test]
fn memory() {
    conforms(&["--store", "memory:"]);
}

#[test]
#[cfg(feature = "sqlite")]
fn sqlite() {
    conforms(&["--store", "sqlite:"]);
}

#[test]
#[cfg(feature = "sqlite")]
fn by_curl() {
    conforms(&["--store", "sqlite:", "--client", "curl"]);
}

#[test]
#[cfg(feature = "postgres")]
fn postgres() {
    conforms_over("ONCEFLIGHT_TEST_POSTGRES");
}

#[test]
#[cfg(feature = "redis")]
fn redis() {
    conforms_over("ONCEFLIGHT_TEST_REDIS");
}

#[test]
#[cfg(feature = "redis")]
fn redis_cluster() {
    conforms_over("ONCEFLIGHT_TEST_REDIS_CLUSTER");
}

#[test]
#[cfg(feature = "memcached")]
fn memcached() {
    conforms_over("ONCEFLIGHT_TEST_MEMCACHED");
}
