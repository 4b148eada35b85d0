//! Segments of subscriptions, in the form in which a broadcast is matched against them.

use std::hash::{BuildHasher, RandomState};

use crate::name::{ANY, ONE};

/// A segment of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// `*`
    One,
    /// `**`
    Any,
    /// Stands for itself.
    Literal {
        /// From [`hash`].
        hash: u32,
        text: &'a [u8],
    },
}

const ONE_MARK: u16 = u16::MAX - 1;
const ANY_MARK: u16 = u16::MAX;

impl Segment<'_> {
    /// Equal for equal segments, and for others hardly ever.
    pub(super) fn key(self) -> u32 {
        match self {
            Segment::One => 1,
            Segment::Any => 2,
            Segment::Literal { hash, .. } => hash,
        }
    }

    /// A wildcard takes 2 bytes, any other segment 6 and its text. The hash is kept so that a
    /// broadcast need not compute it anew.
    pub(super) fn write(self, bytes: &mut Vec<u8>) {
        let mark = match self {
            Segment::One => ONE_MARK,
            Segment::Any => ANY_MARK,
            // A topic has at most 1024 bytes, which leaves the marks free.
            Segment::Literal { text, .. } => text.len() as u16,
        };
        bytes.extend_from_slice(&mark.to_le_bytes());
        if let Segment::Literal { hash, text } = self {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(text);
        }
    }
}

/// Written segments that are still to be read.
#[derive(Debug, Clone)]
pub(super) struct Segments<'a>(&'a [u8]);

impl<'a> Segments<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Segments(bytes)
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether it is `*` and nothing else.
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

/// The segments of a topic. Its texts are hashed with a secret, so that nobody can choose topics whose
/// hashes are the same.
pub(super) fn segments<'a>(
    hasher: &RandomState,
    topic: &'a str,
) -> impl Iterator<Item = Segment<'a>> + Clone {
    topic.split('/').map(|segment| match segment {
        ONE => Segment::One,
        ANY => Segment::Any,
        text => {
            // The upper half is as good as any.
            let hash = (hasher.hash_one(text) >> 32) as u32;
            Segment::Literal { hash, text: text.as_bytes() }
        }
    })
}
