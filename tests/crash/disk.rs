//! A small file system, which a test may fill.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::harness::Place;
use crate::worker::{self, Worker};

/// Whom the worker takes itself for.
#[derive(Clone, Copy)]
pub enum User {
    /// It may mount.
    Root,
    /// It may run servers, which end with it.
    #[cfg(feature = "postgres")]
    Nobody,
}

/// In a worker, a file system of that size. `None`: there was one, and all went well; or there can't be
/// one here, which is said.
pub fn small(place: &Place, size: &str, user: User) -> Option<PathBuf> {
    let disk = place.dir.path.join("disk");
    if worker::task::<()>().is_some() {
        return Some(disk);
    }
    fs::create_dir(&disk).expect("a directory");
    let may_mount = mounted(&disk, size, user).arg("true").status();
    if !may_mount.is_ok_and(|status| status.success()) {
        let word = format!("{} SKIPPED: a file system can't be mounted here", place.test);
        writeln!(io::stderr(), "{word}").expect("somebody reads"); // a harness keeps `eprintln` to itself
        return None;
    }
    let mut command = mounted(&disk, size, user);
    command.arg(env::current_exe().expect("this program"));
    Worker::start_by(command, place, ()).succeed();
    None
}

/// Runs its last arguments in namespaces of their own, where whoever runs the test may mount, and nobody
/// else sees it.
fn mounted(disk: &Path, size: &str, user: User) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    let script = match user {
        User::Root => r#"mount -t tmpfs -o "size=$1" none "$0" && shift && exec "$@""#,
        #[cfg(feature = "postgres")]
        User::Nobody => {
            command.args(["--pid", "--mount-proc", "--fork", "--kill-child"]);
            r#"mount -t tmpfs -o "size=$1" none "$0" && shift &&
                exec unshare --user --map-user=65534 --map-group=65534 "$@""#
        }
    };
    command.args(["sh", "-c", script]).arg(disk).arg(size);
    command
}
