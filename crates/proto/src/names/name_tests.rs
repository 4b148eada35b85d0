use proptest::prelude::*;

use super::*;
use crate::Quoted;

// Rules SV-1, TO-1: valid service ids and topics.
#[test]
fn names_are_checked() {
    let longest = "a".repeat(MAX_NAME);
    for good in [
        "a",
        "/a",
        "/a/b",
        "a/b",
        "ü/日本",
        "a.b-c_d:e",
        "/local/x#y",
        &longest,
        "*",
        "a/**/b",
        "/*",
    ] {
        assert_eq!(ServiceId::new(good).unwrap().as_str(), good);
        assert_eq!(Topic::new(good).unwrap().as_str(), good);
    }
    let too_long = "a".repeat(MAX_NAME + 1);
    for bad in [
        "",
        "/",
        "//",
        "//a",
        "a/",
        "a//b",
        "/a/",
        "/a//b",
        "a b",
        " a",
        "a\n",
        "a\u{0}",
        "a\u{7f}",
        "a\u{a0}b",
        "a\u{2003}b",
        "a\u{85}",
        &too_long,
    ] {
        assert!(ServiceId::new(bad).is_err(), "{bad:?}");
        assert!(Topic::new(bad).is_err(), "{bad:?}");
    }
}

// Rule SV-1: the message says what is wrong and where.
#[test]
fn errors_name_the_position() {
    let message = |name| ServiceId::new(name).unwrap_err().to_string();
    assert!(message("a//b").contains("byte 2"), "{}", message("a//b"));
    assert!(message("a/").contains("byte 2"));
    assert!(message("ab c").contains("' '") && message("ab c").contains("byte 2"));
    assert!(message("").contains("empty"));
    assert!(message(&"x".repeat(1025)).contains("1025"));
}

// Rule TO-12: at most 64 segments, not counting the empty one before a leading slash. Service ids have no such limit.
#[test]
fn topics_have_at_most_64_segments() {
    for segment in ["a", "*", "**"] {
        for start in ["", "/"] {
            let name = |segments: usize| format!("{start}{}", vec![segment; segments].join("/"));
            assert!(Topic::new(&name(64)).is_ok());
            let error = Topic::new(&name(65)).unwrap_err();
            let expected = NameError::TooManySegments {
                name: Quoted::new(&name(65)),
                segments: 65,
                limit: MAX_SEGMENTS,
            };
            assert_eq!(error, expected);
            assert!(ServiceId::new(&name(65)).is_ok());
        }
    }
    let error = Topic::new(&vec!["a"; 512].join("/")).unwrap_err().to_string();
    assert!(error.ends_with("has 512 segments: a topic may have at most 64"), "{error}");
}

// Rules TO-2, TO-3: the wildcards, in subscriptions and in broadcasts.
#[test]
fn wildcards_stand_for_segments() {
    let cases = [
        ("a", "a", true),
        ("a", "b", false),
        ("a/b", "a", false),
        ("*", "a", true),
        ("*", "a/b", false),
        ("a/*", "a", false),
        ("a/*", "a/b", true),
        ("a/*", "a/b/c", false),
        ("a/**", "a", true),
        ("a/**", "a/b/c", true),
        ("a/**", "ab", false),
        ("**/c", "a/b/c", true),
        ("**/c", "c", true),
        ("a/**/c", "a/c", true),
        ("a/**/c", "a/b/b/c", true),
        ("a/**/c", "a/b/b/d", false),
        ("a/**/b/**/c", "a/b/x/b/c", true),
        ("**", "/a/b", true),
        ("*", "/a", false),
        ("*/a", "/a", true),
        ("/**", "a", false),
        ("/**", "/a", true),
        ("a*", "ab", false),
        ("a*", "a*", true),
        ("***", "a", false),
        // Both sides are patterns.
        ("a/*", "a/**", true),
        ("**", "**", true),
        ("*", "**", true),
        ("a/*", "*/b", true),
        ("a/*", "b/*", false),
        ("a/**", "**/b", true),
        ("a/*/c", "a/**/d", false),
        ("*/*", "*", false),
        ("*/**", "*", true),
        ("**/*", "a/**", true),
        ("*", "/**", false),
        ("*", "/*", false),
        ("*/**", "/**", true),
        ("**", "/**", true),
    ];
    for (a, b, expected) in cases {
        let (a, b) = (Topic::new(a).unwrap(), Topic::new(b).unwrap());
        assert_eq!(a.overlaps(&b), expected, "{a} and {b}");
        assert_eq!(b.overlaps(&a), expected, "{b} and {a}");
    }
}

/// All topics of up to four segments over a small alphabet, with and without a leading slash.
fn concrete_topics() -> Vec<Topic> {
    let mut all: Vec<String> = vec!["a".into(), "b".into(), "z".into()];
    let mut last = all.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|start| ["a", "b", "z"].map(|segment| format!("{start}/{segment}")))
            .collect();
        all.extend(last.iter().cloned());
    }
    let absolute: Vec<String> = all.iter().map(|topic| format!("/{topic}")).collect();
    all.extend(absolute);
    all.iter().map(|topic| Topic::new(topic).unwrap()).collect()
}

fn pattern() -> impl Strategy<Value = Topic> {
    (any::<bool>(), prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..4))
        .prop_map(|(absolute, segments)| {
            let start = if absolute { "/" } else { "" };
            Topic::new(&format!("{start}{}", segments.join("/"))).unwrap()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // Rule TO-3: patterns overlap if, and only if, both stand for the same topic without wildcards.
    #[test]
    fn patterns_overlap_if_both_stand_for_a_topic(a in pattern(), b in pattern()) {
        // Two patterns of together at most four segments that overlap have a topic of at most four segments in common.
        let witness = concrete_topics().iter().any(|topic| a.overlaps(topic) && b.overlaps(topic));
        if witness {
            prop_assert!(a.overlaps(&b), "{} and {}", a, b);
        } else if a.as_str().split('/').count() + b.as_str().split('/').count() <= 4 {
            prop_assert!(!a.overlaps(&b), "{} and {}", a, b);
        }
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
    }
}

/// Whether a pattern stands for these segments, naively.
fn stands_for(pattern: &[&str], segments: &[&str]) -> bool {
    match (pattern, segments) {
        ([], _) => segments.is_empty(),
        (["**", rest @ ..], _) => (0..=segments.len()).any(|n| stands_for(rest, &segments[n..])),
        ([_, ..], []) => false,
        ([first, rest @ ..], [segment, more @ ..]) => {
            (*first == "*" || first == segment) && stands_for(rest, more)
        }
    }
}

/// All lists of up to `most` of these segments.
fn lists(of: &[&'static str], most: usize) -> Vec<Vec<&'static str>> {
    let mut all = vec![vec![]];
    let mut begin = 0;
    for _ in 0..most {
        let end = all.len();
        for shorter in begin..end {
            for segment in of {
                all.push([&all[shorter][..], &[*segment]].concat());
            }
        }
        begin = end;
    }
    all
}

// Compared with a naive reading: all topics of up to five segments, of which one is in no pattern.
#[test]
fn patterns_stand_for_topics_and_cover_patterns() {
    let topics = lists(&["a", "b", "c"], 6);
    let patterns = lists(&["a", "b", "*", "**"], 4);
    let stands: Vec<Vec<bool>> = patterns
        .iter()
        .map(|pattern| topics.iter().map(|topic| stands_for(pattern, topic)).collect())
        .collect();
    for (pattern, stands) in patterns.iter().zip(&stands).skip(1) {
        let pattern = Topic::new(&pattern.join("/")).unwrap();
        for (topic, stands) in topics.iter().zip(stands).skip(1) {
            assert_eq!(pattern.stands_for(&topic.join("/")), *stands, "{pattern} for {topic:?}");
        }
    }
    assert!(Topic::new("*").unwrap().stands_for("**"), "in a name it is an ordinary segment");
    let mut covered = 0;
    for (pattern, all) in patterns.iter().zip(&stands).skip(1) {
        for (other, some) in patterns.iter().zip(&stands).skip(1) {
            let expected = some.iter().zip(all).all(|(other, pattern)| !other || *pattern);
            let [a, b] = [pattern, other].map(|segments| Topic::new(&segments.join("/")).unwrap());
            assert_eq!(a.covers(&b), expected, "{a} covers {b}");
            covered += usize::from(expected);
        }
    }
    assert!(covered > 500, "{covered}");
}
