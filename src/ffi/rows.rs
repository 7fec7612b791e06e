//! Sessions as rows, for a database of the caller's own. No callbacks: what is to be written is handed over
//! as a list.

use super::code::{Failure, ONCEFLIGHT_OK, entry};
use super::key::{bytes, onceflight_slice, slices};
use super::sessions::{Out, given, make, onceflight_sessions};
use crate::error::Error;
use crate::session::{Save, SessionTable};

/// What onceflight_sessions_save has to say. Never changes; thread-safe; outlives its table.
#[derive(Default)]
pub struct onceflight_rows(Vec<Row>);

/// Whose row it is (`None`: the table's own), and what stands in it (`None`: it goes).
type Row = (Option<Box<[u8]>>, Option<Box<[u8]>>);

impl Save for onceflight_rows {
    type Error = Error;

    fn put_table(&mut self, row: &[u8]) -> Result<(), Error> {
        self.0.push((None, Some(row.into())));
        Ok(())
    }

    fn put_session(&mut self, client: &[u8], row: &[u8]) -> Result<(), Error> {
        self.0.push((Some(client.into()), Some(row.into())));
        Ok(())
    }

    fn delete_session(&mut self, client: &[u8]) -> Result<(), Error> {
        self.0.push((Some(client.into()), None));
        Ok(())
    }
}

/// What has changed since the last save, as rows for a database of the caller's own: all the first time,
/// and nothing that onceflight_sessions_load gave. *rows is to be freed. They belong into the transaction
/// that changes the state; if that doesn't commit, the table is ahead of the database, and must be loaded
/// from it again. ONCEFLIGHT_E_INVALID: an entry is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_save(
    sessions: *mut onceflight_sessions,
    rows: *mut *mut onceflight_rows,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (out, mut table) =
            unsafe { (Out::new(rows, std::ptr::null_mut(), "rows")?, given(sessions)?) };
        let mut found = onceflight_rows::default();
        table.save(&mut found)?;
        out.put(Box::into_raw(Box::new(found)));
        Ok(ONCEFLIGHT_OK)
    })
}

/// How many rows. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_rows_count(rows: *const onceflight_rows) -> usize {
    // SAFETY: NULL, or the caller's rows, for this call.
    unsafe { rows.as_ref() }.map_or(0, |rows| rows.0.len())
}

/// One of the rows, from 0 on. client.data is NULL: row is the table's own, of which there is one. row.data
/// is NULL: the client's row is to be deleted, if there is one. Otherwise row takes the place of the
/// client's row before. Both are valid until the rows are freed. ONCEFLIGHT_E_INVALID: there is no such.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_rows_at(
    rows: *const onceflight_rows,
    index: usize,
    client: *mut onceflight_slice,
    row: *mut onceflight_slice,
) -> i32 {
    entry(|| {
        // SAFETY: the caller's pointers, for this call.
        let (client, row, rows) = unsafe {
            (Out::new(client, NONE, "client"), Out::new(row, NONE, "row"), rows.as_ref())
        };
        let (client, row) = (client?, row?);
        let rows = &rows.ok_or_else(|| Failure::null("rows"))?.0;
        let (whose, what) = rows.get(index).ok_or_else(|| {
            Failure::invalid(format!("row {index}: there are {}, from 0 on", rows.len()))
        })?;
        client.put(slice(whose.as_deref()));
        row.put(slice(what.as_deref()));
        Ok(ONCEFLIGHT_OK)
    })
}

const NONE: onceflight_slice = onceflight_slice { data: std::ptr::null(), len: 0 };

fn slice(bytes: Option<&[u8]>) -> onceflight_slice {
    bytes.map_or(NONE, |bytes| onceflight_slice { data: bytes.as_ptr(), len: bytes.len() })
}

/// Frees rows. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_rows_free(rows: *mut onceflight_rows) {
    entry(|| {
        if !rows.is_null() {
            // SAFETY: they came from `onceflight_sessions_save`, and the caller gives them up.
            drop(unsafe { Box::from_raw(rows) });
        }
        Ok(ONCEFLIGHT_OK)
    });
}

/// The table that was saved: its own row, and those of all clients, in any order. ONCEFLIGHT_E_FORMAT: a row
/// is corrupt, of a newer version, missing, or one too many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sessions_load(
    table: *const u8,
    table_len: usize,
    rows: *const onceflight_slice,
    count: usize,
    sessions: *mut *mut onceflight_sessions,
) -> i32 {
    // SAFETY: the caller's pointers, for this call, which is what each helper asks for.
    unsafe {
        make(sessions, || {
            let table = bytes(table, table_len, "table");
            let rows = slices(rows, count, "rows");
            Ok(SessionTable::load(table?, rows?)?)
        })
    }
}
