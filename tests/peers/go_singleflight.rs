//! golang.org/x/sync/singleflight.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use onceflight::{Begin, DedupTable, Role, TryBegin};

use super::{PATIENCE, in_line, wait_until};

/// A value or the caller's own error, shared alike.
type Group = DedupTable<String, Result<String, String>>;

#[test]
fn go_singleflight_do() {
    let group = Group::new();
    let outcome = group.run("key", || Ok("bar".into())).unwrap();
    assert_eq!((Ok("bar".to_owned()), Role::Led), (outcome.value, outcome.role));
}

#[test]
fn go_singleflight_do_err() {
    let group = Group::new();
    let outcome = group.run("key", || Err("some error".into())).unwrap();
    assert_eq!(Err("some error".to_owned()), outcome.value);
    // Nothing is kept: the next one asks again.
    assert_eq!(Ok("fine".to_owned()), group.run("key", || Ok("fine".into())).unwrap().value);
}

#[test]
fn go_singleflight_do_dup_suppress() {
    const CALLERS: usize = 10;
    let group = Group::new();
    let calls = AtomicUsize::new(0);
    let roles: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    let outcome = group.run("key", || {
                        calls.fetch_add(1, Ordering::SeqCst);
                        in_line(&group, CALLERS as u64 - 1);
                        Ok("bar".into())
                    });
                    let outcome = outcome.unwrap();
                    assert_eq!(Ok("bar".to_owned()), outcome.value);
                    outcome.role
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(1, calls.into_inner());
    // Theirs says "shared" to the leader too; here it knows that it led.
    assert_eq!(1, roles.iter().filter(|role| **role == Role::Led).count());
    assert_eq!(CALLERS - 1, roles.iter().filter(|role| **role == Role::Shared).count());
}

/// A call after `forget` doesn't wait for the one before, and the one before still ends right.
#[test]
fn go_singleflight_forget() {
    let group = Group::new();
    let (started, first_started) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let group = &group;
        let first = scope.spawn(move || {
            group.run("key", || {
                started.send(()).unwrap();
                released.recv_timeout(PATIENCE).unwrap();
                Ok("1".into())
            })
        });
        first_started.recv_timeout(PATIENCE).unwrap();
        assert!(group.forget("key").unwrap());
        let second = group.run("key", || {
            // A third joins the second, not the forgotten first.
            let Ok(TryBegin::Follower(third)) = group.try_begin("key") else { panic!() };
            drop(third);
            Ok("2".into())
        });
        assert_eq!(Ok("2".to_owned()), second.unwrap().value);
        release.send(()).unwrap();
        assert_eq!(Ok("1".to_owned()), first.join().unwrap().unwrap().value);
    });
}

#[test]
fn go_singleflight_do_chan() {
    let group = Group::new();
    let Ok(TryBegin::Lead(lead)) = group.try_begin("key") else { panic!() };
    let Ok(TryBegin::Follower(mut follower)) = group.try_begin("key") else { panic!() };
    thread::scope(|scope| {
        scope.spawn(|| lead.complete(Ok("bar".into())).unwrap());
        follower.receiver().recv_timeout(PATIENCE).unwrap();
    });
    assert!(matches!(follower.wait(), Ok(Begin::Shared(Ok(bar))) if bar == "bar"));
}

/// The panic reaches its own caller. Theirs panics in every waiter; here the first in line does
/// the work instead, so each caller that panics does so for its own work.
#[test]
fn go_singleflight_panic_do() {
    const CALLERS: usize = 5;
    let group = Group::new();
    let panics = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let call = || group.run("key", || resume_unwind(Box::new("invalid memory")));
                let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
                assert_eq!(Some(&"invalid memory"), payload.downcast_ref());
                panics.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!(CALLERS, panics.into_inner());
    // Nobody hangs after them either.
    assert_eq!(Role::Led, group.run("key", || Ok(String::new())).unwrap().role);
}

/// A goroutine that exits inside the function: here, a thread that ends with the lead in hand.
#[test]
fn go_singleflight_goexit_do() {
    const FOLLOWERS: u64 = 5;
    let group = Group::new();
    thread::scope(|scope| {
        let (leads, leading) = mpsc::channel();
        let (exit, exiting) = mpsc::channel::<()>();
        let group = &group;
        scope.spawn(move || {
            let _lead = group.begin("key").unwrap();
            leads.send(()).unwrap();
            exiting.recv_timeout(PATIENCE).unwrap();
        });
        leading.recv_timeout(PATIENCE).unwrap();
        for _ in 0..FOLLOWERS {
            scope.spawn(|| match group.begin_timeout("key", PATIENCE).unwrap() {
                Begin::Lead(_exits_too) => {}
                other => panic!("{other:?}"),
            });
        }
        in_line(group, FOLLOWERS);
        exit.send(()).unwrap();
    });
    assert_eq!((0, 1 + FOLLOWERS), (group.stats().waiting, group.stats().leads));
}

/// Theirs has to crash the process, so that the panic of a call that nobody waits on is not lost.
/// Here the leader is a caller: its panic is its own, and a follower on a channel succeeds it.
#[test]
fn go_singleflight_panic_do_chan() {
    let group = Group::new();
    let Ok(TryBegin::Lead(lead)) = group.try_begin("key") else { panic!() };
    let Ok(TryBegin::Follower(mut follower)) = group.try_begin("key") else { panic!() };
    let panics = move || {
        let _lead = lead;
        resume_unwind(Box::new("in DoChan"))
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    follower.receiver().recv_timeout(PATIENCE).unwrap();
    let Ok(Begin::Lead(successor)) = follower.wait() else { panic!() };
    assert_eq!(2, successor.attempt());
}

#[test]
fn go_singleflight_panic_do_shared_by_do_chan() {
    let group = Group::new();
    thread::scope(|scope| {
        let (unblock, unblocked) = mpsc::channel::<()>();
        let group = &group;
        let blocking = scope.spawn(move || {
            let work = || {
                unblocked.recv_timeout(PATIENCE).unwrap();
                resume_unwind(Box::new("in Do"))
            };
            catch_unwind(AssertUnwindSafe(|| group.run("key", work))).is_err()
        });
        wait_until("a leader", || group.stats().leads == 1);
        let Ok(TryBegin::Follower(mut on_channel)) = group.try_begin("key") else { panic!() };
        unblock.send(()).unwrap();
        on_channel.receiver().recv_timeout(PATIENCE).unwrap();
        assert!(blocking.join().unwrap());
        let Ok(Begin::Lead(lead)) = on_channel.wait() else { panic!() };
        lead.complete(Ok("recovered".into())).unwrap();
    });
}

/// What was thrown comes out as it was, whatever its type.
#[test]
fn go_singleflight_panic_error_unwrap() {
    #[derive(Debug, PartialEq)]
    struct Thrown(u32);
    let group = Group::new();
    let call = || group.run("key", || resume_unwind(Box::new(Thrown(7))));
    let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(Some(&Thrown(7)), payload.downcast_ref());
}
