//! Rows: a table of sessions within the user's own database, changed in the same transaction as the
//! state.
//!
//! One row is the table's, and one each session's; what they say is for this library alone. A row is
//! written whole, with all the replies of its session.

use super::SessionTable;
use super::codec::{Header, MANY, Reader, format_error, read_session, seal, write_session};
use super::name::Name;
use super::roster::Slot;
use crate::error::Error;

/// Where the rows of a [`SessionTable`] go: a transaction of the user's.
pub trait Save {
    /// What can go wrong there, or with the table.
    type Error: From<Error>;

    /// Puts the table's own row, in place of the one before.
    ///
    /// # Errors
    /// It couldn't be written.
    fn put_table(&mut self, row: &[u8]) -> Result<(), Self::Error>;

    /// Puts the row of a client's session, in place of the one before.
    ///
    /// # Errors
    /// It couldn't be written.
    fn put_session(&mut self, client: &[u8], row: &[u8]) -> Result<(), Self::Error>;

    /// Deletes the row of a client's session, if there is one.
    ///
    /// # Errors
    /// It couldn't be deleted.
    fn delete_session(&mut self, client: &[u8]) -> Result<(), Self::Error>;
}

/// What isn't saved yet.
#[derive(Default)]
pub(super) struct Changes {
    /// Slots that have changed; some may be free by now.
    slots: Vec<Slot>,
    marked: Vec<bool>,
    removed: Vec<Name>,
}

impl Changes {
    #[inline]
    pub fn changed(&mut self, slot: Slot) {
        let at = slot as usize;
        if at >= self.marked.len() {
            self.marked.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.marked[at], true) {
            self.slots.push(slot);
        }
    }

    pub fn removed(&mut self, client: Name) {
        self.removed.push(client);
    }

    fn clear(&mut self) {
        for slot in self.slots.drain(..) {
            self.marked[slot as usize] = false;
        }
        self.removed.clear();
    }
}

impl SessionTable {
    /// Saves what has changed since the last time: all of it the first time, and nothing that
    /// [`load`](Self::load) gave.
    ///
    /// From the first time on the table remembers what changes, so go on saving. It belongs into the
    /// transaction that changes the state. If that doesn't commit, the table is ahead
    /// of the database, and must be loaded from it again.
    ///
    /// # Errors
    /// Those of `to`; what has changed is then still to be saved.
    /// [`Invalid`](crate::ErrorKind::Invalid): an entry is open.
    pub fn save<S: Save>(&mut self, to: &mut S) -> Result<(), S::Error> {
        self.check_closed()?;
        let changes = self.changes.get_or_insert_with(|| {
            let mut all = Changes::default();
            self.roster.slots().for_each(|slot| all.changed(slot));
            all
        });
        for client in &changes.removed {
            // One that came back is among the changed.
            if self.roster.find(client.get()).is_none() {
                to.delete_session(client.get())?;
            }
        }
        let mut row = Vec::new();
        for &slot in &changes.slots {
            let Some(session) = self.roster.at(slot) else { continue };
            row.clear();
            row.extend_from_slice(&session.stamp.to_le_bytes());
            write_session(session, &mut row);
            row = seal(row);
            to.put_session(session.client(), &row)?;
        }
        row.clear();
        self.header().write(&mut row);
        to.put_table(&seal(row))?;
        if let Some(changes) = &mut self.changes {
            changes.clear();
        }
        Ok(())
    }

    /// The table that was saved: its own row, and those of all sessions, in any order.
    ///
    /// # Errors
    /// [`Format`](crate::ErrorKind::Format): a row that is corrupt or of a newer version, one that is
    /// missing, or one too many.
    pub fn load<R: AsRef<[u8]>>(
        table: &[u8],
        sessions: impl IntoIterator<Item = R>,
    ) -> Result<Self, Error> {
        let mut from = Reader::unseal_headed(table)?;
        let header = Header::read(&mut from)?;
        let mut found = Vec::new();
        for row in sessions {
            let mut from = Reader::unseal(row.as_ref(), "the row of a session")?;
            let stamp = from.u64()?;
            let session = read_session(&mut from, &header)?;
            if !from.is_empty() {
                return Err(format_error("the row of a session has more than a session"));
            }
            found.push((stamp, session));
        }
        if found.len() != header.sessions as usize {
            return Err(format_error(format!(
                "{} rows of sessions, where the table has {}: they weren't saved together",
                found.len(),
                header.sessions
            )));
        }
        found.sort_by_key(|(stamp, _)| *stamp);
        let mut table = Self::of(&header);
        for (stamp, session) in found {
            table.take_back(session)?;
            table.restamp(stamp)?;
        }
        table.changes = Some(Changes::default());
        Ok(table)
    }

    /// Gives the session that was taken back last the stamp that its row has: the others' rows, which stay
    /// as they are, have theirs.
    fn restamp(&mut self, stamp: u64) -> Result<(), Error> {
        let Some(slot) = self.roster.newest() else { return Ok(()) };
        if stamp < self.roster.uses {
            return Err(format_error("two rows of the same use"));
        }
        if stamp >= MANY {
            return Err(format_error("more uses than a table can have seen"));
        }
        self.roster.uses = stamp;
        self.roster.get_mut(slot).stamp = stamp;
        Ok(())
    }
}
