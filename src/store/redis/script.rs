//! The verbs, as scripts that the server runs: each is one atomic step there.

use redis::Script as Hashed;

use super::layout::{FORMAT, HEAD};
use super::reply::{DONE, STALE};
use super::wire;
use crate::store::{GRACE, Token};

/// A script is sent by its hash, and as a whole when the server doesn't know it yet.
pub(super) struct Script {
    text: String,
    hash: String,
    /// Of a record and the counter of its partition's epochs, how many it takes. Fewer is better: while
    /// a cluster moves a partition, a script must wait until all its keys have arrived.
    keys: usize,
}

/// All of them.
pub(super) struct Scripts {
    pub claim: Script,
    pub renew: Script,
    pub checkpoint: Script,
    pub complete: Script,
    pub release: Script,
    pub forget: Script,
    pub evict: Script,
    pub read: Script,
}

impl Scripts {
    /// Of which the news go to a channel.
    pub(super) fn new(channel: &str) -> Self {
        let (grace, nobody) = (GRACE.as_millis(), r"\0".repeat(Token::NOBODY.0.len()));
        let constants = format!(
            "local FORMAT, HEAD, GRACE, DONE, STALE = '{FORMAT}', {HEAD}, {grace}, {DONE}, {STALE}\n\
             local CHANNEL, NOBODY = '{channel}', '{nobody}'\n"
        );
        let record = include_str!("lua/record.lua");
        let (fresh, claim) = (include_str!("lua/fresh.lua"), include_str!("lua/claim.lua"));
        let verb = |verb: &str| Script::new([&*constants, record, verb].concat(), 1);
        Self {
            claim: Script::new([&*constants, record, fresh, claim].concat(), 2),
            renew: verb(include_str!("lua/renew.lua")),
            checkpoint: verb(include_str!("lua/checkpoint.lua")),
            complete: verb(include_str!("lua/complete.lua")),
            release: verb(include_str!("lua/release.lua")),
            forget: verb(include_str!("lua/forget.lua")),
            evict: Script::new([&constants, include_str!("lua/evict.lua")].concat(), 1),
            read: verb(include_str!("lua/read.lua")),
        }
    }
}

impl Script {
    fn new(text: String, keys: usize) -> Self {
        let hash = Hashed::new(&text).get_hash().to_owned();
        Self { text, hash, keys }
    }

    /// The command that runs it.
    pub(super) fn by_hash(&self, keys: [&[u8]; 2], args: &[&[u8]]) -> Vec<u8> {
        self.command(b"EVALSHA", &self.hash, keys, args)
    }

    /// The same, and the server knows the hash from then on.
    pub(super) fn by_text(&self, keys: [&[u8]; 2], args: &[&[u8]]) -> Vec<u8> {
        self.command(b"EVAL", &self.text, keys, args)
    }

    fn command(&self, name: &[u8], script: &str, keys: [&[u8]; 2], args: &[&[u8]]) -> Vec<u8> {
        let keys = &keys[..self.keys];
        let count = [b"0", b"1", b"2"][keys.len()];
        let head = [name, script.as_bytes(), count];
        wire::pack(head.iter().chain(keys).chain(args).copied())
    }
}
