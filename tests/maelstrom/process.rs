//! A node as Maelstrom runs it: a process, fed through pipes.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Far more than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(60);

pub const INIT: &str = r#"{"src":"c0","dest":"n1","body":{"type":"init","msg_id":1,"node_id":"n1","node_ids":["n1"]}}"#;

pub struct Node {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    pub stderr: Receiver<String>,
}

impl Node {
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node runs");
        Self {
            stdin: child.stdin.take(),
            stdout: lines(child.stdout.take().unwrap()),
            stderr: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().unwrap()
    }

    pub fn write(&mut self, line: &str) {
        self.stdin().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn request(&mut self, src: &str, msg_id: u64, mut body: Value) {
        body["msg_id"] = msg_id.into();
        self.write(&json!({"src": src, "dest": "n1", "body": body}).to_string());
    }

    pub fn line(&self) -> String {
        self.stdout.recv_timeout(LIMIT).expect("another line on stdout")
    }

    pub fn message(&self) -> Value {
        serde_json::from_str(&self.line()).expect("stdout carries messages only")
    }

    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Its input ends; it has nothing more to say, and is content.
    pub fn end(mut self) {
        self.close();
        assert_eq!(self.stdout.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let lines = BufReader::new(from).lines().map_while(Result::ok);
    thread::spawn(move || lines.into_iter().try_for_each(|line| sender.send(line)));
    receiver
}
