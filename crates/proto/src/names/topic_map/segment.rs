//! The encoding of subscribed topics: segments in the form in which broadcasts are matched against them.

use std::hash::{BuildHasher, RandomState};

use crate::names::pattern::{ANY, ONE};

/// A segment of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// `*`
    One,
    /// `**`
    Any,
    /// Any other segment.
    Literal {
        /// A hash of the text.
        hash: u32,
        text: &'a [u8],
    },
}

/// Stands for `*` in the place of a literal's length. No literal is so long: a topic has at most 1024 bytes.
const ONE_MARK: u16 = u16::MAX - 1;

/// Stands for `**` in the place of a literal's length.
const ANY_MARK: u16 = u16::MAX;

impl Segment<'_> {
    /// A hash of the segment. Different segments may have the same one.
    pub(super) fn key(self) -> u32 {
        match self {
            Segment::One => 1,
            Segment::Any => 2,
            Segment::Literal { hash, .. } => hash,
        }
    }

    /// Appends the encoded segment. A wildcard takes 2 bytes, a literal 6 bytes and its text. The hash is stored, so
    /// that matching need not compute it.
    pub(super) fn write(self, bytes: &mut Vec<u8>) {
        let mark = match self {
            Segment::One => ONE_MARK,
            Segment::Any => ANY_MARK,
            Segment::Literal { text, .. } => text.len() as u16,
        };
        bytes.extend_from_slice(&mark.to_le_bytes());
        if let Segment::Literal { hash, text } = self {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(text);
        }
    }
}

/// An iterator over encoded segments.
#[derive(Debug, Clone)]
pub(super) struct Segments<'a>(&'a [u8]);

impl<'a> Segments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Segments(bytes)
    }

    /// The segments that are left, encoded.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether `*` is the only segment that is left.
    pub(super) fn is_one(&self) -> bool {
        *self.0 == ONE_MARK.to_le_bytes()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        let (mark, rest) = self.0.split_first_chunk()?;
        match u16::from_le_bytes(*mark) {
            ONE_MARK => {
                self.0 = rest;
                Some(Segment::One)
            }
            ANY_MARK => {
                self.0 = rest;
                Some(Segment::Any)
            }
            length => {
                let (hash, rest) = rest.split_first_chunk()?;
                let (text, rest) = rest.split_at_checked(length.into())?;
                self.0 = rest;
                Some(Segment::Literal { hash: u32::from_le_bytes(*hash), text })
            }
        }
    }
}

/// The segments of a topic. Their texts are hashed with a secret key, so that peers cannot choose topics whose hashes
/// collide.
pub(super) fn segments<'a>(
    hasher: &RandomState,
    topic: &'a str,
) -> impl Iterator<Item = Segment<'a>> + Clone {
    topic.split('/').map(|segment| match segment {
        ONE => Segment::One,
        ANY => Segment::Any,
        text => {
            // The upper half of the hash is as good as any other bits.
            let hash = (hasher.hash_one(text) >> 32) as u32;
            Segment::Literal { hash, text: text.as_bytes() }
        }
    })
}
