//! Maelstrom's messages: one JSON object a line, `{"src", "dest", "body"}`.
//!
//! | line | what becomes of it |
//! |-|-|
//! | a request | [`Node::request`], after `init`; an error is the reply |
//! | `init` | answered here: it gives the node its name |
//! | a reply | [`Node::reply`] |
//! | anything else | told on stderr |

use std::io::{self, BufRead, Read, Write};
use std::process;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// A longer line is refused without being kept.
pub const MAX_LINE: u64 = 1 << 20;

/// A body's fields. `serde_json` keeps them sorted by name.
pub type Fields = Map<String, Value>;

/// What a node does with what it is sent.
pub trait Node {
    /// Somebody wants a reply, now or later. An error is sent as one.
    fn request(&mut self, call: &Call) -> Result<(), Failure>;

    /// The reply to a request of ours: the `msg_id` that it had, and all of the reply's body.
    fn reply(&mut self, to: u64, _body: Fields) {
        eprintln!("a reply to {to}, which was never asked");
    }
}

/// The protocol's error codes that the nodes use.
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
    /// Nobody knows whether it happened, nor ever will.
    Crash = 13,
    /// It didn't happen, and won't.
    Abort = 14,
    /// There is nothing by that key.
    KeyDoesNotExist = 20,
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
enum Message {
    Request(Call),
    Reply { to: u64, body: Fields },
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

/// Hands each line to the node, in order, until the input ends.
pub fn serve(mut input: impl BufRead, output: &Output, node: &mut impl Node) -> io::Result<()> {
    let mut name = None;
    loop {
        let mut line = Vec::new();
        match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? {
            0 => return Ok(()),
            _ if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") => {
                eprintln!("a line of more than {MAX_LINE} bytes is left out");
                input.skip_until(b'\n')?;
            }
            _ if line.trim_ascii().is_empty() => {}
            _ => match Message::parse(&line, name.as_deref()) {
                Ok(Message::Request(call)) => receive(&call, &mut name, output, node),
                Ok(Message::Reply { to, body }) => node.reply(to, body),
                Err(reason) => eprintln!("{reason}: {}", String::from_utf8_lossy(&line).trim_end()),
            },
        }
    }
}

fn receive(call: &Call, name: &mut Option<String>, output: &Output, node: &mut impl Node) {
    let done = match call.kind() {
        Ok("init") => init(call, name, output),
        Ok(_) if name.is_none() => {
            Err(Failure::new(Code::TemporarilyUnavailable, "init comes first"))
        }
        Ok(_) => node.request(call),
        Err(failure) => Err(failure),
    };
    if let Err(failure) = done {
        output.answer(call, Err(&failure));
    }
}

fn init(call: &Call, name: &mut Option<String>, output: &Output) -> Result<(), Failure> {
    let given = call.text("node_id")?;
    if name.get_or_insert_with(|| given.into()) != given {
        return Err(Failure::new(Code::PreconditionFailed, "this node has a name already"));
    }
    let named = Call { node: given.into(), ..call.clone() };
    output.answer(&named, Ok(&Fields::new()));
    Ok(())
}

impl Message {
    /// An error is the reason why the line can't even be answered. Before it has been given a name
    /// the node goes by the one that it is addressed with.
    fn parse(line: &[u8], node: Option<&str>) -> Result<Self, String> {
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

    /// A field that has to be a whole number, not below 0.
    pub fn number(&self, field: &str) -> Result<u64, Failure> {
        let value = self.field(field)?;
        value.as_u64().ok_or_else(|| malformed(format!("{field} is not a whole number")))
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
