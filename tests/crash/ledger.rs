//! What workers did and saw, in a file that outlives them: one line each, appended by one write.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a worker notes of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// It led, and what a leader does is done. It found `checkpoint`.
    Effect { key: u64, fence: u64, attempt: u32, value: u64, checkpoint: Option<u64>, pid: u32 },
    /// Its checkpoint was acknowledged: the fence it led with.
    Left { key: u64, fence: u64 },
    /// Its completion was acknowledged.
    Done { key: u64, value: u64 },
    /// It was given a response.
    Saw { key: u64, value: u64 },
}

pub struct Ledger(File);

impl Ledger {
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.expect("a ledger"))
    }

    pub fn note(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("JSON");
        line.push(b'\n');
        // One write, so that lines of several processes don't mix, and none is there by half.
        let written = (&self.0).write(&line).expect("room");
        assert_eq!(written, line.len());
    }
}

/// One lead of a key that came to its effect.
#[derive(Debug)]
pub struct Effect {
    pub fence: u64,
    pub attempt: u32,
    pub value: u64,
    pub checkpoint: Option<u64>,
}

/// All that is known of one key.
#[derive(Debug, Default)]
pub struct History {
    /// By fence.
    pub effects: Vec<Effect>,
    /// Fences of acknowledged checkpoints.
    pub left: Vec<u64>,
    /// Every response that was acknowledged or given.
    pub values: Vec<u64>,
}

/// Histories by key.
pub fn read(path: &Path) -> BTreeMap<u64, History> {
    let mut keys: BTreeMap<u64, History> = BTreeMap::new();
    for line in std::fs::read_to_string(path).expect("a ledger").lines() {
        match serde_json::from_str(line).expect("a whole line") {
            Entry::Effect { key, fence, attempt, value, checkpoint, pid: _ } => {
                let effects = &mut keys.entry(key).or_default().effects;
                effects.push(Effect { fence, attempt, value, checkpoint });
            }
            Entry::Left { key, fence } => keys.entry(key).or_default().left.push(fence),
            Entry::Done { key, value } | Entry::Saw { key, value } => {
                keys.entry(key).or_default().values.push(value);
            }
        }
    }
    for history in keys.values_mut() {
        history.effects.sort_by_key(|effect| effect.fence);
    }
    keys
}
