//! The suite that every server with idempotency keys is put to, with the proxy as the server.

use std::env;
use std::process::Command;

fn conforms(flags: &[&str]) {
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http/conformance");
    let output = Command::new("python3")
        .args([suite, "--target", "proxy"])
        .args(flags)
        .args(["--", env!("CARGO_BIN_EXE_onceflight"), "proxy"])
        .output()
        .expect("python3");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
}

/// Over a server of `scripts/servers.sh`.
fn conforms_over(variable: &str) {
    let store = env::var(variable)
        .unwrap_or_else(|_| panic!("no {variable}: run this under `scripts/servers.sh run`"));
    conforms(&["--store", &store]);
}

#[test]
fn with_keys_in_memory() {
    conforms(&["--store", "memory:"]);
}

#[test]
fn with_keys_in_sqlite() {
    conforms(&["--store", "sqlite:"]);
}

#[test]
fn with_keys_in_postgres() {
    conforms_over("ONCEFLIGHT_TEST_POSTGRES");
}

#[test]
fn with_keys_in_redis() {
    conforms_over("ONCEFLIGHT_TEST_REDIS");
}

#[test]
fn with_keys_in_a_redis_cluster() {
    conforms_over("ONCEFLIGHT_TEST_REDIS_CLUSTER");
}

#[test]
fn with_keys_in_memcached() {
    conforms_over("ONCEFLIGHT_TEST_MEMCACHED");
}

#[test]
fn by_curl() {
    conforms(&["--store", "sqlite:", "--client", "curl"]);
}
