//! The programs that are tested, which to cargo are examples.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Those of this build, so that nothing is built twice.
const FEATURES: [(&str, bool); 9] = [
    ("capi", cfg!(feature = "capi")),
    ("cli", cfg!(feature = "cli")),
    ("http", cfg!(feature = "http")),
    ("memcached", cfg!(feature = "memcached")),
    ("postgres", cfg!(feature = "postgres")),
    ("redis", cfg!(feature = "redis")),
    ("sqlite", cfg!(feature = "sqlite")),
    ("stores", cfg!(feature = "stores")),
    ("ureq", cfg!(feature = "ureq")),
];

/// Builds one, which is nothing to do if `cargo test` has just done so: no old program is tested.
pub fn program(name: &str) -> PathBuf {
    let features: Vec<_> = FEATURES.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", name, "--features", &features.join(",")]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(built.success(), "{name} can't be built");
    let deps = env::current_exe().expect("this program");
    deps.ancestors().nth(2).expect("a profile's directory").join("examples").join(name)
}
