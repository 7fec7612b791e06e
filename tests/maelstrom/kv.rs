//! `maelstrom_kv`: a retry is answered again and executed once.

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::example;
use crate::process::{INIT, LIMIT, Node};

const WRITE: &str = r#"{"src":"c1","dest":"n1","body":{"type":"write","msg_id":2,"key":"x","value":1,"client_id":"c1","seq":1}}"#;

#[test]
fn replies_to_the_letter() {
    let mut node = start(&[]);
    node.write(INIT);
    node.write(WRITE);
    assert_eq!(
        node.line(),
        r#"{"src":"n1","dest":"c0","body":{"type":"init_ok","in_reply_to":1,"msg_id":0}}"#
    );
    assert_eq!(
        node.line(),
        r#"{"src":"n1","dest":"c1","body":{"type":"write_ok","in_reply_to":2,"msg_id":1}}"#
    );
    node.write(&WRITE.replace(r#""msg_id":2"#, r#""msg_id":3"#));
    assert_eq!(
        node.line(),
        r#"{"src":"n1","dest":"c1","body":{"type":"write_ok","in_reply_to":3,"msg_id":2}}"#
    );
    node.write(r#"{"src":"c2","dest":"n1","body":{"type":"read","msg_id":1,"key":"x"}}"#);
    assert_eq!(
        node.line(),
        r#"{"src":"n1","dest":"c2","body":{"type":"read_ok","in_reply_to":1,"msg_id":3,"value":1}}"#
    );
    node.end();
}

#[test]
fn an_input_that_ends_without_a_newline_is_answered() {
    let mut node = start(&[]);
    node.write(INIT);
    node.stdin().write_all(WRITE.as_bytes()).unwrap();
    node.close();
    node.line();
    assert_eq!(node.message()["body"]["type"], "write_ok");
    node.end();
}

#[test]
fn without_a_client_it_is_a_plain_store() {
    let mut node = named(&[]);
    for (request, reply) in [
        (json!({"type": "read", "key": "x"}), json!(20)),
        (json!({"type": "cas", "key": "x", "from": 1, "to": 2}), json!(20)),
        (json!({"type": "write", "key": "x", "value": 1}), json!("write_ok")),
        (json!({"type": "cas", "key": "x", "from": 1, "to": 2}), json!("cas_ok")),
        (json!({"type": "cas", "key": "x", "from": 1, "to": 2}), json!(22)),
        (json!({"type": "read", "key": "x"}), json!({"value": 2})),
        // Any JSON is a key, and a value.
        (json!({"type": "write", "key": 1, "value": [null, {"a": 1.5}]}), json!("write_ok")),
        (json!({"type": "read", "key": "1"}), json!(20)),
        (json!({"type": "read", "key": 1}), json!({"value": [null, {"a": 1.5}]})),
        (
            json!({"type": "cas", "key": "y", "from": 0, "to": 5, "create_if_not_exists": true}),
            json!("cas_ok"),
        ),
        (json!({"type": "read", "key": "y"}), json!({"value": 5})),
    ] {
        assert_eq!(ask(&mut node, &request), reply, "{request}");
    }
    node.end();
}

#[test]
fn a_retried_cas_is_executed_once_and_gets_its_first_result() {
    let mut node = named(&[]);
    let mut check = |request: Value, reply: Value| {
        assert_eq!(ask(&mut node, &request), reply, "{request}");
    };
    let write = json!({"type": "write", "key": "x", "value": 1, "client_id": "a", "seq": 1});
    let there = json!({"type": "cas", "key": "x", "from": 1, "to": 2, "client_id": "a", "seq": 2});
    let read = json!({"type": "read", "key": "x", "client_id": "a", "seq": 3});
    check(write.clone(), json!("write_ok"));
    check(there.clone(), json!("cas_ok"));
    check(read.clone(), json!({"value": 2}));
    // Were they executed again, the second would fail with 22, and the third read what others wrote.
    check(json!({"type": "cas", "key": "x", "from": 2, "to": 1}), json!("cas_ok"));
    check(json!({"type": "write", "key": "x", "value": 9}), json!("write_ok"));
    for _ in 0..2 {
        check(write.clone(), json!("write_ok"));
        check(there.clone(), json!("cas_ok"));
        check(read.clone(), json!({"value": 2}));
    }
    check(json!({"type": "read", "key": "x"}), json!({"value": 9}));
    // Another client's numbers are its own.
    let theirs = json!({"type": "cas", "key": "x", "from": 9, "to": 1, "client_id": "b", "seq": 1});
    check(theirs, json!("cas_ok"));
    node.end();
}

#[test]
fn a_failed_cas_fails_again_with_the_same_words_though_it_would_now_succeed() {
    let mut node = named(&[]);
    let cas = json!({"type": "cas", "key": "x", "from": 1, "to": 2, "client_id": "a", "seq": 1});
    node.request("a", 1, cas.clone());
    let first = node.message();
    assert_eq!(first["body"]["code"], 20);
    assert_eq!(ask(&mut node, &json!({"type": "write", "key": "x", "value": 1})), "write_ok");
    node.request("a", 2, cas);
    let second = node.message();
    assert_eq!(second["body"]["in_reply_to"], 2);
    assert_eq!(second["body"]["code"], 20);
    assert_eq!(second["body"]["text"], first["body"]["text"]);
    assert_eq!(ask(&mut node, &json!({"type": "read", "key": "x"})), json!({"value": 1}));
    node.end();
}

#[test]
fn what_the_session_refuses_is_refused_with_its_code_and_changes_nothing() {
    let mut node = named(&["--window", "2"]);
    let write = |value: u64, client: &str, seq: u64| json!({"type": "write", "key": "x", "value": value, "client_id": client, "seq": seq});
    for (request, reply) in [
        (write(1, "a", 1), json!("write_ok")),
        // Another payload under the same number.
        (write(2, "a", 1), json!(12)),
        (json!({"type": "read", "key": "x", "client_id": "a", "seq": 1}), json!(12)),
        // Out of order, within the window.
        (write(3, "a", 3), json!("write_ok")),
        (write(4, "a", 2), json!("write_ok")),
        (write(5, "a", 9), json!("write_ok")),
        // Older than the window.
        (write(3, "a", 3), json!(14)),
        (write(6, "a", 7), json!(14)),
        // Nobody knows what became of this client's first one.
        (write(7, "b", 2), json!(13)),
        // There is no number 0.
        (write(8, "a", 0), json!(12)),
        (json!({"type": "read", "key": "x"}), json!({"value": 5})),
    ] {
        assert_eq!(ask(&mut node, &request), reply, "{request}");
    }
    node.end();
}

#[test]
fn what_cannot_be_understood_takes_no_number() {
    let mut node = named(&[]);
    for (request, code) in [
        (json!({"type": "append", "key": "x", "value": 1, "client_id": "a", "seq": 1}), 10),
        (json!({"type": "write", "key": "x", "client_id": "a", "seq": 1}), 12),
        (json!({"type": "write", "value": 1, "client_id": "a", "seq": 1}), 12),
        (json!({"type": "cas", "key": "x", "from": 1, "client_id": "a", "seq": 1}), 12),
        (json!({"type": "write", "key": "x", "value": 1, "client_id": "a"}), 12),
        (json!({"type": "write", "key": "x", "value": 1, "seq": 1}), 12),
        (json!({"type": "write", "key": "x", "value": 1, "client_id": "a", "seq": -1}), 12),
        (json!({"type": "write", "key": "x", "value": 1, "client_id": "a", "seq": "1"}), 12),
        (json!({"type": 5}), 12),
    ] {
        assert_eq!(ask(&mut node, &request), code, "{request}");
    }
    let request = json!({"type": "read", "key": "x", "client_id": "a", "seq": 1});
    assert_eq!(ask(&mut node, &request), 20, "seq 1 is still free");
    node.end();
}

#[test]
fn garbage_and_overlong_lines_are_told_on_stderr() {
    let mut node = named(&[]);
    let long = "x".repeat(1 << 20) + WRITE;
    for line in
        ["not JSON", "[1,2]", "{", r#"{"src":"c1","body":{"type":"read","key":"x"}}"#, &long]
    {
        node.write(line);
        assert!(node.stderr.recv_timeout(LIMIT).is_ok());
    }
    assert_eq!(ask(&mut node, &json!({"type": "read", "key": "x"})), 20);
    node.end();
}

#[test]
fn a_session_that_timed_out_is_never_executed_again() {
    // A thousandth of a second: over as soon as two requests aren't read within one.
    let mut node = named(&["--session-timeout", "0.001"]);
    let mut seq = 0;
    let code = loop {
        seq += 1;
        let request =
            json!({"type": "write", "key": "x", "value": seq, "client_id": "a", "seq": seq});
        let reply = ask(&mut node, &request);
        if reply != "write_ok" {
            break reply;
        }
    };
    assert_eq!(code, 13);
    assert_eq!(ask(&mut node, &json!({"type": "read", "key": "x"})), json!({"value": seq - 1}));
    node.end();
}

fn start(arguments: &[&str]) -> Node {
    static NODE: LazyLock<PathBuf> = LazyLock::new(|| example::build("maelstrom_kv"));
    Node::start(&NODE, arguments)
}

/// It has its name.
fn named(arguments: &[&str]) -> Node {
    let mut node = start(arguments);
    node.write(INIT);
    node.line();
    node
}

/// The reply in short: an error's code, what was read, or the type.
fn ask(node: &mut Node, request: &Value) -> Value {
    node.request("c1", 7, request.clone());
    let body = node.message()["body"].take();
    assert_eq!(body["in_reply_to"], 7);
    match body["type"].as_str().unwrap() {
        "error" => body["code"].clone(),
        "read_ok" => json!({"value": body["value"]}),
        other => json!(other),
    }
}
