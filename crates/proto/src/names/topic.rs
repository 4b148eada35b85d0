//! Topics and patterns.

use std::sync::Arc;

use super::check::{NameError, check, checked_name};
use super::pattern::{ANY, ONE, covers, overlap, stands_for};
use crate::quoted::Quoted;

/// Most segments of a topic, wildcards included. The empty segment before a leading `/` does not count.
pub const MAX_SEGMENTS: usize = 64;

/// A subscription counts as one for each of this number of segments that its topic begins (rule TO-10).
pub const SEGMENTS_PER_SUBSCRIPTION: usize = 8;

/// A subscription counts as one for each of this number of bytes that its topic begins (rule TO-10).
pub const BYTES_PER_SUBSCRIPTION: usize = 128;

/// The target of a broadcast, or the subject of a subscription. Cheap to clone.
///
/// The rules of a [`ServiceId`](super::ServiceId) hold, and there are at most [`MAX_SEGMENTS`] segments. A topic with a
/// wildcard among its segments (`*` for one segment, `**` for any number) is a pattern: it stands for every topic that
/// results from replacing the wildcards.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

checked_name!(Topic, check_topic);

fn check_topic(name: &str) -> Result<(), NameError> {
    check(name)?;
    let segments = name.strip_prefix('/').unwrap_or(name).split('/').count();
    if segments > MAX_SEGMENTS {
        let name = Quoted::new(name);
        return Err(NameError::TooManySegments { name, segments, limit: MAX_SEGMENTS });
    }
    Ok(())
}

impl Topic {
    /// Whether the topic has a wildcard.
    pub fn is_pattern(&self) -> bool {
        self.0.split('/').any(|segment| segment == ONE || segment == ANY)
    }

    /// As how many subscriptions a subscription to this topic counts: as one for every [`SEGMENTS_PER_SUBSCRIPTION`]
    /// segments or [`BYTES_PER_SUBSCRIPTION`] bytes that it begins, whichever are more (rule TO-10). The time to match
    /// a broadcast against the topic is bounded in proportion.
    pub fn weight(&self) -> usize {
        let segments = self.0.split('/').count().div_ceil(SEGMENTS_PER_SUBSCRIPTION);
        segments.max(self.0.len().div_ceil(BYTES_PER_SUBSCRIPTION))
    }

    /// Whether there is a topic without wildcards that both topics stand for. The limits of topics are not taken into
    /// account. [`TopicMap`](super::TopicMap) finds all overlapping topics of a set faster.
    ///
    /// ```
    /// use gsb_proto::Topic;
    ///
    /// let overlap = |a: &str, b: &str| Ok::<_, gsb_proto::NameError>(Topic::new(a)?.overlaps(&Topic::new(b)?));
    /// assert!(overlap("node/up", "node/*")?);
    /// assert!(overlap("node/*", "**/up")?);
    /// assert!(!overlap("node/*", "node")?);
    /// # Ok::<_, gsb_proto::NameError>(())
    /// ```
    pub fn overlaps(&self, other: &Topic) -> bool {
        if self.is_pattern() || other.is_pattern() {
            overlap(self.as_str(), other.as_str())
        } else {
            self == other
        }
    }

    /// Whether this topic stands for all topics that `other` stands for. The limits of topics are not taken into account,
    /// and the empty topic, which `**` alone would stand for, counts as a topic.
    ///
    /// ```
    /// use gsb_proto::Topic;
    ///
    /// let covers = |a: &str, b: &str| Ok::<_, gsb_proto::NameError>(Topic::new(a)?.covers(&Topic::new(b)?));
    /// assert!(covers("node/**", "node/*/up")?);
    /// assert!(covers("node/up", "node/up")?);
    /// assert!(!covers("node/*", "node/**")?);
    /// # Ok::<_, gsb_proto::NameError>(())
    /// ```
    pub fn covers(&self, other: &Topic) -> bool {
        covers(self.as_str(), other.as_str())
    }

    /// Whether this topic stands for `name`. In the name, `*` and `**` are ordinary segments, as in service ids.
    ///
    /// ```
    /// use gsb_proto::Topic;
    ///
    /// let public = Topic::new("/public/**")?;
    /// assert!(public.stands_for("/public") && public.stands_for("/public/clock/now"));
    /// assert!(!public.stands_for("/publicity"));
    /// # Ok::<_, gsb_proto::NameError>(())
    /// ```
    pub fn stands_for(&self, name: &str) -> bool {
        stands_for(self.as_str(), name)
    }
}
