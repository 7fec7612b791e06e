//! A table of sessions that is as simple as can be: ordered maps, and a list for the order of use.
//! What the real one answers, it must answer too.

use std::collections::BTreeMap;

use onceflight::ErrorKind::{
    self, Conflict, Expired, Fenced, Invalid, Malformed, SeqStale, TooLarge, WindowFull,
};
use onceflight::SessionTable;
use onceflight::session::{SessionInfo, SessionRequest};

#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub max_sessions: u32,
    pub window: u32,
    pub timeout: u64,
    pub max_response_len: usize,
    pub max_session_bytes: usize,
    pub max_bytes: usize,
}

impl Terms {
    pub fn table(&self) -> SessionTable {
        SessionTable::builder()
            .max_sessions(self.max_sessions)
            .window(self.window)
            .timeout_ms(self.timeout)
            .max_response_len(self.max_response_len)
            .max_session_bytes(self.max_session_bytes)
            .max_bytes(self.max_bytes)
            .build()
            .expect("terms that can be had")
    }
}

pub struct Model {
    terms: Terms,
    clock: u64,
    registrations: u64,
    /// From the longest unused on.
    sessions: Vec<Session>,
    open: Option<Numbers>,
}

struct Session {
    client: Vec<u8>,
    nonce: Option<Vec<u8>>,
    incarnation: u64,
    last_used: u64,
    floor: u64,
    replies: BTreeMap<u64, Reply>,
}

struct Reply {
    status: i32,
    /// `None`: too large.
    data: Option<Vec<u8>>,
    digest: Option<[u8; 16]>,
}

/// The parts of a request, which the model sees before they are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub client: Vec<u8>,
    pub incarnation: u64,
    pub seq: u64,
    pub ack: u64,
    pub digest: Option<[u8; 16]>,
}

impl Numbers {
    pub fn request(&self) -> SessionRequest<'_> {
        let request = SessionRequest::new(&self.client, self.incarnation, self.seq).ack(self.ack);
        self.digest.map_or(request, |digest| request.digest(digest))
    }
}

/// `None`: it leads.
pub type Told = Option<(i32, Vec<u8>)>;

impl Model {
    pub fn new(terms: Terms) -> Self {
        Self { terms, clock: 0, registrations: 0, sessions: vec![], open: None }
    }

    pub fn register(&mut self, client: &[u8], nonce: &[u8], now: u64) -> Result<u64, ErrorKind> {
        if client.len() > 255 || nonce.len() > 255 {
            return Err(TooLarge);
        }
        self.closed()?;
        self.advance(now);
        if let Some(at) = self.find(client) {
            if self.sessions[at].nonce.as_deref() == Some(nonce) {
                return Ok(self.touch(at).incarnation);
            }
            self.sessions.remove(at);
        }
        Ok(self.admit(client, Some(nonce)).incarnation)
    }

    pub fn begin(&mut self, request: &Numbers, now: u64) -> Result<Told, ErrorKind> {
        let Numbers { client, seq, ack, .. } = request;
        self.closed()?;
        if client.len() > 255 || *seq == 0 || *seq == u64::MAX || ack > seq {
            return Err(Malformed);
        }
        self.advance(now);
        let window = u64::from(self.terms.window);
        let session = match self.find(client) {
            Some(at) => {
                self.sessions[at].is(request.incarnation)?;
                self.touch(at)
            }
            None if request.incarnation == 0 && *seq == 1 => self.admit(client, None),
            None => return Err(Expired),
        };
        let follows = session.nonce.is_none() && *ack == 0;
        let ack = if follows { (seq + 1).saturating_sub(window) } else { *ack };
        session.floor = session.floor.max(ack);
        session.replies = session.replies.split_off(&session.floor);
        match session.look(*seq, window)? {
            Some(reply) if reply.digest != request.digest => Err(Conflict),
            Some(reply) => reply.tell().map(Some),
            None => {
                self.open = Some(request.clone());
                Ok(None)
            }
        }
    }

    pub fn record(
        &mut self,
        request: &Numbers,
        status: i32,
        data: &[u8],
    ) -> Result<Told, ErrorKind> {
        let name = |of: &Numbers| (of.client.clone(), of.incarnation, of.seq);
        let open = self.open.take_if(|open| name(open) == name(request)).ok_or(Invalid)?;
        let at = self.find(&open.client).expect("an open entry's session");
        let session = &mut self.sessions[at];
        let fits = data.len() <= self.terms.max_response_len
            && session.bytes() + data.len() <= self.terms.max_session_bytes;
        let kept = fits.then(|| data.to_vec());
        session.replies.insert(open.seq, Reply { status, data: kept, digest: open.digest });
        while self.bytes() > self.terms.max_bytes {
            self.sessions.remove(0);
        }
        if fits { Ok(Some((status, data.to_vec()))) } else { Err(TooLarge) }
    }

    pub fn peek(&self, client: &[u8], incarnation: u64, seq: u64) -> Result<Told, ErrorKind> {
        let Some(found) = self.find(client) else {
            // It would make its session.
            return if (incarnation, seq) == (0, 1) { Ok(None) } else { Err(Expired) };
        };
        let session = &self.sessions[found];
        session.is(incarnation)?;
        match session.look(seq, self.terms.window.into()) {
            Ok(Some(reply)) => reply.tell().map(Some),
            Ok(None) | Err(WindowFull) => Ok(None),
            Err(kind) => Err(kind),
        }
    }

    pub fn keep_alive(
        &mut self,
        client: &[u8],
        incarnation: u64,
        now: u64,
    ) -> Result<(), ErrorKind> {
        self.closed()?;
        self.advance(now);
        let at = self.find(client).ok_or(Expired)?;
        self.sessions[at].is(incarnation)?;
        self.touch(at);
        Ok(())
    }

    pub fn unregister(&mut self, client: &[u8]) -> Result<(), ErrorKind> {
        self.closed()?;
        let at = self.find(client).ok_or(Expired)?;
        self.sessions.remove(at);
        Ok(())
    }

    pub fn expire(&mut self, now: u64) -> Result<u64, ErrorKind> {
        self.closed()?;
        let before = self.sessions.len();
        self.advance(now);
        Ok((before - self.sessions.len()) as u64)
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn now(&self) -> u64 {
        self.clock
    }

    pub fn bytes(&self) -> usize {
        self.sessions.iter().map(Session::bytes).sum()
    }

    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo<'_>> {
        self.sessions.iter().map(|session| SessionInfo {
            client: &session.client,
            incarnation: session.incarnation,
            last_used_ms: session.last_used,
            floor: session.floor,
            replies: session.replies.len(),
            bytes: session.bytes() as u64,
        })
    }

    fn closed(&self) -> Result<(), ErrorKind> {
        if self.open.is_some() { Err(Invalid) } else { Ok(()) }
    }

    fn advance(&mut self, now: u64) {
        self.clock = self.clock.max(now);
        let (clock, timeout) = (self.clock, self.terms.timeout);
        self.sessions.retain(|session| clock - session.last_used < timeout);
    }

    fn find(&self, client: &[u8]) -> Option<usize> {
        self.sessions.iter().position(|session| session.client == client)
    }

    fn touch(&mut self, at: usize) -> &mut Session {
        let session = self.sessions.remove(at);
        self.sessions.push(session);
        let session = self.sessions.last_mut().expect("the one");
        session.last_used = self.clock;
        session
    }

    fn admit(&mut self, client: &[u8], nonce: Option<&[u8]>) -> &mut Session {
        if self.sessions.len() == self.terms.max_sessions as usize {
            self.sessions.remove(0);
        }
        self.registrations += 1;
        self.sessions.push(Session {
            client: client.to_vec(),
            nonce: nonce.map(<[u8]>::to_vec),
            incarnation: self.registrations,
            last_used: self.clock,
            floor: 1,
            replies: BTreeMap::new(),
        });
        self.sessions.last_mut().expect("the one")
    }
}

impl Session {
    fn is(&self, incarnation: u64) -> Result<(), ErrorKind> {
        let implicit = incarnation == 0 && self.nonce.is_none();
        if incarnation == self.incarnation || implicit {
            Ok(())
        } else if incarnation < self.incarnation {
            Err(Fenced)
        } else {
            Err(Expired)
        }
    }

    fn look(&self, seq: u64, window: u64) -> Result<Option<&Reply>, ErrorKind> {
        if seq < self.floor {
            Err(SeqStale)
        } else if seq - self.floor >= window {
            Err(WindowFull)
        } else {
            Ok(self.replies.get(&seq))
        }
    }

    fn bytes(&self) -> usize {
        self.replies.values().filter_map(|reply| reply.data.as_ref()).map(Vec::len).sum()
    }
}

impl Reply {
    fn tell(&self) -> Result<(i32, Vec<u8>), ErrorKind> {
        self.data.clone().map(|data| (self.status, data)).ok_or(TooLarge)
    }
}
