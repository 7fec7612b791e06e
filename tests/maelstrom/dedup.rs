//! `maelstrom_dedup`: identical requests in flight are done once.
//!
//! Most tests play the service that it asks (`--service lin-kv`). The node reads its input in
//! order, so a reply from the service that is written after some requests finds them all begun: who
//! joined whom never depends on time.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::example;
use crate::process::{INIT, LIMIT, Node};

#[test]
fn init_is_answered_to_the_letter() {
    let mut node = start(&[]);
    node.write(INIT);
    assert_eq!(
        node.line(),
        r#"{"src":"n1","dest":"c0","body":{"type":"init_ok","in_reply_to":1,"msg_id":0}}"#
    );
    node.end();
}

#[test]
fn sixty_four_identical_requests_are_executed_once() {
    let mut node = with_service();
    for client in 0..64 {
        node.request(&format!("c{client}"), 100 + client, json!({"type": "read", "key": "x"}));
    }
    let asked = node.message();
    assert_eq!(asked["dest"], "lin-kv");
    assert_eq!(asked["body"]["type"], "read");
    assert_eq!(asked["body"]["key"], "x");
    serve(&mut node, &asked, json!({"type": "read_ok", "value": 7}));

    let mut callers = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for _ in 0..64 {
        let reply = node.message();
        assert_eq!(reply["src"], "n1");
        assert_eq!(reply["body"]["type"], "read_ok");
        assert_eq!(reply["body"]["value"], 7);
        let caller = reply["dest"].as_str().unwrap().to_string();
        assert_eq!(reply["body"]["in_reply_to"], 100 + caller[1..].parse::<u64>().unwrap());
        assert!(callers.insert(caller), "two replies to one caller");
        assert!(numbers.insert(reply["body"]["msg_id"].as_u64().unwrap()), "a msg_id twice");
    }

    // The flight is over and nothing is kept: the next one asks again.
    node.request("c0", 500, json!({"type": "read", "key": "x"}));
    let asked = node.message();
    serve(&mut node, &asked, json!({"type": "read_ok", "value": 8}));
    assert_eq!(node.message()["body"]["value"], 8);
    node.end();
}

#[test]
fn other_bodies_are_other_requests_and_spelling_does_not_matter() {
    let mut node = with_service();
    node.request("c1", 1, json!({"type": "read", "key": "x"}));
    node.request("c1", 2, json!({"type": "read", "key": "y"}));
    node.request("c1", 3, json!({"type": "read", "key": 1}));
    node.request("c1", 4, json!({"type": "read", "key": "1"}));
    node.request("c1", 5, json!({"type": "fetch", "key": "x"}));
    node.request("c1", 6, json!({"type": "read", "key": "x", "fresh": true}));
    node.write(r#"{"dest":"n1","body":{ "key":"x","msg_id":7, "type" : "read"},"src":"c2"}"#);
    let asked: Vec<_> = (0..6).map(|_| node.message()).collect();
    for question in &asked {
        serve(&mut node, question, json!({"type": "read_ok", "value": question["body"]["msg_id"]}));
    }
    let mut values = BTreeSet::new();
    let mut of_first = Vec::new();
    for _ in 0..7 {
        let body = node.message()["body"].clone();
        let value = body["value"].as_u64().unwrap();
        values.insert(value);
        if [1, 7].contains(&body["in_reply_to"].as_u64().unwrap()) {
            of_first.push(value);
        }
    }
    assert_eq!(values.len(), 6, "six executions, each with a value of its own");
    assert_eq!(of_first[0], of_first[1], "c2 joined c1's first");
    node.end();
}

#[test]
fn an_error_goes_to_everybody_who_waits() {
    let mut node = with_service();
    for client in ["c1", "c2", "c3"] {
        node.request(client, 1, json!({"type": "read", "key": "x"}));
    }
    let asked = node.message();
    serve(&mut node, &asked, json!({"type": "error", "code": 20, "text": "no such key"}));
    for _ in 0..3 {
        let body = node.message()["body"].clone();
        assert_eq!((&body["type"], &body["code"]), (&json!("error"), &json!(20)));
        assert_eq!(body["text"], "no such key");
    }
    node.end();
}

#[test]
fn what_can_be_answered_is_answered_with_the_right_code() {
    let mut node = start(&[]);
    node.request("c1", 1, json!({"type": "echo", "echo": "too early"}));
    assert_eq!(node.message()["body"]["code"], 11);
    node.write(INIT);
    node.line();
    for (body, code) in [
        (json!({}), 12),
        (json!({"type": 5}), 12),
        (json!({"type": "read"}), 12),
        (json!({"type": "echo"}), 12),
        (json!({"type": "init"}), 12),
        (json!({"type": "init", "node_id": "n2"}), 22),
        (json!({"type": "write", "key": "x", "value": 1}), 10),
    ] {
        node.request("c1", 9, body.clone());
        let reply = node.message();
        assert_eq!((&reply["src"], &reply["dest"]), (&json!("n1"), &json!("c1")));
        assert_eq!(reply["body"]["type"], "error", "{body}");
        assert_eq!(reply["body"]["in_reply_to"], 9, "{body}");
        assert_eq!(reply["body"]["code"], code, "{body}");
    }
    node.end();
}

#[test]
fn what_cannot_be_answered_is_told_on_stderr_and_the_node_lives_on() {
    let mut node = start(&["--delay-ms", "0"]);
    node.write(INIT);
    node.line();
    // What is past the limit would be a request, if it were a line of its own.
    let long = "x".repeat(1 << 20)
        + r#"{"src":"c1","dest":"n1","body":{"type":"echo","msg_id":1,"echo":1}}"#;
    for line in [
        &b"not JSON"[..],
        b"[1,2]",
        b"{",
        b"\xff\xfe",
        br#"{"src":"c1","dest":"n1"}"#,
        br#"{"dest":"n1","body":{"type":"echo","msg_id":1,"echo":1}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"echo","echo":1}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"echo","msg_id":"1","echo":1}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"read_ok","in_reply_to":99}}"#,
        br#"{"src":"c1","dest":"n1","body":{"type":"read_ok","in_reply_to":"x"}}"#,
        long.as_bytes(),
    ] {
        node.stdin().write_all(line).unwrap();
        node.stdin().write_all(b"\n\n").unwrap();
        let said = node.stderr.recv_timeout(LIMIT);
        assert!(said.is_ok(), "{:?}", String::from_utf8_lossy(&line[..line.len().min(60)]));
    }
    node.request("c1", 2, json!({"type": "echo", "echo": {"still": "here"}}));
    assert_eq!(
        node.line(),
        r#"{"src":"n1","dest":"c1","body":{"type":"echo_ok","in_reply_to":2,"msg_id":1,"echo":{"still":"here"}}}"#
    );
    node.end();
}

#[test]
fn at_the_end_of_its_input_it_finishes_what_is_in_flight() {
    let mut node = start(&["--delay-ms", "200"]);
    node.write(INIT);
    node.line();
    let mut waiting = BTreeSet::new();
    for number in 0..40 {
        node.request("c1", number, json!({"type": "fetch", "key": number % 20}));
        waiting.insert(number);
    }
    node.close();
    for _ in 0..40 {
        let body = node.message()["body"].clone();
        let number = body["in_reply_to"].as_u64().unwrap();
        assert_eq!(body["type"], "fetch_ok");
        assert_eq!(body["value"]["key"], number % 20);
        assert!(waiting.remove(&number));
    }
    node.end();
}

#[test]
fn at_the_end_of_its_input_a_question_to_the_service_is_given_up() {
    let mut node = with_service();
    node.request("c1", 1, json!({"type": "read", "key": "x"}));
    node.request("c2", 1, json!({"type": "read", "key": "x"}));
    node.message();
    node.close();
    for _ in 0..2 {
        assert_eq!(node.message()["body"]["code"], 11);
    }
    node.end();
}

fn start(arguments: &[&str]) -> Node {
    static NODE: LazyLock<PathBuf> = LazyLock::new(|| example::build("maelstrom_dedup"));
    Node::start(&NODE, arguments)
}

/// It asks lin-kv, which is the test.
fn with_service() -> Node {
    let mut node = start(&["--service", "lin-kv"]);
    node.write(INIT);
    node.line();
    node
}

/// The service's reply to a question of the node's.
fn serve(node: &mut Node, question: &Value, mut body: Value) {
    body["in_reply_to"] = question["body"]["msg_id"].clone();
    node.write(&json!({"src": "lin-kv", "dest": "n1", "body": body}).to_string());
}
