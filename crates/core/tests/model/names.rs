//! Which texts are names, and which topics meet, told naively (rules SV-1, TO-2 and TO-3).

pub(super) fn is_name(text: &str) -> bool {
    let segments = text.strip_prefix('/').unwrap_or(text);
    text.len() <= 1024
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && !segments.split('/').any(str::is_empty)
}

pub(super) fn topics_meet(a: &str, b: &str) -> bool {
    // The one segment of `*` cannot be the empty one before a slash: there is no empty topic.
    let is_empty = |a: &str, b: &str| a == "*" && b.starts_with('/');
    let (left, right): (Vec<_>, Vec<_>) = (a.split('/').collect(), b.split('/').collect());
    !is_empty(a, b) && !is_empty(b, a) && segments_meet(&left, &right)
}

fn segments_meet(a: &[&str], b: &[&str]) -> bool {
    let any = |side: &[&str]| side.first() == Some(&"**");
    match (a, b) {
        ([], []) => true,
        // `**` takes nothing or one segment more.
        ([_, rest @ ..], _) if any(a) => {
            segments_meet(rest, b) || (!b.is_empty() && segments_meet(a, &b[1..]))
        }
        (_, [_, ..]) if any(b) => segments_meet(b, a),
        ([x, a @ ..], [y, b @ ..]) => (x == y || *x == "*" || *y == "*") && segments_meet(a, b),
        _ => false,
    }
}
