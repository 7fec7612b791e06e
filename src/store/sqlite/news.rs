//! Hears of settled records by looking, since SQLite tells no other process of anything.
//!
//! Whoever takes the mark from a record adds its id to a table of news, by a trigger, in the same
//! transaction. A listener reads what it hasn't read yet: after 1 ms, 2, 4, 8, then every 10.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::named_params;

use super::File;
use super::connection::Db;
use super::statements as sql;
use crate::error::Error;
use crate::store::pool::Failure;
use crate::store::{Heard, News, RecordId};

/// How long a look that finds nothing may be the last one.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Listener {
    /// Of its own: what it waits for doesn't keep it from anybody else.
    db: Db,
    /// The number of the last news.
    read: i64,
    /// Stays listed as open as long as this connection is.
    file: Arc<File>,
}

impl Listener {
    pub(super) fn new(file: &Arc<File>, deadline: Instant) -> Result<Self, Error> {
        let db = Db::open(&file.place, deadline)?;
        let read = db.read(deadline, |verbs| {
            Ok(verbs.db.prepare_cached(sql::LAST_NEWS)?.query_row([], |row| row.get(0))?)
        });
        Ok(Self { db, read: read.map_err(Failure::into_error)?, file: Arc::clone(file) })
    }

    /// Whether there was any.
    fn look(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<bool, Error> {
        let read = self.read;
        let news = self.db.read(until, |verbs| {
            let mut statement = verbs.db.prepare_cached(sql::NEWS)?;
            let news = statement.query_map(named_params! {":read": read}, |row| {
                Ok((row.get(0)?, RecordId(row.get(1)?)))
            })?;
            Ok(news.collect::<Result<Vec<(i64, RecordId)>, _>>()?)
        });
        let news = news.map_err(Failure::into_error)?;
        let (Some(first), Some(last)) = (news.first(), news.last()) else { return Ok(false) };
        // Older ones are dropped in time.
        if first.0 > read + 1 {
            heard(Heard::Any);
        }
        self.read = last.0;
        news.into_iter().map(|(_, id)| Heard::Record(id)).for_each(heard);
        Ok(true)
    }
}

impl News for Listener {
    fn wait(&mut self, until: Instant, heard: &mut dyn FnMut(Heard)) -> Result<(), Error> {
        self.file.readers.check_fork()?;
        let mut pause = Duration::from_millis(1);
        while !self.look(until, heard)? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(pause.min(left));
            pause = PAUSE.min(2 * pause);
        }
        Ok(())
    }
}
