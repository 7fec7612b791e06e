//! A directory for files of ours on a disk, beside this program, and on what file system that is.

use std::fs;
use std::path::PathBuf;

pub struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub fn new() -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let directory = program.with_file_name(format!("stores-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory beside this program");
        let disk = Self { directory };
        // Where a sync costs nothing, nothing that is measured here is true.
        assert_ne!(disk.file_system(), "tmpfs", "the target directory isn't on a disk");
        disk
    }

    /// Of a SQLite file of that name.
    pub fn url(&self, name: &str) -> String {
        format!("sqlite:{}", self.directory.join(name).display())
    }

    /// Its type, as the kernel calls it.
    pub fn file_system(&self) -> String {
        let told = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = told.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        });
        // Of those that it is under, the innermost; of those at the same place, the last one.
        let under = mounts.filter(|(place, _)| self.directory.starts_with(place));
        under.max_by_key(|(place, _)| place.len()).map_or("unknown", |(_, kind)| kind).to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is left is in the target directory, where `cargo clean` finds it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
