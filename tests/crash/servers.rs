//! Servers of a test's own, so that nobody else misses them, or their time.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers.sh");

/// One of each kind; stopped when it is dropped.
pub struct Servers {
    dir: PathBuf,
    variables: HashMap<String, String>,
}

impl Servers {
    /// With these variables in their environment.
    pub fn start(environment: &[(&str, &OsStr)]) -> Self {
        let script = r#"variables=$("$0" start) && eval "$variables" && env"#;
        let mut shell = Command::new("bash");
        shell.args(["-c", script, SCRIPT]).stderr(Stdio::inherit());
        let output = shell.envs(environment.iter().copied()).output().expect("bash");
        assert!(output.status.success(), "the servers don't start");
        let output = String::from_utf8(output.stdout).expect("text");
        let pairs = output.lines().filter_map(|line| line.split_once('='));
        let variables: HashMap<_, _> =
            pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self { dir: variables["ONCEFLIGHT_TEST_SERVERS"].clone().into(), variables }
    }

    pub fn url(&self, store: &str) -> String {
        self.variables[&format!("ONCEFLIGHT_TEST_{}", store.to_uppercase())].clone()
    }

    /// Its first process.
    pub fn process(&self, server: &str) -> String {
        let file = self.dir.join(format!("{server}.pid"));
        fs::read_to_string(file).expect("it runs").trim().into()
    }

    /// `stop`, `kill`, `start`, `freeze` or `thaw` for one of them. Returns when that is done.
    pub fn order(&self, server: &str, verb: &str) {
        let status = Command::new(self.dir.join(format!("{server}.{verb}"))).status();
        assert!(status.expect("a script").success(), "{server}.{verb}");
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = Command::new(SCRIPT).arg("stop").arg(&self.dir).status();
    }
}

/// One for all tests that want it at the same time; dropped when the last of them ends.
pub fn shared<T>(slot: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let started = Arc::new(start());
        *slot = Arc::downgrade(&started);
        started
    })
}
