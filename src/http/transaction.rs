//! One transaction around what a handler writes and the record of its request.

use http::{Request, Response};

use super::{Execution, Idempotency, Keep, Keyed, Problem, record};
use crate::error::{Error, ErrorKind};
use crate::idempotency::{BeginIn, LeadIn, RefusedIn, Uncommitted};
use crate::store::Transaction;

impl Idempotency {
    /// [`handle`](Self::handle), inside a transaction on the database that the records are in: what the
    /// handler writes there and the record of the request commit together, or neither does.
    ///
    /// | the handler answers | the transaction | the key |
    /// |-|-|-|
    /// | what is kept: [`Keep::Response`] | commits | replays it |
    /// | anything else, or it panics | is rolled back: nothing happened | as it was; those who wait have their turns |
    ///
    /// So a handler that fails says so by its status, whatever it has written by then. A commit that fails
    /// is answered with [`CommitFailed`](Problem::CommitFailed), and the next request with the key finds
    /// what became of it.
    ///
    /// Begin the transaction for this call: what it has locked stays locked while the request waits for
    /// another with its key. A request that needs no key and has none is handled in the transaction too.
    pub fn handle_in<B: AsRef<[u8]>, T: Transaction>(
        &self,
        request: Request<B>,
        mut tx: T,
        handler: impl FnOnce(Request<B>, &mut T) -> Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        let keyed = match self.identify(&request) {
            Ok(Some(keyed)) => keyed,
            Ok(None) => {
                let response = self.unkeyed(request, |request| handler(request, &mut tx));
                if !self.keeps(&response) {
                    return response;
                }
                let committed = tx.check().and_then(|()| tx.commit());
                return self.committed(committed, response);
            }
            Err(problem) => return self.refusal(&problem),
        };
        match self.request(&keyed).same_thread().claim_in(&mut tx) {
            Ok(BeginIn::Lead(lead)) => self.lead_in(&keyed, lead, request, tx, handler),
            Ok(BeginIn::Shared(kept) | BeginIn::Replayed(kept)) => self.replay(&kept),
            // As in `handle`.
            Ok(BeginIn::Bypass) => self.refusal(&Problem::InProgress),
            Err(error) => self.refused(&Problem::of(&error), error),
        }
    }

    fn lead_in<B, T: Transaction>(
        &self,
        keyed: &Keyed,
        lead: LeadIn<'_>,
        mut request: Request<B>,
        mut tx: T,
        handler: impl FnOnce(Request<B>, &mut T) -> Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        request.extensions_mut().insert(Execution::inside(&keyed.key, &lead));
        let response = self.first(handler(request, &mut tx));
        if !self.keeps(&response) {
            // Before the lead is, which gives the next in line its turn.
            drop(tx);
            return response;
        }
        match self.write(lead, &mut tx, &response) {
            Ok(written) => self.committed(written.commit(tx), response),
            Err(error) => self.refused(&Problem::of(&error), error),
        }
    }

    fn keeps(&self, response: &Response<Vec<u8>>) -> bool {
        (self.rules.keep)(response.status()) == Keep::Response
    }

    fn write<'t, T: Transaction>(
        &self,
        lead: LeadIn<'t>,
        tx: &mut T,
        response: &Response<Vec<u8>>,
    ) -> Result<Uncommitted<'t>, Error> {
        match lead.complete_in(tx, self.keep(response)) {
            Err(RefusedIn { error, lead: Some(lead), .. })
                if error.kind() == ErrorKind::TooLarge =>
            {
                Ok(lead.complete_in(tx, record::without_body(response.status()))?)
            }
            written => Ok(written?),
        }
    }

    fn committed(
        &self,
        commit: Result<(), Error>,
        response: Response<Vec<u8>>,
    ) -> Response<Vec<u8>> {
        match commit {
            Ok(()) => response,
            Err(error) => self.refused(&Problem::CommitFailed, error),
        }
    }
}
