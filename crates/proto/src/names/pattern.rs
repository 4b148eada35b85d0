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
