//! What a log recovers after a crash, and what it refuses.

use super::disk::{Disk, FileDisk};
use super::log::{Ballot, Entry, Log, Position, Recovered, Snapshot, Suffix, Write};
use std::{env, fs, io, process};

/// A file in memory: what a crash left is put there by hand.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Disk for &mut Bytes {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

fn open<D: Disk>(disk: D) -> io::Result<(Log<D, String>, Recovered<String>)> {
    Log::open(disk)
}

/// Entries after `prev`, written in a term.
fn write(term: u64, prev: (u64, u64), commands: &[&str]) -> Write<String> {
    let command = |&command: &&str| Entry::Command { now_ms: 1, command: command.to_owned() };
    let prev = Position { term: prev.0, index: prev.1 };
    Write {
        ballot: Ballot { term, voted_for: Some(2) },
        suffix: Some(Suffix { prev, entries: commands.iter().map(command).collect() }),
    }
}

fn commands(found: &Recovered<String>) -> Vec<&str> {
    let commands = found.entries.iter().filter_map(|entry| match entry {
        Entry::Term(_) => None,
        Entry::Command { command, .. } => Some(command.as_str()),
    });
    commands.collect()
}

#[test]
fn what_was_written_is_there() {
    let mut bytes = Bytes::default();
    let (mut log, found) = open(&mut bytes).unwrap();
    assert_eq!((found.ballot, found.entries), (Ballot::default(), Vec::new()));
    log.append(&write(1, (0, 0), &["a", "b", "c"])).unwrap();
    log.append(&write(2, (1, 1), &["d"])).unwrap();
    log.append(&Write { ballot: Ballot { term: 3, voted_for: None }, suffix: None }).unwrap();
    let (_, found) = open(&mut bytes).unwrap();
    assert_eq!(commands(&found), ["a", "d"], "a suffix takes the place of what stood there");
    assert_eq!(found.ballot, Ballot { term: 3, voted_for: None });
    assert_eq!(found.torn, 0);
}

#[test]
fn a_snapshot_begins_the_log_anew() {
    let mut bytes = Bytes::default();
    let (mut log, _) = open(&mut bytes).unwrap();
    log.append(&write(1, (0, 0), &["a", "b", "c"])).unwrap();
    let snapshot = Snapshot { position: Position { term: 1, index: 2 }, data: b"ab".to_vec() };
    log.compact(&snapshot, &write(1, (1, 2), &["c"])).unwrap();
    log.append(&write(1, (1, 3), &["d"])).unwrap();
    let (_, found) = open(&mut bytes).unwrap();
    assert_eq!(commands(&found), ["c", "d"]);
    assert_eq!(found.snapshot, snapshot);
}

#[test]
fn a_torn_tail_is_cut_off_wherever_it_tore() {
    let mut bytes = Bytes::default();
    let (mut log, _) = open(&mut bytes).unwrap();
    log.append(&write(1, (0, 0), &["kept"])).unwrap();
    let kept = bytes.0.len();
    let (mut log, _) = open(&mut bytes).unwrap();
    log.append(&write(1, (1, 1), &["torn"])).unwrap();
    let whole = bytes.0;
    for left in kept..whole.len() {
        let mut zeros = whole[..left].to_vec();
        zeros.resize(whole.len(), 0);
        let mut garbled = whole.clone();
        garbled[left] ^= 0x10;
        for torn in [whole[..left].to_vec(), zeros, garbled] {
            let mut bytes = Bytes(torn);
            let torn = bytes.0.len() - kept;
            let (mut log, found) = open(&mut bytes).unwrap();
            assert_eq!((commands(&found), found.torn), (vec!["kept"], torn), "at {left}");
            // And what comes next is not lost behind it.
            log.append(&write(1, (1, 1), &["next"])).unwrap();
            assert_eq!(commands(&open(&mut bytes).unwrap().1), ["kept", "next"]);
        }
    }
}

#[test]
fn damage_before_a_whole_record_is_refused() {
    let mut bytes = Bytes::default();
    let (mut log, _) = open(&mut bytes).unwrap();
    log.append(&write(1, (0, 0), &["a"])).unwrap();
    let first = bytes.0.len();
    let (mut log, _) = open(&mut bytes).unwrap();
    log.append(&write(1, (1, 1), &["b"])).unwrap();
    for at in 0..first {
        bytes.0[at] ^= 0x10;
        let error = open(&mut bytes).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "at {at}");
        bytes.0[at] ^= 0x10;
    }
    assert_eq!(commands(&open(&mut bytes).unwrap().1), ["a", "b"]);
}

#[test]
fn a_gap_is_refused() {
    let mut bytes = Bytes::default();
    let (mut log, _) = open(&mut bytes).unwrap();
    log.append(&write(1, (1, 3), &["d"])).unwrap();
    let error = open(&mut bytes).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_file_keeps_what_was_added_and_replaced() {
    let directory = env::temp_dir().join(format!("onceflight-log-{}", process::id()));
    let mut disk = FileDisk::open(&directory).unwrap();
    assert_eq!(disk.read().unwrap(), b"");
    disk.append(b"lost").unwrap();
    disk.replace(b"one ").unwrap();
    disk.append(b"two ").unwrap();
    assert_eq!(disk.read().unwrap(), b"one two ");
    let mut disk = FileDisk::open(&directory).unwrap();
    disk.append(b"three").unwrap();
    assert_eq!(disk.read().unwrap(), b"one two three");
    fs::remove_dir_all(&directory).unwrap();
}
