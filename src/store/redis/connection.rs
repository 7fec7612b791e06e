//! One connection to one server: commands go out, replies come back, and nothing lasts past its
//! deadline.
//!
//! The crate's own connection has a time-out for each read; a server that stops in the middle of a
//! reply, or trickles, would be given it again and again. So the crate packs and parses, and the
//! socket is ours.
//!
//! After an error nobody knows what is on its way: the connection is of no use any more.

use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use redis::{Cmd, InfoDict, Parser, RedisResult, ServerError, Value};

use super::url::{Address, Settings};
use super::wire;
use crate::error::Error;
use crate::store::stream::Stream;

/// A value, or that the server refused.
pub(super) type Reply = Result<Value, ServerError>;

pub(super) struct Connection {
    stream: BufReader<Stream>,
    /// Has what of a reply came before a deadline: the rest may be waited for later.
    parser: Parser,
}

impl Connection {
    /// Connects, logs in, and looks at whom it has before it.
    pub(super) fn open(
        address: &Address,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let stream = Stream::connect((&*address.host, address.port), deadline);
        let mut connection = stream
            .map(|stream| Self { stream: BufReader::new(stream), parser: Parser::new() })
            .map_err(|error| {
                Error::store(format!("Redis at {address} can't be reached: {error}"))
            })?;
        let mut ask = |command: &Cmd| {
            connection
                .call(&command.get_packed_command(), deadline)
                .map_err(|error| lost(address, &error))
        };
        let login = &settings.login;
        if let Some(password) = login.password() {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = login.username() {
                auth.arg(user);
            }
            // Only the code: a server that doesn't know AUTH quotes what it was sent.
            ask(auth.arg(password))?.map_err(|refusal| {
                let code = refusal.code();
                Error::store(format!(
                    "Redis at {address} refused to log in ({code}): look at user and password in the URL"
                ))
            })?;
        }
        if login.db() != 0 {
            ask(redis::cmd("SELECT").arg(login.db()))?
                .map_err(|refusal| refused(address, &refusal))?;
        }
        match ask(&redis::cmd("INFO"))? {
            Ok(info) => check(address, settings, &info)?,
            // Some services forbid it; then there is nothing to check by.
            Err(refusal) if refusal.code() == "NOPERM" || is_unknown(&refusal) => {}
            Err(refusal) => return Err(refused(address, &refusal)),
        }
        Ok(connection)
    }

    /// Sends a packed command and waits for its reply, while no other is on its way.
    pub(super) fn call(&mut self, command: &[u8], deadline: Instant) -> RedisResult<Reply> {
        self.send(command, deadline)?;
        let reply = self.stream.fill_buf()?;
        let (number, len) = (wire::number(reply), reply.len());
        let Some(number) = number else { return self.receive(deadline) };
        self.stream.consume(len);
        Ok(Ok(Value::Int(number)))
    }

    /// Sends packed commands. Each will have its reply, in their order.
    pub(super) fn send(&mut self, packed: &[u8], deadline: Instant) -> RedisResult<()> {
        let stream = self.stream.get_mut();
        stream.end_by(deadline);
        Ok(stream.write_all(packed)?)
    }

    /// Waits for the next reply.
    pub(super) fn receive(&mut self, deadline: Instant) -> RedisResult<Reply> {
        self.stream.get_mut().end_by(deadline);
        match self.parser.parse_value(&mut self.stream)? {
            Value::ServerError(refusal) => Ok(Err(refusal)),
            value => Ok(Ok(value)),
        }
    }
}

/// The server's word on itself: whether records are safe with it.
fn check(address: &Address, settings: &Settings, info: &Value) -> Result<(), Error> {
    let info: InfoDict = redis::from_redis_value_ref(info)
        .map_err(|_| Error::store(format!("what answers at {address} isn't Redis")))?;
    let text = |name| info.get::<String>(name).unwrap_or_default();
    let no = |why: String| Err(Error::store(format!("Redis at {address} {why}")));

    let version = text("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < 6) {
        return no(format!("is version {version}: it must be 6 or newer"));
    }
    if text("arch_bits") == "32" {
        return no("is a build for 32 bits, whose scripts can't store numbers of 64".into());
    }
    if text("redis_mode") == "sentinel" {
        return no("is a sentinel: give the address of the server itself".into());
    }
    if text("role") == "slave" && !settings.cluster {
        return no("is a replica: give the address of its primary".into());
    }
    let policy = text("maxmemory_policy");
    let limited = info.get::<u64>("maxmemory").is_some_and(|bytes| bytes > 0);
    if limited && !policy.is_empty() && policy != "noeviction" && !settings.allow_eviction {
        return no(format!(
            "has maxmemory-policy {policy}: when its memory is full it drops records, and what they \
             stand for would run again. Set it to noeviction, or accept that with ?eviction=allow"
        ));
    }
    Ok(())
}

/// The connection is lost; or no answer came in time, which costs the connection too.
pub(super) fn lost(address: &Address, error: &redis::RedisError) -> Error {
    Error::store(if error.is_timeout() {
        format!("Redis at {address} didn't answer in time; what was asked for may have happened")
    } else if error.is_io_error() {
        format!("the connection to Redis at {address} is lost: {error}")
    } else {
        // Not the parser's text, which quotes what it read.
        format!("what answers at {address} doesn't speak as Redis does")
    })
}

/// The server said no, and not because of a record.
pub(super) fn refused(address: &Address, refusal: &ServerError) -> Error {
    let advice = match refusal.code() {
        "OOM" => "; its memory is full: raise maxmemory",
        "NOAUTH" => "; put user and password into the URL",
        "NOPERM" => "; the documentation of RedisStore says what its user needs",
        "READONLY" => "; it is a replica: give the address of its primary",
        "MOVED" | "ASK" => "; it is part of a cluster: its URL begins with redis-cluster://",
        "CLUSTERDOWN" | "MASTERDOWN" | "LOADING" | "TRYAGAIN" => "; it may be well in a moment",
        _ => "",
    };
    let (code, details) = (refusal.code(), refusal.details().unwrap_or_default());
    Error::store(format!("Redis at {address} refused: {code} {details}{advice}"))
}

fn is_unknown(refusal: &ServerError) -> bool {
    refusal.details().is_some_and(|details| details.starts_with("unknown command"))
}
