//! The statements: their texts for one schema, and the types of their parameters.

use tokio_postgres::types::Type;

use super::schema::Schema;

/// What the store says to the server. The texts (from [`PostgresStore::sql`](super::PostgresStore::sql))
/// are for programs that run them over a connection of their own, in C or Python for instance, within a
/// transaction of theirs. What each parameter and column means stands at the top of each text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostgresStatement {
    /// Who leads? One row, whose first column says what became of it.
    Claim,
    /// A lead completes.
    Complete,
    /// A lead ends without a response, and nothing happened.
    Release,
    /// A lead ends without a response, and it may have happened.
    Abandon,
    /// A lease begins anew.
    Renew,
    /// Bytes for a successor.
    Checkpoint,
    /// Whose a record is: why one of these five changed nothing.
    Look,
    /// Drops a record that nobody leads.
    Forget,
    /// Drops a record whatever it is.
    Evict,
    /// Drops records that expired a while ago.
    Purge,
    /// A record.
    Read,
    /// The records of a scope.
    List,
}

use PostgresStatement::{
    Abandon, Checkpoint, Claim, Complete, Evict, Forget, List, Look, Purge, Read, Release, Renew,
};

const ALL: [PostgresStatement; 12] =
    [Claim, Complete, Release, Abandon, Renew, Checkpoint, Look, Forget, Evict, Purge, Read, List];

impl PostgresStatement {
    pub(super) const COUNT: usize = ALL.len();

    const fn template(self) -> &'static str {
        match self {
            Claim => include_str!("sql/claim.sql"),
            Complete => include_str!("sql/complete.sql"),
            Release => include_str!("sql/release.sql"),
            Abandon => include_str!("sql/abandon.sql"),
            Renew => include_str!("sql/renew.sql"),
            Checkpoint => include_str!("sql/checkpoint.sql"),
            Look => include_str!("sql/look.sql"),
            Forget => include_str!("sql/forget.sql"),
            Evict => include_str!("sql/evict.sql"),
            Purge => include_str!("sql/purge.sql"),
            Read => include_str!("sql/read.sql"),
            List => include_str!("sql/list.sql"),
        }
    }

    /// Of $1, $2, ...
    pub(super) const fn types(self) -> &'static [Type] {
        const BYTES: Type = Type::BYTEA;
        const BIG: Type = Type::INT8;
        match self {
            Claim => &[BYTES, BYTES, BYTES, BYTES, BYTES, BIG, BIG, Type::BOOL, Type::BOOL, BIG],
            Complete => &[BYTES, BYTES, BIG, Type::INT4, BYTES, BIG],
            Release => &[BYTES, BYTES, BIG, Type::BOOL, BIG],
            Abandon | List => &[BYTES, BYTES, BIG],
            Renew => &[BYTES, BYTES, BIG, BIG],
            Checkpoint => &[BYTES, BYTES, BIG, BYTES],
            Evict | Look | Read => &[BYTES],
            Forget => &[BYTES, BYTES, BYTES],
            Purge => &[BIG],
        }
    }
}

/// All texts, for one schema.
#[derive(Debug)]
pub(super) struct Texts([String; PostgresStatement::COUNT]);

impl Texts {
    pub(super) fn new(schema: &Schema) -> Self {
        Self(ALL.map(|statement| schema.fill(statement.template())))
    }

    pub(super) fn of(&self, statement: PostgresStatement) -> &str {
        &self.0[statement as usize]
    }
}
