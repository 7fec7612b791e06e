//! After a fork: the child's copy of a table says so, and a table of its own works.

use std::io;
use std::process::{Command, ExitStatus};
use std::thread;

use onceflight::store::MemoryStore;
use onceflight::{ErrorKind, Stats};

use crate::support::*;

/// Set in the process that forks. It runs this test alone, so no other thread holds a lock that its
/// child inherits.
const ALONE: &str = "ONCEFLIGHT_FORKS";

/// Catches a child that hangs in a lock of the parent's, calls the parent's store, or settles what
/// the parent leads; and a parent that is disturbed by its child.
#[test]
fn a_forked_child_is_told_and_can_open_its_own() {
    if std::env::var_os(ALONE).is_some() {
        return forks();
    }
    let this = "fork::a_forked_child_is_told_and_can_open_its_own";
    let alone = Command::new(std::env::current_exe().unwrap())
        .args([this, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
}

fn forks() {
    let [one, two, mut three] = processes(usual).map(Some);
    let (one, two) = (one.unwrap(), two.unwrap());
    one.begin("done").lead().complete(response(1)).unwrap();
    let mut leads = ["k", "l", "m"].map(|key| Some(one.begin(key).lead()));
    // A watcher, so that all threads of a table are there.
    let elsewhere = two.begin("n").lead();
    assert_eq!(ErrorKind::Timeout, kind(one.begin_timeout("n", SHORT)));
    let calls = one.wire.all_begun();

    let status = in_child(|| {
        assert_eq!(ErrorKind::Forked, kind(one.begin("k")));
        assert_eq!(ErrorKind::Forked, kind(one.begin("done")));
        assert_eq!(ErrorKind::Forked, kind(one.look("new")));
        assert_eq!(ErrorKind::Forked, kind(one.run("new", || unreachable!())));
        assert_eq!(ErrorKind::Forked, kind(one.forget("done")));
        assert_eq!(ErrorKind::Forked, kind(one.look_up("done")));
        assert_eq!(ErrorKind::Forked, kind(one.list(None, 1)));
        assert_eq!(ErrorKind::Forked, kind(one.evict("k")));
        assert_eq!(ErrorKind::Forked, kind(one.purge(1)));
        assert_eq!(Stats::default(), one.stats());
        let [first, second, third] = leads.each_mut().map(|lead| lead.take().unwrap());
        assert_eq!(ErrorKind::Forked, kind(first.renew(LONG)));
        assert_eq!(ErrorKind::Forked, kind(first.set_checkpoint(b"child")));
        let refused = first.complete(response(2)).unwrap_err();
        assert_eq!((ErrorKind::Forked, response(2)), (refused.error.kind(), refused.response));
        assert!(refused.lead.is_none());
        assert_eq!(ErrorKind::Forked, kind(second.cancel()));
        drop(third);
        one.close();
        drop(three.take());
        assert_eq!(calls, one.wire.all_begun());

        let own = MemoryStore::new();
        let [a, b] = [(); 2].map(|()| Process::new(&own, usual));
        let lead = a.begin("k").lead();
        thread::scope(|scope| {
            let waiting = watch(scope, &b, "k");
            lead.complete(response(3)).unwrap();
            assert_eq!(3, waiting.join().unwrap().shared());
        });
    });
    assert!(status.success(), "the child failed: {status}");

    for (lead, key) in leads.into_iter().zip(["k", "l", "m"]) {
        lead.unwrap().complete(response(4)).unwrap();
        assert_eq!(4, three.as_ref().unwrap().begin(key).replayed());
    }
    elsewhere.cancel().unwrap();
}

/// Runs `work` in a forked child, with an end set to it, and waits for that.
fn in_child(work: impl FnOnce()) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    let patience = u32::try_from(PATIENCE.as_secs()).unwrap();
    // SAFETY: the process runs this test alone. Its other threads are the harness's, which waits, and
    // those of the tables, whose locks the child must not touch: that is what is tested. The child
    // ends without unwinding into the harness.
    #[allow(unsafe_code)]
    unsafe {
        match libc::fork() {
            -1 => panic!("{}", io::Error::last_os_error()),
            0 => {
                libc::alarm(patience);
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(i32::from(done.is_err()));
            }
            child => {
                let mut status = 0;
                assert_eq!(child, libc::waitpid(child, &raw mut status, 0));
                ExitStatus::from_raw(status)
            }
        }
    }
}
