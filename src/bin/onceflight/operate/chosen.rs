//! Which records are meant: the command line of the operators' commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Uri};
use lexopt::prelude::*;
use onceflight::http::Idempotency;
use onceflight::store::{self, RecordKey, Store};
use onceflight::{Error, IdempotencyTable};

use crate::command::{Failed, secret};
use crate::scope;

pub struct Chosen {
    pub store: Arc<dyn Store>,
    pub scope: Option<Vec<u8>>,
    pub key: Option<String>,
    pub response: bool,
    pub max: Option<usize>,
}

impl Chosen {
    pub fn parse(mut arguments: lexopt::Parser) -> Result<Self, Failed> {
        let (mut store, mut scope, mut key, mut max) = (None, None, None, None);
        let (mut target, mut method, mut principal) = (None, Method::POST, Vec::new());
        let mut response = false;
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("store") => store = Some(arguments.value()?.string()?),
                Long("key") => key = Some(arguments.value()?.string()?),
                Long("url" | "path") => target = Some(arguments.value()?.parse::<Uri>()?),
                Long("method") => method = arguments.value()?.parse()?,
                Long("principal") => principal = arguments.value()?.string()?.into_bytes(),
                Long("scope") => scope = Some(arguments.value()?.string()?.into_bytes()),
                Long("max") => max = Some(arguments.value()?.parse()?),
                Long("response") => response = true,
                Long("help") | Short('h') => return Err(Failed::Help(include_str!("help.txt"))),
                _ => return Err(argument.unexpected().into()),
            }
        }
        let Some(store) = store else { return Err(Failed::Usage("--store URL is missing".into())) };
        let store = store::open(&store)?;
        if let Some(target) = target {
            scope = Some(scope_of(&store, method, target, principal)?);
        }
        Ok(Self { store, scope, key, response, max })
    }

    pub fn scope(&self) -> Result<&[u8], Failed> {
        let missing = || Failed::Usage("whose key? --url, --path or --scope is missing".into());
        self.scope.as_deref().ok_or_else(missing)
    }

    /// The record that is meant, if a key was given.
    pub fn record(&self) -> Result<Option<RecordKey>, Failed> {
        let scope = self.scope()?;
        Ok(self.key.as_ref().map(|key| RecordKey::new(scope, key)).transpose()?)
    }
}

/// The scope that the proxy gives to such a request; without a host, one that has it count for nothing.
fn scope_of(
    store: &Arc<dyn Store>,
    method: Method,
    target: Uri,
    caller: Vec<u8>,
) -> Result<Vec<u8>, Failed> {
    let principal = match target.authority() {
        Some(host) => scope::principal(host.as_str().as_bytes(), &caller),
        None => caller,
    };
    let http = Idempotency::builder()
        .secret(secret()?)
        .principal(move |_| principal.clone())
        .over(IdempotencyTable::over(Arc::clone(store))?);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    Ok(http.scope_of(&request).as_bytes().to_vec())
}

/// How long the store may take over one answer.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A response as it is replayed.
pub fn replay(
    store: &Arc<dyn Store>,
    kept: &store::Response,
) -> Result<http::Response<Vec<u8>>, Error> {
    Ok(Idempotency::new(IdempotencyTable::over(Arc::clone(store))?).replay(kept))
}
