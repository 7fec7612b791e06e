//! Maelstrom's messages: one JSON object a line, `{"src", "dest", "body"}`.

use std::io::{self, Write};
use std::process;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// A body's fields. `serde_json` keeps them sorted by name.
pub type Fields = Map<String, Value>;

/// The protocol's error codes that this node uses.
#[derive(Clone, Copy, Debug)]
pub enum Code {
    /// Nobody knows whether it happened.
    Timeout = 0,
    /// No such type of request here.
    NotSupported = 10,
    /// It didn't happen; try again.
    TemporarilyUnavailable = 11,
    /// A field is missing or of the wrong kind.
    MalformedRequest = 12,
    /// The state doesn't allow it.
    PreconditionFailed = 22,
}

/// Why a request has no result. Shared by all its callers, like a result.
#[derive(Clone, Debug)]
pub struct Failure {
    /// One of the protocol's codes: a service's own is passed on as it is.
    pub code: u64,
    /// For people.
    pub text: String,
}

impl Failure {
    /// One of this node's own.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code: code as u64, text: text.into() }
    }
}

/// A line that could be read.
pub enum Message {
    /// Somebody wants a reply.
    Request(Call),
    /// The reply to a request of ours.
    Reply {
        /// Our request's `msg_id`.
        to: u64,
        /// All of its body.
        body: Fields,
    },
}

/// A request, and what its reply needs.
#[derive(Clone)]
pub struct Call {
    /// This node's name, which the reply comes from.
    pub node: String,
    /// Who asked.
    pub caller: String,
    /// The request's number; the reply names it.
    pub msg_id: Number,
    /// Everything else in its body.
    pub body: Fields,
}

impl Message {
    /// An error is the reason why the line can't even be answered. Before it has been given a name
    /// the node goes by the one that it is addressed with.
    pub fn parse(line: &[u8], node: Option<&str>) -> Result<Self, String> {
        let mut message: Fields =
            serde_json::from_slice(line).map_err(|error| format!("not a JSON object ({error})"))?;
        let Some(Value::Object(mut body)) = message.remove("body") else {
            return Err("no body".into());
        };
        if let Some(to) = body.get("in_reply_to") {
            let to = to.as_u64().ok_or("a reply to no request of ours")?;
            return Ok(Self::Reply { to, body });
        }
        let Some(Value::String(caller)) = message.remove("src") else {
            return Err("no src to reply to".into());
        };
        let Some(Value::Number(msg_id)) = body.remove("msg_id") else {
            return Err("no msg_id to reply to".into());
        };
        let node = node.or_else(|| message.get("dest")?.as_str()).unwrap_or_default().into();
        Ok(Self::Request(Call { node, caller, msg_id, body }))
    }
}

impl Call {
    /// The type of the request.
    pub fn kind(&self) -> Result<&str, Failure> {
        self.text("type")
    }

    /// A field that has to be a string.
    pub fn text(&self, field: &str) -> Result<&str, Failure> {
        let value = self.field(field)?;
        value.as_str().ok_or_else(|| malformed(format!("{field} is not a string")))
    }

    /// A field that has to be there.
    pub fn field(&self, field: &str) -> Result<&Value, Failure> {
        self.body.get(field).ok_or_else(|| malformed(format!("no {field}")))
    }

    /// What makes two requests the same: all of the body but its number, however it was spelled.
    pub fn identity(&self) -> Vec<u8> {
        Value::Object(self.body.clone()).to_string().into_bytes()
    }
}

fn malformed(text: String) -> Failure {
    Failure::new(Code::MalformedRequest, text)
}

#[derive(Serialize)]
struct Envelope<'a, B> {
    src: &'a str,
    dest: &'a str,
    body: B,
}

#[derive(Serialize)]
struct Reply<'a> {
    r#type: &'a str,
    in_reply_to: &'a Number,
    msg_id: u64,
    #[serde(flatten)]
    fields: &'a Fields,
}

#[derive(Serialize)]
struct ErrorReply<'a> {
    r#type: &'a str,
    in_reply_to: &'a Number,
    msg_id: u64,
    code: u64,
    text: &'a str,
}

#[derive(Serialize)]
struct Ask<'a> {
    r#type: &'a str,
    msg_id: u64,
    #[serde(flatten)]
    fields: &'a Fields,
}

/// Stdout: whole lines, each flushed, numbered in the order in which they leave.
#[derive(Default)]
pub struct Output(Mutex<u64>);

impl Output {
    /// Replies to one caller.
    pub fn answer(&self, call: &Call, result: Result<&Fields, &Failure>) {
        let (src, dest, in_reply_to) = (&*call.node, &*call.caller, &call.msg_id);
        match result {
            Ok(fields) => {
                let kind = format!("{}_ok", call.kind().unwrap_or_default());
                let r#type = kind.as_str();
                self.send(|msg_id| Envelope {
                    src,
                    dest,
                    body: Reply { r#type, in_reply_to, msg_id, fields },
                });
            }
            Err(Failure { code, text }) => self.send(|msg_id| {
                let body = ErrorReply { r#type: "error", in_reply_to, msg_id, code: *code, text };
                Envelope { src, dest, body }
            }),
        }
    }

    /// Asks another node; `listen` gets the number that its reply will name, before it can come.
    pub fn ask(&self, src: &str, dest: &str, fields: &Fields, listen: impl FnOnce(u64)) {
        self.send(|msg_id| {
            listen(msg_id);
            Envelope { src, dest, body: Ask { r#type: "read", msg_id, fields } }
        });
    }

    fn send<'a, B: Serialize>(&self, message: impl FnOnce(u64) -> Envelope<'a, B>) {
        let mut next = self.0.lock();
        let written =
            serde_json::to_vec(&message(*next)).map_err(io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                let mut out = io::stdout().lock();
                out.write_all(&line)?;
                out.flush()
            });
        if let Err(error) = written {
            // Nobody can be told anything any more.
            eprintln!("stdout: {error}");
            process::exit(1);
        }
        *next += 1;
    }
}
