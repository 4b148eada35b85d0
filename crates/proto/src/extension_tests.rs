use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::kind::MessageKind;

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(file)).unwrap()
}

/// The extension fields that `proto/gsb_api.proto` declares, as `Hello 100 no_echo`.
fn in_proto_file() -> BTreeSet<String> {
    let mut message = String::new();
    let mut found = BTreeSet::new();
    for line in read("proto/gsb_api.proto").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ") {
            message = name.trim_end_matches(" {").to_owned();
        }
        let field = line.strip_suffix(';').and_then(|line| line.split_once(" = "));
        let Some((declared, number)) = field else {
            continue;
        };
        // The values of an enum have one word before their number, fields have two.
        let (Some((_, name)), Ok(number)) = (declared.rsplit_once(' '), number.parse::<u32>())
        else {
            continue;
        };
        if number >= FIRST {
            found.insert(format!("{message} {number} {name}"));
        }
    }
    found
}

/// The extension fields in the table of `docs/protocol.md`, whose rows are `| message | 100 | name | … |`.
fn in_docs() -> BTreeSet<String> {
    let protocol = read("docs/protocol.md");
    let rows = protocol.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (message, number, name) = (cells.next()?, cells.next()?, cells.next()?);
        let is_extension = number.parse::<u32>().is_ok_and(|number| number >= FIRST);
        is_extension.then(|| format!("{message} {number} {name}"))
    });
    rows.collect()
}

// Rule FR-8.
#[test]
fn the_table_lists_every_extension_field() {
    let row = |field: &ExtensionField| format!("{} {} {}", field.message, field.number, field.name);
    let table: BTreeSet<String> = ALL.iter().map(row).collect();
    assert_eq!(table.len(), ALL.len(), "a field is listed twice");
    assert_eq!(table, in_proto_file(), "(right: proto/gsb_api.proto)");
    assert_eq!(table, in_docs(), "(right: docs/protocol.md)");
}

// A message whose field in `Packet` is an extension has a kind with the same number.
#[test]
fn extension_messages_have_kinds() {
    let in_packet = ALL.iter().filter(|field| field.message == "Packet");
    let kinds = MessageKind::ALL.iter().map(|kind| kind.field()).filter(|&number| number >= FIRST);
    assert!(in_packet.map(|field| field.number).eq(kinds));
}

// Rule CO-18: a message of the published protocol needs no level, and this crate implements what the others need.
#[test]
fn each_extension_message_has_a_level() {
    for kind in MessageKind::ALL {
        let levels = if kind.field() < FIRST { 0..=0 } else { 1..=LEVEL };
        assert!(levels.contains(&kind.level()), "{kind:?}");
    }
}
