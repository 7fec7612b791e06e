//! The statements of stores in SQL, for transactions of a program's own, in any language.

use std::borrow::Cow;
use std::ffi::c_char;

use super::code::{Failure, ONCEFLIGHT_E_BUFFER, ONCEFLIGHT_E_UNSUPPORTED, ONCEFLIGHT_OK, entry};
use super::key::text;

/// Writes the text of a statement, NUL-terminated, into buffer: for a transaction of the caller's own, on
/// a connection of its own, in which the record and the caller's rows commit together or not at all. url
/// names the store, as for onceflight_table_open. size: the buffer's capacity in, what is needed out. Too
/// small: ONCEFLIGHT_E_BUFFER, and nothing is written (buffer may be NULL to ask for the size, with
/// *size = 0). ONCEFLIGHT_E_INVALID: no such statement. ONCEFLIGHT_E_UNSUPPORTED: no store in SQL, or
/// this build lacks it. ONCEFLIGHT_E_STORE: it can't be reached.
///
/// "postgres://…": asks the server for the schema, and makes the tables unless they are there.
/// "claim", "complete" and "release": what $1, $2 and so on are, and the columns that come back, stands
/// at the top of each text. $1 is onceflight_fingerprint of scope and key, without a secret.
///
/// "sqlite:": nothing is opened; PATH may be left out. The file's tables are made by whoever first opens
/// a table on it. All in one transaction, begun with BEGIN IMMEDIATE. While the process has a table open
/// on the file, it mustn't open it through another copy of SQLite than this library's, such as the
/// system's: each would take the other's locks away.
///
///   "look"      what a claim is answered, in the column verdict. No row, or "vacant": lead with attempt 1
///               and checkpoint NULL. "succeed": lead with attempt + 1 and the checkpoint of the row.
///               "held": this token leads already. "completed": status and body are the response.
///               "mismatch", "in progress", "unknown": as from onceflight_begin. scope and key of the row
///               must be the caller's: the id is but a hash. :id :token :fingerprint :following :take_over
///               :boot :now :wall
///   "lead"      gives the epoch, which is the fence. :id :scope :key :fingerprint :token :attempt
///               :checkpoint :boot :lease_until :ends :keep
///   "complete"  changes one row, or the lead is stale. :id :token :epoch :status :body :expires
///   "cancel"    likewise. :id :token :epoch
///
///   :id            16 bytes: onceflight_fingerprint of scope and key, without a secret
///   :scope :key    bytes; the scope of a table in C is empty, not NULL
///   :fingerprint   bytes, or NULL
///   :token         16 random bytes, drawn for each claim
///   :boot          16 bytes: /proc/sys/kernel/random/boot_id, from hexadecimal
///   :now           CLOCK_BOOTTIME, in nanoseconds
///   :wall          milliseconds since 1970
///   :following     NULL, or the epoch of a flight that was waited for
///   :take_over     1, or 0 to hold where a lead was lost
///   :lease_until   when the lease ends, by the clock of :now, and :ends, by that of :wall; NULL: none is
///                  needed where the transaction that claims completes too
///   :keep          milliseconds that a lost lead is remembered; NULL: for ever
///   :expires       when the response is forgotten, by the clock of :wall; NULL: never
///   :status :body  the response: 32 bits, and bytes that aren't NULL
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_sql(
    url: *const c_char,
    statement: *const c_char,
    buffer: *mut c_char,
    size: *mut usize,
) -> i32 {
    entry(|| {
        if size.is_null() {
            return Err(Failure::null("size"));
        }
        // SAFETY: not NULL, and the caller's.
        let capacity = unsafe { size.replace(0) };
        // SAFETY: the caller's texts, for this call.
        let (url, statement) = unsafe { (text(url, "url")?, text(statement, "statement")?) };
        let found = find(&url.to_string_lossy(), &statement.to_string_lossy())?;
        let needed = found.len() + 1;
        // SAFETY: as above.
        unsafe { size.write(needed) };
        if capacity < needed {
            return Err(Failure::new(ONCEFLIGHT_E_BUFFER, format!("{needed} bytes are needed")));
        }
        if buffer.is_null() {
            return Err(Failure::null("buffer"));
        }
        // SAFETY: the caller says that the buffer has `capacity` bytes, which is enough; ours doesn't
        // overlap it.
        unsafe {
            std::ptr::copy_nonoverlapping(found.as_ptr(), buffer.cast(), found.len());
            buffer.add(found.len()).write(0);
        }
        Ok(ONCEFLIGHT_OK)
    })
}

type Found = Result<Option<Cow<'static, str>>, Failure>;

fn find(url: &str, statement: &str) -> Result<Cow<'static, str>, Failure> {
    let store = url.split(':').next().unwrap_or_default();
    let found = match store {
        "sqlite" => sqlite(statement)?,
        "postgres" | "postgresql" => postgres(url, statement)?,
        _ => return unsupported(store),
    };
    found.ok_or_else(|| Failure::invalid(format!("{store} has no statement {statement}")))
}

fn unsupported<T>(store: &str) -> Result<T, Failure> {
    let detail = format!("this build has no statements for the store {store}");
    Err(Failure::new(ONCEFLIGHT_E_UNSUPPORTED, detail))
}

#[cfg(feature = "sqlite")]
#[allow(clippy::unnecessary_wraps)] // the shape of all of them
fn sqlite(statement: &str) -> Found {
    let sql = crate::store::SqliteStore::sql();
    Ok(match statement {
        "look" => Some(sql.look.into()),
        "lead" => Some(sql.lead.into()),
        "complete" => Some(sql.complete.into()),
        "cancel" => Some(sql.cancel.into()),
        _ => None,
    })
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &str) -> Found {
    unsupported("sqlite")
}

/// Its texts name the schema that it finds the tables in.
#[cfg(feature = "postgres")]
fn postgres(url: &str, statement: &str) -> Found {
    use crate::store::{PostgresStatement, PostgresStore};
    let statement = match statement {
        "claim" => PostgresStatement::Claim,
        "complete" => PostgresStatement::Complete,
        "release" => PostgresStatement::Release,
        _ => return Ok(None),
    };
    Ok(Some(PostgresStore::open(url)?.sql(statement).to_owned().into()))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str, _: &str) -> Found {
    unsupported("postgres")
}
