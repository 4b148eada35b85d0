//! Arbitrary names, and simple implementations of the rules for names, as oracles.

use std::collections::HashSet;

use arbitrary::{Arbitrary, Result, Unstructured};
use gsb_proto::Topic;

use crate::input;

/// A name, valid or not. Most names consist of few different segments, so that they often overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

/// Common names, and some that are not valid.
const USUAL: &[&str] = &[
    "a", "a/b", "a/b/c", "ab", "/a", "/a/b", "b", "b/a", "*", "**", "a/*", "a/**", "*/b", "**/b",
    "/*", "/**", "*/**", "a/**/c", "**/a/**", "/a/*", "", "/", "a/", "a//b", "a b",
];

const SEGMENTS: &[&str] =
    &["a", "b", "ab", "*", "**", "*a", "ä", "a-", "c", "", "a", "b", "*", "**", "a", "b"];

/// With more segments the oracle for overlapping topics would be slow.
const MAX_SEGMENTS: usize = 12;

impl<'a> Arbitrary<'a> for Name {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let form: u8 = input.arbitrary()?;
        Ok(Name(match form {
            0..=149 => USUAL[usize::from(form) % USUAL.len()].to_owned(),
            150..=221 => {
                let more = usize::from(form - 150) % MAX_SEGMENTS;
                let segments = input.bytes((more + 1).min(input.len()))?;
                let segments = segments.iter().map(|byte| SEGMENTS[usize::from(byte % 16)]);
                let start = if form.is_multiple_of(2) { "/" } else { "" };
                let all = Vec::from_iter(segments).join("/");
                // Some have more segments than a topic may have.
                let times = if form < 217 { 1 } else { 1 + input.arbitrary::<u8>()? % 12 };
                format!("{start}{}", vec![all; times.into()].join("/"))
            }
            222..=249 => input::text(input)?.to_owned(),
            // Around the longest allowed name.
            _ => "n".repeat(970 + usize::from(input.arbitrary::<u8>()?)) + input::text(input)?,
        }))
    }
}

/// Rules TO-1 and TO-12: whether a text is a topic.
pub fn is_topic(text: &str) -> bool {
    let slashes = text.matches('/').count();
    is_service_id(text) && slashes < if text.starts_with('/') { 65 } else { 64 }
}

/// Rule SV-1: whether a text is a service id.
pub fn is_service_id(text: &str) -> bool {
    let segments: Vec<&str> = text.split('/').collect();
    let is_bad = |c: char| c.is_control() || c.is_whitespace();
    let is_absolute = segments.len() > 1 && segments[0].is_empty();
    let segments = if is_absolute { &segments[1..] } else { &segments[..] };
    (1..=1024).contains(&text.len())
        && !text.chars().any(is_bad)
        && segments.iter().all(|segment| !segment.is_empty())
}

/// Rule SV-3: whether an address belongs to a service id.
pub fn belongs(address: &str, id: &str) -> bool {
    address.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The state of a topic that is made segment by segment: nothing, only the empty segment before a leading `/`, or a
/// valid topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Made {
    Nothing,
    OnlyEmpty,
    Topic,
}

/// Rules TO-2 and TO-3: whether there is a topic without wildcards that both stand for. Tries to make one segment by
/// segment, and tracks the rest of each pattern. For long topics this would be slow, and [`Topic::overlaps`] is used,
/// which this function checks for short ones.
pub fn topics_meet(left: &Topic, right: &Topic) -> bool {
    let a: Vec<&str> = left.as_str().split('/').collect();
    let b: Vec<&str> = right.as_str().split('/').collect();
    if a.len().max(b.len()) > MAX_SEGMENTS + 1 {
        return left.overlaps(right);
    }
    // One segment that is in neither topic represents all others.
    let mut segments: Vec<&str> = a.iter().chain(&b).copied().collect();
    segments.retain(|segment| !matches!(*segment, "" | "*" | "**"));
    segments.sort_unstable();
    segments.dedup();
    segments.push("\u{1}fresh");
    let mut seen = HashSet::new();
    let mut open = vec![(0, 0, Made::Nothing)];
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        let (at_a, at_b, made) = state;
        if at_a == a.len() && at_b == b.len() && made == Made::Topic {
            return true;
        }
        // `**` stands for nothing.
        if a.get(at_a) == Some(&"**") {
            open.push((at_a + 1, at_b, made));
        }
        if b.get(at_b) == Some(&"**") {
            open.push((at_a, at_b + 1, made));
        }
        let empty = (made == Made::Nothing).then_some("");
        for next in segments.iter().copied().chain(empty) {
            if let (Some(at_a), Some(at_b)) = (after(&a, at_a, next), after(&b, at_b, next)) {
                let made = if next.is_empty() { Made::OnlyEmpty } else { Made::Topic };
                open.push((at_a, at_b, made));
            }
        }
    }
    false
}

/// The position in a pattern after one more segment of a topic.
fn after(pattern: &[&str], at: usize, segment: &str) -> Option<usize> {
    match *pattern.get(at)? {
        "**" => Some(at),
        "*" => Some(at + 1),
        wanted => (wanted == segment).then_some(at + 1),
    }
}

/// Rule TO-10: as how many subscriptions one to this topic counts.
pub fn weight(topic: &str) -> usize {
    topic.split('/').count().div_ceil(8).max(topic.len().div_ceil(128))
}
