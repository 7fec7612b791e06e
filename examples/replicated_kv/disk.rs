//! Where a log's bytes live: one file that grows, and now and then is replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// One file, as little of it as a log needs. Whatever a method wrote is durable when it returns.
///
/// An error is final: what of a write reached the medium isn't known any more, so the owner must
/// stop, and begin again from what [`read`](Self::read) gives after a restart.
pub trait Disk {
    /// All that is there; nothing in a new place.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Adds at the end. A crash may leave any part of `bytes` there, or garble it.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Puts `bytes` in the place of all that was there. After a crash either is there, whole.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The file `log` in a directory of its own.
pub struct FileDisk {
    directory: PathBuf,
    file: File,
}

impl FileDisk {
    /// Opens the directory, and makes it if it isn't there.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let file = open_to_append(&directory.join("log"))?;
        // The file's name must last as long as what is in it.
        sync_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), file })
    }
}

impl Disk for FileDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.directory.join("log"))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (new, log) = (self.directory.join("log.new"), self.directory.join("log"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &log)?;
        sync_directory(&self.directory)?;
        self.file = open_to_append(&log)?;
        Ok(())
    }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
