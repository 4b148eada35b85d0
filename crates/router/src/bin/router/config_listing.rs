//! All options with their values, in the form of a configuration file.

use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use gsb_router::Address;

use crate::config_file::{ConfigFile, FileOption, NOT_IN_FILES};

/// The column where the sources of the values begin.
const SOURCES: usize = 40;

/// Lists the options of `matches`, with the source of each value. `from_file` are those that the file sets.
pub(crate) fn list(
    command: &Command,
    matches: &ArgMatches,
    file: Option<&ConfigFile>,
    from_file: &[&FileOption],
) -> String {
    let mut text = String::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_long().filter(|name| !NOT_IN_FILES.contains(name)) else {
            continue;
        };
        let id = argument.get_id().as_str();
        let of_file = from_file.iter().find(|option| option.id == id);
        let source = match (matches.value_source(id), of_file.zip(file)) {
            (_, Some((option, file))) => file.place(option),
            (Some(ValueSource::CommandLine), _) => format!("the flag --{name}"),
            (Some(ValueSource::EnvVariable), _) => format!("the variable {}", variable(argument)),
            _ => "the default".to_owned(),
        };
        let values: Vec<String> = matches
            .get_raw(id)
            .map(|values| values.map(|value| quoted(&value.to_string_lossy())).collect())
            .unwrap_or_default();
        let setting = match (&values[..], name) {
            ([], "listen") => match Address::from_environment() {
                Ok(address) => format!("{name} = {}", quoted(&address.to_string())),
                Err(error) => format!("# {name} has no value: {error}"),
            },
            ([], _) => format!("# {name} is computed, see --help"),
            ([value], _) => format!("{name} = {value}"),
            (values, _) => format!("{name} = [{}]", values.join(", ")),
        };
        // Writing to text does not fail.
        let _ = writeln!(text, "{setting:SOURCES$} # {source}");
    }
    text
}

fn variable(argument: &Arg) -> String {
    argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
