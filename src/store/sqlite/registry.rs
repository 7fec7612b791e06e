//! Which files this process has open, and what the child of a fork must not touch.
//!
//! One file is open once, however many stores there are of it: they share its connections, so that the
//! writers of a process stand in one line and don't fight over SQLite's lock.
//!
//! SQLite keeps a table of its own of the files and locks of its process, and the child of a fork
//! inherits that: it takes for its own the locks that the parent has, and where it opens a file that
//! was open at the fork, both may write at once. Nothing repairs that, so such a file can't be opened.
//! If another thread was inside SQLite at the fork, the child inherits locks that nobody releases, and
//! no file can be opened: an error instead of hanging.
//!
//! Both are noted by generations of forks; what another generation left is read, and never written.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use rusqlite::{Connection, OpenFlags};

use super::File;
use super::connection::{FLAGS, Fault};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::sync::{AtomicUsize, MutexGuard, StaticMutex, static_mutex};

static OPEN: StaticMutex<Vec<Listed>> = static_mutex!(Vec::new());

/// How many threads are inside SQLite; as many generations as [`StaticMutex`] tells apart.
static INSIDE: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

struct Listed {
    identity: Arc<Identity>,
    /// Dead where there are no connections to share: while the last store of the file closes them, and
    /// of who is [`list`]ed alone. It is open still.
    file: Weak<File>,
    generation: u64,
}

/// What makes two paths the same file.
#[cfg(unix)]
pub(crate) type Identity = (u64, u64);
#[cfg(not(unix))]
pub(crate) type Identity = PathBuf;

#[cfg(unix)]
pub(super) fn identify(path: &Path) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    // Without opening it: closing it again would take every lock away that SQLite has on it.
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
pub(super) fn identify(path: &Path) -> std::io::Result<Identity> {
    std::fs::canonicalize(path)
}

/// Whether the file that was found there still is. Whoever writes to one that was deleted or replaced
/// writes for nobody, while others go on with the new one.
pub(super) fn check(path: &Path, found: &Identity) -> Result<(), Error> {
    match identify(path) {
        Ok(identity) if identity == *found => Ok(()),
        _ => Err(Error::store(format!(
            "{} was deleted or replaced while it was open; open it anew",
            path.display()
        ))),
    }
}

/// The file at `path`, which is made if there is none; `list` it if it isn't open.
pub(super) fn share(
    path: &Path,
    list: impl FnOnce(PathBuf, Listing) -> File,
) -> Result<Arc<File>, Error> {
    let (path, identity, mut files) = enter(path)?;
    let mut same = files.iter().filter(|listed| *listed.identity == identity);
    if let Some(file) = same.find_map(|listed| listed.file.upgrade()) {
        return Ok(file);
    }
    let identity = Arc::new(identity);
    let file = Arc::new(list(path, Listing(Arc::clone(&identity))));
    files.push(Listed { identity, file: Arc::downgrade(&file), generation: fork::generation() });
    Ok(file)
}

/// The same for who has a connection of its own: the child of a fork must know that the file is open.
pub(crate) fn list(path: &Path) -> Result<(PathBuf, Listing), Error> {
    let (path, identity, mut files) = enter(path)?;
    let identity = Arc::new(identity);
    let listing = Listing(Arc::clone(&identity));
    files.push(Listed { identity, file: Weak::new(), generation: fork::generation() });
    Ok((path, listing))
}

/// What may be opened, and the list, held meanwhile.
fn enter(path: &Path) -> Result<(PathBuf, Identity, MutexGuard<'static, Vec<Listed>>), Error> {
    fork::enrol();
    let _inside = Inside::enter();
    if others(&INSIDE).any(|inside| inside.load(Ordering::Relaxed) > 0) {
        return Err(forked("SQLite can't be used in this process: another thread was inside it"));
    }
    let files = OPEN.lock();
    let (path, identity) = find(path)?;
    let inherited =
        |listed: &Listed| *listed.identity == identity && listed.generation != fork::generation();
    // A lock that can't be had was held at the fork: who knows what for.
    let in_parent = others(&OPEN.0)
        .any(|files| files.try_lock().is_none_or(|files| files.iter().any(inherited)));
    if in_parent || files.iter().any(inherited) {
        return Err(forked(&format!("{} can't be opened: it was open", path.display())));
    }
    Ok((path, identity, files))
}

/// What other generations than ours have.
fn others<T>(slots: &[T; 8]) -> impl Iterator<Item = &T> {
    let ours = fork::generation() % 8;
    (0..).zip(slots).filter(move |(slot, _)| *slot != ours).map(|(_, slot)| slot)
}

fn forked(what: &str) -> Error {
    let advice = "open stores after forking, or have the child start a program of its own";
    Error::new(ErrorKind::Forked, format!("{what} when the parent process forked; {advice}"))
}

/// The whole path of a file, without links, and what is there.
fn find(path: &Path) -> Result<(PathBuf, Identity), Error> {
    let unusable = |error| Error::store(format!("{} can't be used: {error}", path.display()));
    // A whole one never means anything else to SQLite, as `file:` and `:memory:` do.
    let whole = std::path::absolute(path).map_err(unusable)?;
    if !whole.try_exists().map_err(unusable)? {
        Connection::open_with_flags(&whole, FLAGS | OpenFlags::SQLITE_OPEN_CREATE)
            .map_err(|error| Fault::Sqlite(error).at(&whole))?;
    }
    let whole = whole.canonicalize().map_err(unusable)?;
    let identity = identify(&whole).map_err(unusable)?;
    Ok((whole, identity))
}

/// An open file is on the list until this is dropped: after its connections.
pub(crate) struct Listing(Arc<Identity>);

impl Listing {
    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.0)
    }

    /// Whether the file is still where it was.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        check(path, &self.0)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        // In the child of a fork this finds nothing, and what the parent has open stays listed.
        OPEN.lock().retain(|listed| !Arc::ptr_eq(&listed.identity, &self.0));
    }
}

/// This thread is inside SQLite.
pub(crate) struct Inside(&'static AtomicUsize);

impl Inside {
    pub(crate) fn enter() -> Self {
        let here = &INSIDE[usize::try_from(fork::generation() % 8).unwrap_or(0)];
        here.fetch_add(1, Ordering::Relaxed);
        Self(here)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
