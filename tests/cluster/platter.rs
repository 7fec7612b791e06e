//! A disk in memory that outlives its node, and can tear what is being written as the node dies.

use super::disk::Disk;
use super::random::Random;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct Platter(Rc<RefCell<Surface>>);

#[derive(Default)]
struct Surface {
    bytes: Vec<u8>,
    /// The node dies in its next write, and these decide how.
    dying: Option<Random>,
    torn: u64,
}

impl Platter {
    /// The node is to die in its next write.
    pub fn die(&self, random: Random) {
        self.0.borrow_mut().dying = Some(random);
    }

    /// The node is gone, if not by a write then otherwise.
    pub fn rest(&self) {
        self.0.borrow_mut().dying = None;
    }

    /// How many writes were torn.
    pub fn torn(&self) -> u64 {
        self.0.borrow().torn
    }
}

impl Disk for Platter {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.borrow().bytes.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut surface = self.0.borrow_mut();
        let Some(mut random) = surface.dying.take() else {
            surface.bytes.extend(bytes);
            return Ok(());
        };
        let mut left = bytes[..random.index(bytes.len() + 1)].to_vec();
        match random.within(0..3) {
            // The file had grown already, and its last blocks weren't written.
            0 => left.resize(bytes.len(), 0),
            1 if !left.is_empty() => {
                let at = random.index(left.len());
                left[at] ^= 0x55;
            }
            _ => {}
        }
        surface.torn += u64::from(!left.is_empty() && left != bytes);
        surface.bytes.extend(left);
        Err(io::ErrorKind::Interrupted.into())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut surface = self.0.borrow_mut();
        let dying = surface.dying.take();
        let died = dying.map(|mut random| random.one_in(2));
        if died != Some(true) {
            surface.bytes = bytes.to_vec();
        }
        died.map_or(Ok(()), |_| Err(io::ErrorKind::Interrupted.into()))
    }
}
