//! The verbs, as scripts that the server runs: each is one atomic step there.

use redis::{Cmd, Script as Hashed};

use crate::store::{GRACE, Token};

/// What a record begins with.
const FORMAT: char = '2';
/// How long it is without its last three parts: the first of them tells whose it is.
pub(super) const HEAD: usize = 63;

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
            "local FORMAT, HEAD, GRACE = '{FORMAT}', {HEAD}, {grace}\n\
             local CHANNEL, NOBODY = '{channel}', '{nobody}'\n"
        );
        let record = include_str!("lua/record.lua");
        let verb = |verb: &str| Script::new([&*constants, record, verb].concat(), 1);
        Self {
            claim: Script { keys: 2, ..verb(include_str!("lua/claim.lua")) },
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
    pub(super) fn by_hash(&self, keys: [&str; 2], args: &[&[u8]]) -> Cmd {
        self.command("EVALSHA", &self.hash, keys, args)
    }

    /// The same, and the server knows the hash from then on.
    pub(super) fn by_text(&self, keys: [&str; 2], args: &[&[u8]]) -> Cmd {
        self.command("EVAL", &self.text, keys, args)
    }

    fn command(&self, name: &str, script: &str, keys: [&str; 2], args: &[&[u8]]) -> Cmd {
        let keys = &keys[..self.keys];
        let key_bytes: usize = keys.iter().map(|key| key.len()).sum();
        let bytes: usize = args.iter().map(|arg| arg.len()).sum();
        // Name, script and the number of keys are three more; ten bytes are enough for that number.
        let room = name.len() + script.len() + 10 + key_bytes + bytes;
        let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), room);
        command.arg(name).arg(script).arg(self.keys).arg(keys).arg(args);
        command
    }
}
