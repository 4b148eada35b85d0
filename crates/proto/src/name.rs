//! Service ids and topics: checked once when made, valid ever after, cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::quoted::Quoted;

/// Longest service id or topic, in bytes.
pub const MAX_NAME: usize = 1024;

/// So many segments of a topic count as one subscription.
pub const SEGMENTS_PER_SUBSCRIPTION: usize = 8;

/// So many bytes of a topic count as one subscription.
pub const BYTES_PER_SUBSCRIPTION: usize = 128;

/// The segment of a topic that stands for exactly one segment.
pub const ONE: &str = "*";

/// The segment of a topic that stands for any number of segments, none included.
pub const ANY: &str = "**";

/// Why a string is neither a service id nor a topic. Positions and lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty string.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("a name of {length} bytes is too long: {MAX_NAME} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// A control character or white space.
    #[error(
        "{name} contains {character:?} at byte {at}: control characters and white space are not allowed"
    )]
    Character {
        /// The string.
        name: Quoted,
        /// The first character that is not allowed.
        character: char,
        /// Where it stands.
        at: usize,
    },
    /// Two slashes in a row, or one at the end.
    #[error("{name} has an empty segment at byte {at}: one '/' between segments, none at the end")]
    EmptySegment {
        /// The string.
        name: Quoted,
        /// Where the first empty segment stands.
        at: usize,
    },
}

/// Checks the rules that service ids and topics share.
fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong { length: name.len() });
    }
    if let Some((at, character)) =
        name.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace())
    {
        return Err(NameError::Character { name: Quoted::new(name), character, at });
    }
    let mut at = 0;
    for segment in name.split('/') {
        // Only the segment before a leading '/' may be empty, and only with another one behind it.
        let leading = at == 0 && name.len() > 1;
        if segment.is_empty() && !leading {
            return Err(NameError::EmptySegment { name: Quoted::new(name), at });
        }
        at += segment.len() + 1;
    }
    Ok(())
}

macro_rules! checked_name {
    ($name:ident) => {
        impl $name {
            /// Checks a string and takes it over.
            ///
            /// # Errors
            /// A [`NameError`] that says what is wrong and where.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name)?;
                Ok($name(Arc::from(name)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                $name::new(name)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// The name under which a service is registered: 1 to [`MAX_NAME`] bytes of UTF-8 without control
/// characters and white space, in segments separated by `/`, none of them empty but the one before a
/// leading `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(Arc<str>);

/// What is subscribed and broadcast to. The rules of a [`ServiceId`] hold; in addition the segment
/// `*` stands for exactly one segment, and `**` for any number of them, none included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

checked_name!(ServiceId);
checked_name!(Topic);

impl Topic {
    /// Whether the topic stands for more than itself.
    pub fn is_pattern(&self) -> bool {
        self.0.split('/').any(is_wildcard)
    }

    /// As how many subscriptions a subscription to this topic counts: one for every
    /// [`SEGMENTS_PER_SUBSCRIPTION`] or [`BYTES_PER_SUBSCRIPTION`] that it begins, whichever are more
    /// (rule TO-10). What a broadcast costs at most is in proportion to that.
    pub fn weight(&self) -> usize {
        let segments = self.0.split('/').count().div_ceil(SEGMENTS_PER_SUBSCRIPTION);
        segments.max(self.0.len().div_ceil(BYTES_PER_SUBSCRIPTION))
    }

    /// Whether there is a topic without wildcards that both stand for. The length limit of names is
    /// not taken into account.
    ///
    /// ```
    /// use gsb_proto::Topic;
    ///
    /// let meet = |a: &str, b: &str| Ok::<_, gsb_proto::NameError>(Topic::new(a)?.overlaps(&Topic::new(b)?));
    /// assert!(meet("node/up", "node/*")?);
    /// assert!(meet("node/*", "**/up")?);
    /// assert!(!meet("node/*", "node")?);
    /// # Ok::<_, gsb_proto::NameError>(())
    /// ```
    pub fn overlaps(&self, other: &Topic) -> bool {
        match (self.is_pattern(), other.is_pattern()) {
            (false, false) => self == other,
            (true, false) => covers(self.as_str(), other.as_str()),
            (false, true) => covers(other.as_str(), self.as_str()),
            (true, true) => share(self.as_str(), other.as_str()),
        }
    }
}

fn is_wildcard(segment: &str) -> bool {
    segment == ONE || segment == ANY
}

/// Whether `pattern` stands for `topic`, which has no wildcards. Takes the shortest run for each `**`
/// and lengthens only the last one: what an earlier one could take, a later one can take too.
fn covers(pattern: &str, topic: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut given = topic.split('/');
    let mut retry = None;
    loop {
        let (before, segment) = (given.clone(), given.next());
        let step = match (wanted.next(), segment) {
            (None, None) => return true,
            (Some(ANY), _) => {
                retry = Some((wanted.clone(), before.clone()));
                given = before;
                true
            }
            (Some(ONE), Some(_)) => true,
            (Some(want), Some(have)) => want == have,
            _ => false,
        };
        if !step {
            let Some((after, mut from)) = retry.take() else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            wanted = after.clone();
            given = from.clone();
            retry = Some((after, from));
        }
    }
}

/// Whether two patterns stand for a common topic: walks all pairs of positions that both can reach by
/// the same segments.
fn share(a: &str, b: &str) -> bool {
    // The one place where an empty segment shows: `*` would share with `/**` only the empty topic,
    // which does not exist.
    if (a == ONE && b.starts_with('/')) || (b == ONE && a.starts_with('/')) {
        return false;
    }
    let b: Vec<&str> = b.split('/').collect();
    let spread = |row: &mut [bool]| {
        for (at, segment) in b.iter().enumerate() {
            row[at + 1] |= row[at] && *segment == ANY;
        }
    };
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    spread(&mut row);
    for have in a.split('/') {
        let mut next = vec![false; b.len() + 1];
        for (at, want) in b.iter().enumerate() {
            if !row[at] {
                continue;
            }
            let meet = is_wildcard(have) || is_wildcard(want) || have == *want;
            if have == ANY {
                // `have` takes what `want` takes, and goes on; stays for `**` against `**`.
                row[at + 1] = true;
            } else if meet {
                next[if *want == ANY { at } else { at + 1 }] = true;
            }
        }
        if have == ANY {
            for (at, reached) in row.iter().enumerate() {
                next[at] |= reached;
            }
        }
        spread(&mut next);
        row = next;
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
