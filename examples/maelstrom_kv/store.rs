//! The store itself, which knows nothing of clients: keys and values of any JSON.

use std::collections::HashMap;

use serde_json::Value;

use crate::wire::{Call, Code, Failure, Fields};

/// What a request wants done.
pub enum Operation {
    Read { key: String },
    Write { key: String, value: Value },
    Cas { key: String, from: Value, to: Value, create: bool },
}

impl Operation {
    pub fn parse(call: &Call) -> Result<Self, Failure> {
        let field = |name| call.field(name).cloned();
        // As JSON text, so that 1 and "1" are two keys.
        let key = || call.field("key").map(Value::to_string);
        match call.kind()? {
            "read" => Ok(Self::Read { key: key()? }),
            "write" => Ok(Self::Write { key: key()?, value: field("value")? }),
            "cas" => Ok(Self::Cas {
                key: key()?,
                from: field("from")?,
                to: field("to")?,
                create: call.body.get("create_if_not_exists") == Some(&Value::Bool(true)),
            }),
            other => {
                let text = format!("no such request: {other} (there are read, write and cas)");
                Err(Failure::new(Code::NotSupported, text))
            }
        }
    }
}

#[derive(Default)]
pub struct Store(HashMap<String, Value>);

impl Store {
    /// The fields of the reply.
    pub fn execute(&mut self, operation: Operation) -> Result<Fields, Failure> {
        match operation {
            Operation::Read { key } => {
                let value = self.0.get(&key).ok_or_else(|| absent(&key))?;
                Ok([("value".to_owned(), value.clone())].into_iter().collect())
            }
            Operation::Write { key, value } => {
                self.0.insert(key, value);
                Ok(Fields::new())
            }
            Operation::Cas { key, from, to, create } => {
                match self.0.get_mut(&key) {
                    Some(value) if *value == from => *value = to,
                    Some(value) => {
                        let text = format!("{key} is {value}, not {from}");
                        return Err(Failure::new(Code::PreconditionFailed, text));
                    }
                    None if create => drop(self.0.insert(key, to)),
                    None => return Err(absent(&key)),
                }
                Ok(Fields::new())
            }
        }
    }
}

fn absent(key: &str) -> Failure {
    Failure::new(Code::KeyDoesNotExist, format!("nothing is at {key}"))
}
