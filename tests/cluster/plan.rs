//! What a seed decides before anything happens.

use super::random::Random;

/// One run's cluster, clients and weather.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: u64,
    pub clients: usize,
    /// Calls a client.
    pub calls: u32,
    pub window: u32,
    pub max_sessions: u32,
    pub session_timeout_ms: u64,
    /// Entries between two snapshots.
    pub compact_after: u64,
    /// Of a hundred messages.
    pub lost: u64,
    pub doubled: u64,
    /// Late by so much that others overtake them.
    pub late: u64,
}

impl Plan {
    pub fn new(random: &mut Random) -> Self {
        let clients = random.within(2..6);
        Self {
            nodes: [3, 5][random.index(2)],
            clients: usize::try_from(clients).expect("a few"),
            calls: 30,
            window: [1, 2, 4, 8][random.index(4)],
            // One too few now and then, so that sessions are pushed out.
            max_sessions: u32::try_from(clients).expect("a few") - u32::from(random.one_in(8)),
            session_timeout_ms: [1_500, 4_000, 20_000][random.index(3)],
            compact_after: [5, 20, 60][random.index(3)],
            lost: random.within(0..15),
            doubled: random.within(0..20),
            late: random.within(0..10),
        }
    }
}
