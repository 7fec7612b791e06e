//! Lists of records, by walking over all names of all servers: Redis has no index of scopes, and one
//! of ours would cost every claim. What is there from beginning to end of the walk is found; names
//! come in no order, some twice, and so the least ids are collected.

use std::collections::BTreeMap;
use std::time::Instant;

use redis::{Cmd, Value, from_redis_value};

use super::RedisStore;
use super::connection::{Reply, refused};
use super::layout::{self, HEAD};
use super::servers::Server;
use crate::error::Error;
use crate::store::{Record, RecordId};

/// So many names are looked at in one step of the server's.
const STEP: usize = 1000;

pub(super) fn list(
    store: &RedisStore,
    scope: &[u8],
    after: Option<RecordId>,
    max: usize,
    deadline: Instant,
) -> Result<Vec<Record>, Error> {
    let mut found: BTreeMap<RecordId, Record> = BTreeMap::new();
    for server in store.servers.all(deadline)? {
        let mut cursor = 0;
        loop {
            let names;
            (cursor, names) = step(store, &server, cursor, deadline)?;
            for id in ids_of_scope(&server, &names, scope, deadline)? {
                let full = found.len() >= max;
                let beyond = full && found.last_key_value().is_none_or(|(last, _)| id >= *last);
                if beyond || after.is_some_and(|after| id <= after) {
                    continue;
                }
                // Asked for again: it may have moved or changed meanwhile.
                let record = store.read_id(id, false, deadline)?;
                if let Some(record) = record.filter(|record| record.key.scope() == scope) {
                    found.insert(id, record);
                }
                if found.len() > max {
                    found.pop_last();
                }
            }
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(found.into_values().collect())
}

/// A step of the walk: where the next one begins (0: that was all), and names.
fn step(
    store: &RedisStore,
    server: &Server,
    cursor: u64,
    deadline: Instant,
) -> Result<(u64, Vec<String>), Error> {
    let mut scan = redis::cmd("SCAN");
    let pattern = format!("{}:{{??}}:*", store.servers.settings().prefix);
    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
    let answer = server.call(&scan.get_packed_command(), deadline)?;
    let answer = answer.map_err(|refusal| refused(&server.address, &refusal))?;
    from_redis_value(answer)
        .map_err(|_| Error::store(format!("Redis at {} can't be listed", server.address)))
}

/// The ids in these names whose records have that scope, or may have it: what has just moved must be
/// asked elsewhere. What is no record at all has none.
fn ids_of_scope(
    server: &Server,
    names: &[String],
    scope: &[u8],
    deadline: Instant,
) -> Result<Vec<RecordId>, Error> {
    let id = |name: &String| name.rsplit(':').next()?.parse::<RecordId>().ok();
    let (names, ids): (Vec<_>, Vec<_>) =
        names.iter().filter_map(|name| Some((name, id(name)?))).unzip();
    let scope = layout::scope(scope);
    let mut asks = Vec::new();
    for name in &names {
        get_scope(name, scope.len()).write_packed_command(&mut asks);
    }
    let scopes = server.call_all(&asks, names.len(), deadline)?;
    let fits = |reply: Reply| match reply {
        Ok(Value::BulkString(other)) => other == scope,
        Ok(_) => false,
        Err(refusal) => refusal.code() != "WRONGTYPE",
    };
    Ok(ids.into_iter().zip(scopes).filter_map(|(id, reply)| fits(reply).then_some(id)).collect())
}

/// Of a record, what a scope of that length would be in.
fn get_scope(name: &str, len: usize) -> Cmd {
    let mut get = redis::cmd("GETRANGE");
    get.arg(name).arg(HEAD).arg(HEAD + len - 1);
    get
}
