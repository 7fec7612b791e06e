//! The replies of one session's window: each stands at its number modulo the ring's length, which is a
//! power of two.

use super::reply::Reply;

/// Of a client that waits for each reply there is but one, and it stands in the session itself.
#[derive(Clone, Debug)]
pub(super) enum Ring {
    One(Option<Reply>),
    Many(Box<[Option<Reply>]>),
}

impl Ring {
    #[inline]
    fn spots(&self) -> &[Option<Reply>] {
        match self {
            Self::One(reply) => std::slice::from_ref(reply),
            Self::Many(replies) => replies,
        }
    }

    #[inline]
    fn spot(&mut self, seq: u64) -> &mut Option<Reply> {
        match self {
            Self::One(reply) => reply,
            Self::Many(replies) => {
                let spot = spot(seq, replies.len());
                &mut replies[spot]
            }
        }
    }

    /// How many numbers in a row it has room for.
    #[inline]
    pub fn len(&self) -> u64 {
        self.spots().len() as u64
    }

    #[inline]
    pub fn get(&self, seq: u64) -> Option<&Reply> {
        let spots = self.spots();
        spots[spot(seq, spots.len())].as_ref()
    }

    #[inline]
    pub fn take(&mut self, seq: u64) -> Option<Reply> {
        self.spot(seq).take()
    }

    #[inline]
    pub fn put(&mut self, seq: u64, reply: Reply) {
        *self.spot(seq) = Some(reply);
    }

    /// Makes room for `len` numbers from `floor` on, which is more than there is.
    #[cold]
    pub fn grow(&mut self, floor: u64, len: u64) {
        let len = usize::try_from(len).expect("a window of 64 at most").next_power_of_two();
        let mut spots: Box<[_]> = std::iter::repeat_with(|| None).take(len).collect();
        for seq in floor..floor.saturating_add(self.len()) {
            spots[spot(seq, len)] = self.take(seq);
        }
        *self = Self::Many(spots);
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // the low bits are what counts
fn spot(seq: u64, len: usize) -> usize {
    seq as usize & (len - 1)
}
