//! What the server's errors mean to a store, and what to do about them.
//!
//! | the server | becomes | so that |
//! |-|-|-|
//! | is gone, is going, is read-only since it was demoted | `Broken` | it is asked once more over a new connection |
//! | gave up waiting for a lock, or for the statement | `Timeout` | a caller can tell it from a failure |
//! | chose this transaction to give way | `Yielded` | the statement is sent again until the deadline |
//! | says anything else | `Store`, with its words | |

use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::error::{Error, ErrorKind};
use crate::store::pool::Failure;

/// Why a statement has no rows to show.
pub(super) enum Fault {
    /// Another transaction goes first; sending it again is all there is to do.
    Yielded(Error),
    Failed(Failure),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Yielded(error) => Self::Refused(error),
            Fault::Failed(failure) => failure,
        }
    }
}

/// `server`: the one that said it.
pub(super) fn explain(server: &str, error: &tokio_postgres::Error) -> Fault {
    let Some(said) = error.as_db_error() else {
        return lost(server, &cause(error));
    };
    let text = format!("{server}: {}{}", said.message(), advice(said.code()));
    match *said.code() {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            Fault::Yielded(Error::store(text))
        }
        SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => {
            Fault::Failed(Failure::Refused(Error::new(ErrorKind::Timeout, text)))
        }
        _ if breaks(said) => Fault::Failed(Failure::Broken(Error::store(text))),
        _ => Fault::Failed(Failure::Refused(Error::store(text))),
    }
}

/// The connection is gone, or never came to be.
pub(super) fn lost(server: &str, cause: &str) -> Fault {
    let text = format!("the connection to {server} failed: {cause}; is the server up?");
    Fault::Failed(Failure::Broken(Error::store(text)))
}

/// No answer came in time.
pub(super) fn late(server: &str) -> Fault {
    let text = format!("{server} didn't answer until the deadline; is it up, or overloaded?");
    Fault::Failed(Failure::Broken(Error::store(text)))
}

/// The innermost reason: those around it only say that there was an error.
fn cause(error: &tokio_postgres::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn breaks(said: &DbError) -> bool {
    matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
        || *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION
}

fn advice(code: &SqlState) -> &'static str {
    match *code {
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            "; this server is a standby or set to be read-only: name the primary, or give all of them with target_session_attrs=read-write"
        }
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_OBJECT
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => {
            "; the tables were dropped or moved: open the store again, which makes them"
        }
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "; this role needs USAGE on the schema, SELECT on onceflight_schema, SELECT, INSERT, UPDATE and DELETE on onceflight_records, USAGE on onceflight_epochs; and the one that opens the store first needs CREATE on the schema"
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            "; raise max_connections there, or allow each store fewer (with_max_connections)"
        }
        SqlState::DISK_FULL => "; make room there, and try again",
        SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => {
            "; another transaction holds this key: try again, or raise lock_timeout or statement_timeout"
        }
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            "; run the transaction again"
        }
        _ => "",
    }
}
