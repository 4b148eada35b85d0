use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

// Rule SV-3.
#[test]
fn the_longest_prefix_wins() {
    let mut map = PrefixMap::new();
    for (name, value) in [("foo", 1), ("foo/bar", 2), ("/abs", 3), ("foo/bar/x/y", 4)] {
        map.insert(id(name), value).unwrap();
    }
    let cases = [
        ("foo", Some(1)),
        ("foo/", Some(1)),
        ("foo/baz", Some(1)),
        ("foobar", None),
        ("fo", None),
        ("foo/bar", Some(2)),
        ("foo/bar/x", Some(2)),
        ("foo/bar//", Some(2)),
        ("foo/bar/x/y/z", Some(4)),
        ("/abs/foo", Some(3)),
        ("/foo", None),
        ("abs", None),
        ("", None),
        ("/", None),
    ];
    for (address, expected) in cases {
        assert_eq!(map.lookup(address).copied(), expected, "{address:?}");
    }
}

#[test]
fn a_taken_id_stays_as_it_is() {
    let mut map = PrefixMap::new();
    assert_eq!(map.insert(id("a"), 1), Ok(()));
    assert_eq!(map.insert(id("a"), 2), Err(2));
    assert_eq!(map.get("a"), Some(&1));
    assert_eq!(map.remove("a"), Some(1));
    assert_eq!(map.remove("a"), None);
    assert!(map.is_empty());
}

#[test]
fn the_longest_names_and_endless_addresses_are_found() {
    let mut map = PrefixMap::new();
    let longest = "x".repeat(MAX_NAME);
    map.insert(id(&longest), 1).unwrap();
    assert_eq!(map.lookup(&longest), Some(&1));
    assert_eq!(map.lookup(&format!("{longest}/and more")), Some(&1));
    assert_eq!(map.lookup(&format!("{longest}x")), None);
    assert_eq!(map.lookup(&"/".repeat(10 << 20)), None);
    assert_eq!(map.get(&"x".repeat(5000)), None);
}

proptest! {
    #[test]
    fn agrees_with_a_plain_map(
        operations in prop::collection::vec((any::<bool>(), "(/)?[ab](/[ab]){0,3}"), 0..200),
        addresses in prop::collection::vec("[ab/]{0,9}", 1..50),
    ) {
        let mut map = PrefixMap::new();
        let mut plain = BTreeMap::new();
        for (index, (add, name)) in operations.into_iter().enumerate() {
            if add {
                let fresh = !plain.contains_key(&name);
                prop_assert_eq!(map.insert(id(&name), index).is_ok(), fresh);
                plain.entry(name).or_insert(index);
            } else {
                prop_assert_eq!(map.remove(&name), plain.remove(&name));
            }
            prop_assert_eq!(map.len(), plain.len());
        }
        for address in addresses {
            let expected = plain
                .iter()
                .filter(|(name, _)| address == **name || address.starts_with(&format!("{name}/")))
                .max_by_key(|(name, _)| name.len())
                .map(|(_, value)| value);
            prop_assert_eq!(map.lookup(&address), expected);
        }
    }
}
