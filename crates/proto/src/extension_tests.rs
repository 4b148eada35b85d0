use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(file)).unwrap()
}

/// Each field or message of `proto/gsb_api.proto` with a number from 100 up, as `Hello 100 no_echo`.
fn in_messages() -> BTreeSet<String> {
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
        // Values of enums have one word before their number; they are no fields.
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

/// The same out of the table in `docs/protocol.md`: its rows are `| message | 100 | name | … |`.
fn in_table() -> BTreeSet<String> {
    let protocol = read("docs/protocol.md");
    let rows = protocol.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (message, number, name) = (cells.next()?, cells.next()?, cells.next()?);
        let is_extension = number.parse::<u32>().is_ok_and(|number| number >= FIRST);
        is_extension.then(|| format!("{message} {number} {name}"))
    });
    rows.collect()
}

// Rule FR-8: each extension stands in the one table.
#[test]
fn the_table_has_all_extensions() {
    let table = in_table();
    assert!(table.len() >= 6, "{table:?}");
    assert_eq!(table, in_messages(), "(left: docs/protocol.md)");
    for own in [format!("CallReply {REASON} reason"), format!("BroadcastRequest {MISSED} missed")] {
        assert!(table.contains(&own), "{own}");
    }
}
