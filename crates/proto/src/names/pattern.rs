//! The wildcards of patterns.

/// The wildcard that stands for exactly one segment.
pub const ONE: &str = "*";

/// The wildcard that stands for any number of segments, including none.
pub const ANY: &str = "**";

/// Whether there is a topic without wildcards that `a` and `b` stand for.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    // `*` and a topic with a leading slash have only the empty topic in common, which does not exist.
    if (a == ONE && b.starts_with('/')) || (b == ONE && a.starts_with('/')) {
        return false;
    }
    let b: Vec<&str> = b.split('/').collect();
    // row[j] says whether the segments of `a` from the current one on overlap with those of `b` from `j` on. It begins
    // with the values at the end of `a`: the rest of `b` must stand for no segments.
    let mut row = vec![true; b.len() + 1];
    for j in (0..b.len()).rev() {
        row[j] = b[j] == ANY && row[j + 1];
    }
    for segment in a.split('/').rev() {
        let below = row.clone();
        for j in (0..=b.len()).rev() {
            row[j] = match (segment, b.get(j)) {
                // `**` stands for no more segments, or for another one.
                (ANY, None) => below[j],
                (ANY, Some(_)) | (_, Some(&ANY)) => below[j] || row[j + 1],
                (_, None) => false,
                (_, Some(&other)) => {
                    (segment == ONE || other == ONE || segment == other) && below[j + 1]
                }
            };
        }
    }
    row[0]
}

/// Whether `pattern` stands for `name`, in whose segments `*` and `**` have no special meaning. Does not allocate.
pub(super) fn stands_for(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.split('/'), name.split('/'));
    // What follows the last `**`, and the segments of the name that it does not stand for so far. An earlier one need not
    // stand for more: the last one can do that, too.
    let mut after_any = None;
    loop {
        match pattern.next() {
            Some(ANY) => {
                after_any = Some((pattern.clone(), name.clone()));
                continue;
            }
            Some(expected) => match name.next() {
                Some(segment) if expected == ONE || expected == segment => continue,
                Some(_) => {}
                None => return false,
            },
            None if name.next().is_none() => return true,
            None => {}
        }
        let Some((rest, left)) = &mut after_any else {
            return false;
        };
        if left.next().is_none() {
            return false;
        }
        (pattern, name) = (rest.clone(), left.clone());
    }
}

/// A part of a pattern.
enum Part<'a> {
    Segment(&'a str),
    /// Wildcards that follow each other: they stand for this number of any segments, and perhaps for more.
    Gap {
        least: usize,
        or_more: bool,
    },
}

/// Whether `pattern` stands for all topics that `other` stands for. The empty topic counts as a topic here.
pub(super) fn covers(pattern: &str, other: &str) -> bool {
    let other: Vec<&str> = other.split('/').collect();
    // row[j] says whether the parts of `pattern` from the current one on cover the segments of `other` from `j` on. It
    // begins with the values at the end of `pattern`.
    let mut row = vec![false; other.len() + 1];
    row[other.len()] = true;
    for part in parts(pattern).iter().rev() {
        let covered = |j| match *part {
            Part::Segment(segment) => other.get(j) == Some(&segment) && row[j + 1],
            Part::Gap { least, or_more } => {
                // How many segments of `other` the gap covers is tried.
                let (mut count, mut is_exact) = (0, true);
                (j..=other.len()).any(|end| {
                    if let Some(&last) = other[j..end].last() {
                        count += usize::from(last != ANY);
                        is_exact &= last != ANY;
                    }
                    let fits = if or_more { count >= least } else { is_exact && count == least };
                    fits && row[end]
                })
            }
        };
        row = (0..=other.len()).map(covered).collect();
    }
    row[0]
}

fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for segment in pattern.split('/') {
        if segment != ONE && segment != ANY {
            parts.push(Part::Segment(segment));
            continue;
        }
        let (one, any) = (usize::from(segment == ONE), segment == ANY);
        match parts.last_mut() {
            Some(Part::Gap { least, or_more }) => {
                *least += one;
                *or_more |= any;
            }
            _ => parts.push(Part::Gap { least: one, or_more: any }),
        }
    }
    parts
}
