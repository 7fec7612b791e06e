//! Clients with sessions, each of which sends the next request when it is its turn.

use onceflight::SessionTable;
use onceflight::session::{Applied, SessionRequest};

use crate::keys::{Key, Short};

pub struct Clients {
    pub table: SessionTable,
    window: u32,
    /// Who, and which of its incarnations.
    clients: Vec<(Short, u64)>,
    turn: usize,
    seq: u64,
}

impl Clients {
    /// `count` of them, with 16-byte names and nonces; each may have `window` requests under way.
    pub fn new(count: u64, window: u32) -> Self {
        let limit = u32::try_from(count).expect("32 bits");
        let builder = SessionTable::builder().max_sessions(limit).window(window);
        let mut table = builder.build().expect("limits");
        let clients = (0..count).map(|n| {
            let (client, nonce) = (Short::nth(n), Short::nth(!n));
            (client, table.register(client, nonce, 0).expect("a session"))
        });
        let clients = clients.collect();
        Self { table, window, clients, turn: 0, seq: 1 }
    }

    /// Applies the request of the client whose turn it is. As many replies as its window has room for
    /// aren't acknowledged yet.
    #[inline]
    pub fn apply<D: AsRef<[u8]>>(&mut self, execute: impl FnOnce() -> D) -> Applied {
        if self.turn == self.clients.len() {
            (self.turn, self.seq) = (0, self.seq + 1);
        }
        let (client, incarnation) = &self.clients[self.turn];
        self.turn += 1;
        let ack = (self.seq + 1).saturating_sub(self.window.into());
        let request = SessionRequest::new(client, *incarnation, self.seq).ack(ack);
        let applied = self.table.apply(&request, self.seq, || (0, execute()));
        applied.expect("it is in its window")
    }

    /// Fills every client's window.
    pub fn fill(&mut self, reply: &[u8]) {
        for _ in 0..self.clients.len() * self.window as usize {
            self.apply(|| reply);
        }
    }
}
