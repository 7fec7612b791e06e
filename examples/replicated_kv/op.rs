//! What can be done to a key's value.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Write(String),
    /// Writes `to` if the value is `from`.
    Cas {
        from: String,
        to: String,
    },
    /// Adds to a number, an absent key being 0, and answers the sum.
    Add(i64),
    /// Appends to a string, an absent key being empty, and answers the whole.
    Append(String),
}

/// A response's status: 0, or Maelstrom's code for what is wrong.
pub mod status {
    pub const OK: i32 = 0;
    pub const NO_SUCH_KEY: i32 = 20;
    /// The value isn't what the operation needs.
    pub const PRECONDITION_FAILED: i32 = 22;
}
