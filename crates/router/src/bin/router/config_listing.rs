//! All options with their values, in the form of a configuration file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, Command};
use gsb_router::Address;

/// The column where the sources of the values begin.
const SOURCES: usize = 40;

/// Lists the options with their `values`, by their long names, and with the `source` of each.
pub(crate) fn list(
    command: &Command,
    values: &BTreeMap<String, Vec<String>>,
    source: impl Fn(&Arg) -> String,
) -> String {
    let mut text = String::new();
    for argument in command.get_arguments() {
        let Some((name, values)) = argument.get_long().and_then(|name| values.get_key_value(name))
        else {
            continue;
        };
        let quoted: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        let setting = match (&quoted[..], name.as_str()) {
            ([], "listen") => default_listen(),
            ([], _) => format!("# {name} is computed, see --help"),
            ([value], _) => format!("{name} = {value}"),
            (values, _) => format!("{name} = [{}]", values.join(", ")),
        };
        // Writing to text does not fail.
        let _ = writeln!(text, "{setting:SOURCES$} # {}", source(argument));
    }
    text
}

/// The address that the router listens on if none is given.
fn default_listen() -> String {
    match Address::from_environment() {
        Ok(address) => format!("listen = {}", quoted(&address.to_string())),
        Err(error) => format!("# listen has no value: {error}"),
    }
}

/// The source of a value that is not from a file.
pub(crate) fn source(argument: &Arg, source: Option<ValueSource>) -> String {
    match (source, argument.get_long(), argument.get_env()) {
        (Some(ValueSource::CommandLine), Some(name), _) => format!("the flag --{name}"),
        (Some(ValueSource::EnvVariable), _, Some(name)) => {
            format!("the variable {}", name.to_string_lossy())
        }
        _ => "the default".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
