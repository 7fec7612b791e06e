//! The state machine's sessions on a node that also serves clients: they are those that the
//! connections' threads wait at.

use std::sync::Arc;

use onceflight::Error;
use onceflight::session::{Applied, Node, SessionRequest, SessionTable};

use super::kv::Sessions;

impl Sessions for Arc<Node> {
    fn register(&mut self, client: &str, nonce: &str, now_ms: u64) -> Result<u64, Error> {
        self.apply_registration(client.as_bytes(), nonce.as_bytes(), now_ms)
    }

    fn apply(
        &mut self,
        request: &SessionRequest<'_>,
        now_ms: u64,
        execute: impl FnOnce() -> (i32, Vec<u8>),
    ) -> Result<Applied, Error> {
        Node::apply(self, request, now_ms, execute)
    }

    fn keep_alive(&mut self, client: &str, incarnation: u64, now_ms: u64) -> Result<(), Error> {
        Node::keep_alive(self, client.as_bytes(), incarnation, now_ms)
    }

    fn unregister(&mut self, client: &str) -> Result<(), Error> {
        Node::unregister(self, client.as_bytes())
    }

    fn expire(&mut self, now_ms: u64) -> Result<u64, Error> {
        Node::expire(self, now_ms)
    }

    fn save(&self) -> Vec<u8> {
        self.freeze().expect("between two entries none is open").to_bytes()
    }

    fn load(&mut self, data: &[u8]) -> Result<(), Error> {
        let sessions = SessionTable::restore(data)?;
        // Whoever still waits here proposed to a log that is overtaken by this snapshot.
        self.step_down();
        self.install(sessions);
        Ok(())
    }
}
