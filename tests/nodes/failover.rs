//! A leader that is lost in the middle of a request: the effect is there once, and every retry gets
//! the same answer.

use std::thread::{self, JoinHandle};

use crate::client::{Client, Lost, Nodes};
use crate::cluster::{Cluster, LIMIT, NODES, eventually};
use crate::op::Op;
use crate::protocol::{Answer, Ask, Refusal};

#[test]
fn a_leader_dies_after_its_request_was_replicated() {
    let mut cluster = Cluster::calm(&[]);
    let (mut client, leader, others) = one_added(&cluster);
    // It speaks and doesn't hear, so it never learns that the entry is on all nodes.
    cluster.router.cut(others.map(|other| (other, leader)));
    let question = client.next_question("x", Op::Add(1));
    let asked = thread::spawn(move || (client.update("x", Op::Add(1)), client));
    // If somebody else was elected just now, the client asks there, and that is as well.
    eventually("all nodes have logged it", || {
        let [one, ..] = NODES.map(|node| cluster.status(node).map(|it| it.logged));
        let same = NODES.iter().all(|&node| cluster.status(node).map(|it| it.logged) == one);
        let held = cluster.status(leader).is_some_and(|it| it.applied < it.logged);
        (same && held || asked.is_finished()).then_some(())
    });
    cluster.kill(leader);
    cluster.router.cut([]);
    let (answer, mut client) = asked.join().unwrap();
    assert_eq!(answer.unwrap(), done("2"), "the client asked the next leader");
    told_again(&cluster, &question);
    cluster.run(leader);
    assert_eq!(client.read("x").unwrap(), done("2"));
    cluster.settled();
}

#[test]
fn a_leader_dies_with_a_request_that_nobody_else_has() {
    let mut cluster = Cluster::calm(&[]);
    let (mut client, leader, others) = one_added(&cluster);
    let question = client.next_question("x", Op::Add(1));
    cut_off(&cluster, leader, others);
    let asked = thread::spawn(move || (client.update("x", Op::Add(1)), client));
    logged_in_vain(&cluster, leader, &asked);
    cluster.kill(leader);
    let (answer, mut client) = asked.join().unwrap();
    assert_eq!(answer.unwrap(), done("2"), "the next leader executed it");
    told_again(&cluster, &question);
    // The old leader comes back with its own copy, which is dropped.
    cluster.router.cut([]);
    cluster.run(leader);
    cluster.settled();
    assert_eq!(client.read("x").unwrap(), done("2"));
}

#[test]
fn a_deposed_leader_tells_who_waits_that_it_does_not_know() {
    let cluster = Cluster::calm(&[]);
    let (mut client, leader, others) = one_added(&cluster);
    let question = client.next_question("x", Op::Add(1));
    cut_off(&cluster, leader, others);
    let waiting = {
        let mut nodes = only(&cluster, leader);
        let question = question.clone();
        thread::spawn(move || nodes.ask_once(&question, LIMIT))
    };
    logged_in_vain(&cluster, leader, &waiting);
    let next = cluster.leader_of(&others);
    assert_eq!(only(&cluster, next).ask_once(&question, LIMIT).unwrap(), done("2"));
    cluster.router.cut([]);
    let told = waiting.join().unwrap().unwrap();
    assert!(matches!(told, Answer::Retry { .. } | Answer::NotLeader { .. }), "{told:?}");
    // Its table has caught up: now it knows, though it doesn't lead.
    cluster.settled();
    assert_eq!(only(&cluster, leader).ask_once(&question, LIMIT).unwrap(), done("2"));
    assert_eq!(client.read("x").unwrap(), done("2"));
}

#[test]
fn duplicates_in_flight_on_the_leader_join_and_are_logged_once() {
    let cluster = Cluster::calm(&[]);
    let mut client = cluster.client("ann");
    for sum in 1.. {
        let leader = cluster.leader_of(&NODES);
        let before = cluster.settled();
        let question = client.next_question("x", Op::Add(1));
        let asked = ask_sixteen_times(&cluster, leader, before[0].logged, &question);
        assert_eq!(client.update("x", Op::Add(1)).unwrap(), done(&sum.to_string()));
        let after = cluster.settled();
        // An election in between is logged too, and ends what waits.
        if before[0].term == after[0].term {
            assert_eq!(asked, vec![done(&sum.to_string()); 16]);
            assert_eq!(after[0].logged, before[0].logged + 1, "one entry for all of them");
            return;
        }
    }
}

/// At once, of a leader that can't finish the first before it has the others, as a rule.
fn ask_sixteen_times(cluster: &Cluster, leader: u64, logged: u64, question: &Ask) -> Vec<Answer> {
    cluster.router.cut(NODES.map(|other| (other, leader)));
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let (mut nodes, question) = (only(cluster, leader), question.clone());
            thread::spawn(move || nodes.ask_once(&question, LIMIT).unwrap())
        })
        .collect();
    eventually("it is logged", || {
        let more = cluster.status(leader).is_some_and(|it| it.logged > logged);
        (more || asked.iter().all(JoinHandle::is_finished)).then_some(())
    });
    cluster.router.cut([]);
    asked.into_iter().map(|answer| answer.join().unwrap()).collect()
}

#[test]
fn a_request_that_is_logged_twice_is_executed_once() {
    let cluster = Cluster::calm(&["--patience", "0.1"]);
    let (mut client, leader, others) = one_added(&cluster);
    let before = cluster.settled()[0].logged;
    let question = client.next_question("x", Op::Add(1));
    cluster.router.cut(others.map(|other| (other, leader)));
    // Each question waits for as long as the node has patience, and the next one is another proposal.
    eventually("it is logged twice", || {
        let _ = only(&cluster, leader).ask_once(&question, LIMIT);
        NODES
            .iter()
            .any(|&node| cluster.status(node).is_some_and(|it| it.logged > before + 1))
            .then_some(())
    });
    cluster.router.cut([]);
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("2"));
    cluster.settled();
    assert_eq!(client.read("x").unwrap(), done("2"));
}

#[test]
fn a_node_that_was_away_gets_the_sessions_with_the_snapshot() {
    let mut cluster = Cluster::calm(&["--snapshot-after", "20"]);
    let (mut client, leader, [away, other]) = one_added(&cluster);
    cluster.kill(away);
    for sum in 2..=99 {
        assert_eq!(client.update("x", Op::Add(1)).unwrap(), done(&sum.to_string()));
    }
    let question = client.next_question("x", Op::Add(1));
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("100"));
    cluster.run(away);
    cluster.settled();
    assert!(cluster.status(away).unwrap().installed > 0);
    assert_eq!(only(&cluster, away).ask_once(&question, LIMIT).unwrap(), done("100"));
    // It and the other one go on without the leader, whichever of the two leads.
    cluster.kill(leader);
    cluster.leader_of(&[away, other]);
    told_again(&cluster, &question);
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("101"));
}

#[test]
fn all_nodes_are_killed_and_remember() {
    let mut cluster = Cluster::calm(&["--snapshot-after", "10"]);
    let (mut client, ..) = one_added(&cluster);
    for sum in 2..=25 {
        assert_eq!(client.update("x", Op::Add(1)).unwrap(), done(&sum.to_string()));
    }
    let question = client.next_question("x", Op::Add(1));
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("26"));
    for node in NODES {
        cluster.kill(node);
    }
    for node in NODES {
        cluster.run(node);
    }
    told_again(&cluster, &question);
    assert_eq!(client.read("x").unwrap(), done("26"));
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("27"));
}

#[test]
fn refusals_are_told_apart() {
    let cluster = Cluster::calm(&["--window", "2"]);
    let mut client = cluster.client("ann");
    let first = client.next_question("x", Op::Add(1));
    for sum in 1..=3 {
        assert_eq!(client.update("x", Op::Add(1)).unwrap(), done(&sum.to_string()));
    }
    let ask = |question: &Ask| {
        // A node that has applied less still replays what another refuses.
        cluster.settled();
        match cluster.nodes().ask(question, LIMIT) {
            Err(Lost::Refused { kind, .. }) => kind,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&first), Refusal::SeqStale);
    let last = client.next_question("x", Op::Add(1));
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("4"));
    assert_eq!(ask(&with(&last, |op, _| *op = Op::Add(2))), Refusal::Conflict);
    assert_eq!(ask(&with(&last, |_, seq| *seq += 2)), Refusal::WindowFull);
    assert_eq!(ask(&with(&last, |_, seq| *seq = 0)), Refusal::Malformed);
    client.register("second").unwrap();
    assert_eq!(ask(&last), Refusal::Fenced);
    let bye = Ask::Unregister { client: "ann".into() };
    assert_eq!(cluster.nodes().ask(&bye, LIMIT).unwrap(), Answer::Done { value: None });
    assert_eq!(ask(&client.next_question("x", Op::Add(1))), Refusal::Expired);
    assert_eq!(client.read("x").unwrap(), done("4"));
}

/// A client that has added one, at the leader that it found; and the two that don't lead.
fn one_added(cluster: &Cluster) -> (Client, u64, [u64; 2]) {
    let mut client = cluster.client("ann");
    assert_eq!(client.update("x", Op::Add(1)).unwrap(), done("1"));
    let leader = cluster.leader_of(&NODES);
    let others: Vec<u64> = NODES.into_iter().filter(|node| *node != leader).collect();
    (client, leader, others.try_into().unwrap())
}

fn cut_off(cluster: &Cluster, node: u64, others: [u64; 2]) {
    cluster.router.cut(others.into_iter().flat_map(|other| [(node, other), (other, node)]));
}

/// The leader has logged what was asked, and can't commit it; unless it was another's already.
fn logged_in_vain<T>(cluster: &Cluster, leader: u64, asked: &JoinHandle<T>) {
    eventually("the leader has logged it", || {
        let held = cluster.status(leader).is_some_and(|it| it.applied < it.logged);
        (held || asked.is_finished()).then_some(())
    });
}

/// Every node that runs, asked alone, gives that answer or the leader's name.
fn told_again(cluster: &Cluster, question: &Ask) {
    let first = cluster.nodes().ask(question, LIMIT).unwrap();
    for node in NODES.into_iter().filter(|node| cluster.runs(*node)) {
        let answer = only(cluster, node).ask_once(question, LIMIT).unwrap();
        assert!(answer == first || matches!(answer, Answer::NotLeader { .. }), "{answer:?}");
    }
}

fn only(cluster: &Cluster, node: u64) -> Nodes {
    Nodes::new(cluster.front.doors().into_iter().filter(|(it, _)| *it == node).collect())
}

fn with(question: &Ask, change: impl FnOnce(&mut Op, &mut u64)) -> Ask {
    let mut question = question.clone();
    if let Ask::Update { op, seq, .. } = &mut question {
        change(op, seq);
    }
    question
}

fn done(value: &str) -> Answer {
    Answer::Done { value: Some(value.into()) }
}
