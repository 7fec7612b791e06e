//! What a request asks for, and the slow thing that knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::wire::{Call, Code, Failure, Fields, Output};

/// A service that has said nothing by then may still say it, to nobody.
const PATIENCE: Duration = Duration::from_secs(30);

/// Simulated, or another node.
pub struct Backend<'o> {
    delay: Duration,
    executions: AtomicU64,
    service: Option<Service<'o>>,
}

struct Service<'o> {
    name: String,
    output: &'o Output,
    /// Who waits for the reply to which request. None: no reply comes any more.
    pending: Mutex<Option<HashMap<u64, Sender<Fields>>>>,
}

/// Can this request be executed? Asked before it is begun: a refusal takes no time.
pub fn check(call: &Call) -> Result<(), Failure> {
    let needed = match call.kind()? {
        "echo" => "echo",
        "read" | "fetch" => "key",
        other => {
            let text = format!("no such request: {other} (there are echo, read and fetch)");
            return Err(Failure::new(Code::NotSupported, text));
        }
    };
    call.field(needed).map(drop)
}

impl<'o> Backend<'o> {
    /// With a service, it is asked for the values of keys.
    pub fn new(delay: Duration, service: Option<String>, output: &'o Output) -> Self {
        let pending = || Mutex::new(Some(HashMap::new()));
        let service = service.map(|name| Service { name, output, pending: pending() });
        Self { delay, executions: AtomicU64::new(0), service }
    }

    /// Does the work; the fields are those of the reply.
    pub fn execute(&self, call: &Call) -> Result<Fields, Failure> {
        if call.kind()? == "echo" {
            let echo = call.field("echo")?.clone();
            self.work();
            return Ok([("echo".into(), echo)].into_iter().collect());
        }
        let key = call.field("key")?;
        let value = match &self.service {
            Some(service) => service.read(&call.node, key)?,
            // Each execution has another number: a reply shows which one it comes from.
            None => json!({ "key": key, "execution": self.work() }),
        };
        Ok([("value".into(), value)].into_iter().collect())
    }

    /// A reply from the service.
    pub fn replied(&self, to: u64, body: Fields) {
        let waiting = self.service.as_ref().and_then(|it| it.pending.lock().as_mut()?.remove(&to));
        match waiting {
            Some(waiting) => drop(waiting.send(body)),
            None => eprintln!("nobody waits for a reply to {to}"),
        }
    }

    /// Whoever still waits for a reply waits for nothing.
    pub fn close(&self) {
        if let Some(service) = &self.service {
            *service.pending.lock() = None;
        }
    }

    fn work(&self) -> u64 {
        thread::sleep(self.delay);
        self.executions.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Service<'_> {
    fn read(&self, node: &str, key: &Value) -> Result<Value, Failure> {
        let (sender, reply) = bounded(1);
        let fields = [("key".into(), key.clone())].into_iter().collect();
        let mut asked = 0;
        self.output.ask(node, &self.name, &fields, |number| {
            asked = number;
            // Closed: the sender is dropped, and the wait below ends at once.
            if let Some(pending) = self.pending.lock().as_mut() {
                pending.insert(number, sender);
            }
        });
        let reply = reply.recv_timeout(PATIENCE);
        if let Some(pending) = self.pending.lock().as_mut() {
            pending.remove(&asked);
        }
        let mut body = reply.map_err(|error| match error {
            RecvTimeoutError::Timeout => Failure::new(Code::Timeout, "the service is silent"),
            RecvTimeoutError::Disconnected => {
                Failure::new(Code::TemporarilyUnavailable, "this node is stopping")
            }
        })?;
        if body.get("type").is_some_and(|kind| kind == "error") {
            let text = body.get("text").and_then(Value::as_str).unwrap_or("no reason given");
            return Err(Failure {
                code: body.get("code").and_then(Value::as_u64).unwrap_or(Code::Timeout as u64),
                text: text.into(),
            });
        }
        Ok(body.remove("value").unwrap_or(Value::Null))
    }
}
