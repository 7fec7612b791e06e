//! Bytes with a seal of their own that no table has written: told, never believed, never a panic.
//!
//! They are put together here by what the format's description says, not by the code that reads them.

use std::hash::Hasher;

use onceflight::ErrorKind::{Expired, Format};
use onceflight::SessionTable;
use onceflight::session::SessionRequest;
use siphasher::sip::SipHasher24;

use crate::support::{Calls, kind};

/// A snapshot of the terms, the sessions and the replies that a test wants.
#[derive(Clone)]
pub struct Forged {
    pub version: u32,
    pub window: u32,
    pub max_sessions: u32,
    /// `None`: as many as there are.
    pub count: Option<u32>,
    pub timeout: u64,
    pub max_response_len: u64,
    pub max_session_bytes: u64,
    pub max_bytes: u64,
    pub clock: u64,
    pub registrations: u64,
    pub sessions: Vec<Session>,
}

#[derive(Clone)]
pub struct Session {
    pub client: &'static [u8],
    pub nonce: Nonce,
    pub incarnation: u64,
    pub last_used: u64,
    pub floor: u64,
    /// `None`: as many as there are.
    pub count: Option<u8>,
    pub replies: Vec<Reply>,
}

#[derive(Clone, Copy)]
pub enum Nonce {
    None,
    Some(&'static [u8]),
    /// Neither one nor none.
    Other(u8),
}

#[derive(Clone)]
pub struct Reply {
    pub ahead: u8,
    pub kind: u8,
    /// `None`: that of the data.
    pub len: Option<u32>,
    pub data: &'static [u8],
}

impl Forged {
    pub fn new(sessions: Vec<Session>) -> Self {
        Self {
            version: 1,
            window: 4,
            max_sessions: 10,
            count: None,
            timeout: 1000,
            max_response_len: 10,
            max_session_bytes: 15,
            max_bytes: 20,
            clock: 50,
            registrations: 7,
            sessions,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut to = b"1flight\n".to_vec();
        let count = self.count.unwrap_or(u32::try_from(self.sessions.len()).unwrap());
        for number in [self.version, self.window, self.max_sessions, count] {
            to.extend(number.to_le_bytes());
        }
        let limits = [self.timeout, self.max_response_len, self.max_session_bytes, self.max_bytes];
        for number in limits.into_iter().chain([self.clock, self.registrations]) {
            to.extend(number.to_le_bytes());
        }
        assert_eq!(72, to.len());
        for session in &self.sessions {
            session.write(&mut to);
        }
        sealed(to)
    }

    /// What reading it comes to.
    fn read(&self) -> Result<SessionTable, onceflight::Error> {
        SessionTable::restore(&self.bytes())
    }
}

impl Session {
    pub fn new(client: &'static [u8]) -> Self {
        let (incarnation, last_used, floor) = (3, 40, 1);
        Self {
            client,
            nonce: Nonce::None,
            incarnation,
            last_used,
            floor,
            count: None,
            replies: vec![],
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        write_name(self.client, to);
        match self.nonce {
            Nonce::None => to.push(0),
            Nonce::Other(byte) => to.push(byte),
            Nonce::Some(nonce) => {
                to.push(1);
                write_name(nonce, to);
            }
        }
        for number in [self.incarnation, self.last_used, self.floor] {
            to.extend(number.to_le_bytes());
        }
        to.push(self.count.unwrap_or(u8::try_from(self.replies.len()).unwrap()));
        for Reply { ahead, kind, len, data } in &self.replies {
            to.extend([*ahead, *kind]);
            to.extend(200_u32.to_le_bytes());
            if kind & 1 != 0 {
                to.extend([9; 16]);
            }
            if kind & 2 == 0 {
                to.extend(len.unwrap_or(u32::try_from(data.len()).unwrap()).to_le_bytes());
                to.extend(*data);
            }
        }
    }
}

fn write_name(name: &[u8], to: &mut Vec<u8>) {
    to.push(u8::try_from(name.len()).unwrap());
    to.extend(name);
}

pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hash = SipHasher24::new();
    hash.write(&bytes);
    bytes.extend(hash.finish().to_le_bytes());
    bytes
}

fn reply(ahead: u8, data: &'static [u8]) -> Reply {
    Reply { ahead, kind: 0, len: None, data }
}

fn usual() -> Forged {
    let replies = vec![
        reply(0, b"ten bytes."),
        Reply { kind: 2, ..reply(1, b"") },
        Reply { kind: 1, ..reply(2, b"five5") },
        Reply { kind: 3, ..reply(3, b"") },
    ];
    let full = Session { replies, floor: 1 << 40, ..Session::new(b"full") };
    let nonce = Nonce::Some(b"nonce");
    let other = Session { nonce, incarnation: 7, last_used: 50, ..Session::new(b"other") };
    Forged::new(vec![full, other])
}

/// The description is that of the format: what is put together by it is read, and written the same.
#[test]
fn the_description_holds() {
    let mut table = usual().read().unwrap();
    assert_eq!(usual().bytes(), table.bytes());
    assert_eq!(["full", "other"], *table.names());
    assert_eq!((2, 50, 15), (table.len(), table.now_ms(), table.response_bytes()));
    let request = |ahead| SessionRequest::implicit(b"full", (1_u64 << 40) + ahead);
    let ten = table.replay(&request(0).ack(1));
    assert_eq!((200, &b"ten bytes."[..]), (ten.status(), ten.data()));
    assert_eq!(b"five5", table.replay(&request(2).ack(1).digest([9; 16])).data());
    assert_eq!(7, table.register("other", "nonce", 0).unwrap());
    assert_eq!(8, table.register("another", "nonce", 0).unwrap());
}

#[test]
fn every_lie_about_the_table_is_told() {
    let lies: [fn(&mut Forged); 23] = [
        |it| it.version = 0,
        |it| it.version = 2,
        |it| it.version = u32::MAX,
        |it| it.window = 0,
        |it| it.window = 3, // there are four replies
        |it| it.window = 65,
        |it| it.window = u32::MAX,
        |it| it.max_sessions = 0,
        |it| it.max_sessions = 1,
        |it| it.max_sessions = u32::MAX,
        |it| it.count = Some(1),
        |it| it.count = Some(3),
        |it| (it.max_sessions, it.count) = (u32::MAX - 1, Some(u32::MAX - 1)),
        |it| it.timeout = 0,
        |it| it.max_response_len = 9,
        |it| it.max_response_len = 1 << 32,
        |it| it.max_session_bytes = 14,
        |it| it.max_session_bytes = 21,
        |it| (it.max_session_bytes, it.max_bytes) = (14, 14),
        |it| it.sessions[1].replies = vec![reply(0, b"six 66")],
        |it| it.sessions[1].last_used = 51,
        |it| it.clock = 49,
        |it| it.registrations = 6,
    ];
    for (at, lie) in lies.iter().enumerate() {
        let mut forged = usual();
        lie(&mut forged);
        assert_eq!(Format, kind(forged.read()), "lie {at}");
    }
}

#[test]
fn every_lie_about_a_session_is_told() {
    let lies: [fn(&mut Session); 23] = [
        |it| it.client = b"other",
        |it| it.nonce = Nonce::Other(2),
        |it| it.nonce = Nonce::Other(255),
        |it| it.nonce = Nonce::Other(1),
        |it| it.incarnation = 0,
        |it| it.incarnation = 8,
        |it| it.incarnation = u64::MAX,
        |it| it.last_used = 51,
        |it| it.last_used = u64::MAX,
        |it| it.floor = 0,
        |it| it.floor = u64::MAX,
        |it| it.floor = u64::MAX - 1,
        |it| it.floor = u64::MAX - 3,
        |it| it.count = Some(3),
        |it| it.count = Some(5),
        |it| it.count = Some(255),
        |it| it.replies[3].ahead = 4,
        |it| it.replies[3].ahead = 255,
        |it| it.replies[3].ahead = 2,
        |it| it.replies.swap(0, 1),
        |it| it.replies[1].kind = 4,
        |it| it.replies[0].len = Some(9),
        |it| it.replies[0].len = Some(u32::MAX),
    ];
    for (at, lie) in lies.iter().enumerate() {
        let mut forged = usual();
        lie(&mut forged.sessions[0]);
        assert_eq!(Format, kind(forged.read()), "lie {at}");
    }
}

#[test]
fn sessions_stand_in_the_order_of_their_use() {
    let mut forged = usual();
    forged.sessions.swap(0, 1);
    assert_eq!(Format, kind(forged.read()));
    forged.sessions[0].last_used = 40;
    forged.read().unwrap();
}

#[test]
fn what_is_no_snapshot_says_so() {
    let mut other = usual().bytes();
    other.truncate(other.len() - 8);
    other[0] = b'2';
    let others = [
        vec![],
        vec![0],
        sealed(vec![]),
        sealed(b"1flight\n".to_vec()),
        sealed(other),
        vec![0; 1 << 16],
    ];
    for bytes in others {
        assert_eq!(Format, kind(SessionTable::restore(&bytes)));
    }
}

/// A newer library may seal otherwise: the version is told before anything else.
#[test]
fn a_version_of_the_future_is_told_as_that() {
    for version in [2, 77] {
        let mut bytes = Forged { version, ..usual() }.bytes();
        bytes.truncate(30);
        let error = SessionTable::restore(&bytes).unwrap_err();
        assert_eq!(Format, error.kind());
        assert!(error.to_string().contains(&format!("of version {version}")), "{error}");
    }
}

/// Numbers that no table gets to by itself: there is an answer, and no overflow.
#[test]
fn a_table_at_the_end_of_its_numbers_still_answers() {
    let mut forged = usual();
    forged.clock = u64::MAX;
    let mut table = forged.read().unwrap();
    assert_eq!(Expired, kind(table.keep_alive("full", 0, 0)));
    assert!(table.is_empty());
    table.register("full", "n", u64::MAX).unwrap();

    let mut forged = usual();
    forged.sessions[0].replies.truncate(1);
    forged.sessions[0].floor = u64::MAX - 2;
    let mut table = forged.read().unwrap();
    assert_eq!(b"ten bytes.", table.replay(&SessionRequest::new(b"full", 3, u64::MAX - 2)).data());
    table.lead(&SessionRequest::new(b"full", 3, u64::MAX - 1), b"last");
    SessionTable::restore(&table.bytes()).unwrap();

    // One without a number for the next registration isn't read at all.
    let mut forged = usual();
    forged.registrations = 1 << 63;
    assert_eq!(Format, kind(forged.read()));
    forged.registrations -= 1;
    assert_eq!(1 << 63, forged.read().unwrap().register("full", "n", 0).unwrap());
}
