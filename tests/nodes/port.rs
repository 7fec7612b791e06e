//! A node's port, and the client of the command line, as a person meets them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;

use crate::cluster::{Cluster, NODES};
use crate::net::{HELLO, write_frame};

#[test]
fn a_person_can_type() {
    let cluster = Cluster::calm(&[]);
    let leader = cluster.leader_of(&NODES);
    let said = type_in(
        &cluster,
        leader,
        br#"{"ask":"register","client":"ann","nonce":"73"}
{"ask":"update","key":"x","add":5,"client":"ann","incarnation":1,"seq":1,"ack":1}
{"ask":"update","key":"x","add":5,"client":"ann","incarnation":1,"seq":1,"ack":1}
{"ask":"update","key":"y","write":"a","client":"ben","seq":1}
{"ask":"update","key":"y","cas":{"from":"a","to":"b"},"client":"ben","seq":2}
{"ask":"update","key":"y","cas":{"from":"a","to":"b"},"client":"ben","seq":3}
{"ask":"update","key":"z","cas":{"from":"a","to":"b"},"client":"ben","seq":4}
{"ask":"update","key":"y","append":"c","client":"ben","seq":5}
{"ask":"keep_alive","client":"ann","incarnation":1}
{"ask":"read","key":"y"}
{"ask":"read","key":"z"}
"#,
    );
    let expected = [
        r#"{"answer":"registered","incarnation":1}"#,
        r#"{"answer":"done","value":"5"}"#,
        r#"{"answer":"done","value":"5"}"#,
        r#"{"answer":"done","value":null}"#,
        r#"{"answer":"done","value":null}"#,
        r#"{"answer":"failed","code":22}"#,
        r#"{"answer":"failed","code":20}"#,
        r#"{"answer":"done","value":"bc"}"#,
        r#"{"answer":"done","value":null}"#,
        r#"{"answer":"done","value":"bc"}"#,
        r#"{"answer":"done","value":null}"#,
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let follower = NODES.into_iter().find(|node| *node != leader).unwrap();
    let said = type_in(&cluster, follower, b"{\"ask\":\"read\",\"key\":\"y\"}\n");
    assert_eq!(said.trim(), format!(r#"{{"answer":"not_leader","leader":{leader}}}"#));
}

#[test]
fn nonsense_ends_its_own_connection_at_most() {
    let cluster = Cluster::calm(&[]);
    let leader = cluster.leader_of(&NODES);
    let frame = |frame: &[u8]| {
        let mut bytes = HELLO.to_vec();
        write_frame(&mut bytes, frame).unwrap();
        bytes
    };
    for nonsense in [
        b"\0who is there?".to_vec(),
        HELLO.to_vec(),
        HELLO[..3].to_vec(),
        [&HELLO[..], &[0xff; 4]].concat(),
        frame(b""),
        frame(&[0xff; 100]),
        // From a node that there isn't.
        frame(&[9, 1, 1, 1]),
        b"\xff\xfe\n".to_vec(),
        vec![b'x'; 2 << 20],
        Vec::new(),
    ] {
        assert_eq!(type_in(&cluster, leader, &nonsense), "");
    }
    let said = type_in(&cluster, leader, b"hello\n[]\n\n{\"ask\":\"dance\"}\n");
    assert_eq!(said.lines().filter(|line| line.contains(r#""kind":"malformed""#)).count(), 4);
    let said = type_in(&cluster, leader, b"{\"ask\":\"read\",\"key\":\"x\"}\n");
    assert_eq!(said.trim(), r#"{"answer":"done","value":null}"#);
}

#[test]
fn the_command_lines_client_finds_the_leader() {
    let cluster = Cluster::calm(&[]);
    let mut client = Cluster::program();
    client.arg("client").stdin(Stdio::piped()).stdout(Stdio::piped());
    for (node, door) in cluster.front.doors() {
        client.arg("--node").arg(format!("{node}={door}"));
    }
    let mut client = client.spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input
        .write_all(b"add x 5\nadd x 5\n\nwrite y a\ncas y a b\ncas y a b\nappend y c\nread y\n")
        .unwrap();
    drop(input);
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success());
    let expected = r#"{"answer":"done","value":"5"}
{"answer":"done","value":"10"}
{"answer":"done","value":null}
{"answer":"done","value":null}
{"answer":"failed","code":22}
{"answer":"done","value":"bc"}
{"answer":"done","value":"bc"}
"#;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

/// What a node says to these bytes, until it has no more to say.
fn type_in(cluster: &Cluster, node: u64, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(cluster.address(node).unwrap()).unwrap();
    // A connection that was ended is an answer too.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8(said).unwrap()
}
