//! The suite that every server with idempotency keys is put to, with the proxy as the server.

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

#[test]
fn with_keys_in_memory() {
    conforms(&["--store", "memory:"]);
}

#[test]
fn with_keys_in_sqlite() {
    conforms(&["--store", "sqlite:"]);
}

#[test]
fn by_curl() {
    conforms(&["--store", "sqlite:", "--client", "curl"]);
}
