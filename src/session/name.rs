//! Short bytes: who a client is, and what it registered with.

use std::fmt;

/// Up to 22 bytes stand inside, which holds any UUID as bytes; longer ones are on the heap.
#[derive(Clone)]
pub(super) enum Name {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const SHORT: usize = 22;

impl Name {
    pub fn new(name: &[u8]) -> Self {
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..name.len()].copy_from_slice(name);
                Self::Short { len, bytes }
            }
            _ => Self::Long(name.into()),
        }
    }

    #[inline]
    pub fn get(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len).min(SHORT)],
            Self::Long(bytes) => bytes,
        }
    }

    /// Whether it is that one. For the sixteen bytes that most identifiers have, that is no call.
    #[inline]
    pub fn is(&self, name: &[u8]) -> bool {
        match (self, <&[u8; 16]>::try_from(name)) {
            (Self::Short { len: 16, bytes }, Ok(name)) => bytes.first_chunk() == Some(name),
            _ => self.get() == name,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.get().escape_ascii())
    }
}
