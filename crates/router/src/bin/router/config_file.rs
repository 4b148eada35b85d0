//! The configuration file: options by their long names, in TOML.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest_name::nearest;

/// A configuration file that was read. Its values are not checked yet.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    pub(crate) options: Vec<FileOption>,
}

/// An option that the file sets.
#[derive(Debug)]
pub(crate) struct FileOption {
    /// The id of the option of the command line.
    pub(crate) id: String,
    /// The name in the file, which may be an old one.
    name: String,
    values: Vec<String>,
    place: Place,
}

/// A place in the file, counted from 1. Columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl Place {
    /// The place of a byte of a text.
    fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

impl FileOption {
    /// The option as arguments of the command line.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = OsString> {
        self.values.iter().map(|value| format!("--{}={value}", self.name).into())
    }
}

impl ConfigFile {
    /// Reads a file. `command` knows the options.
    ///
    /// # Errors
    /// A sentence that names the file, the place and the remedy.
    pub(crate) fn read(path: &Path, command: &Command) -> Result<Self, String> {
        let file = format!("configuration file {}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
        let at = |byte, problem: String| format!("{file}, {}: {problem}", Place::of(&text, byte));
        let table = DeTable::parse(&text).map_err(|error| {
            let byte = error.span().map_or(text.len(), |span| span.start);
            at(byte, error.message().replace('\n', "; "))
        })?;
        let mut options = Vec::new();
        for (key, value) in table.into_inner() {
            let name: &str = key.get_ref();
            let begin = key.span().start;
            let Some(id) = option_id(command, name) else {
                let known = command.get_arguments().filter_map(|argument| argument.get_long());
                let advice = nearest(name, known.filter(|known| !NOT_IN_FILES.contains(known)));
                return Err(at(begin, format!("{name:?} is not an option; {advice}")));
            };
            if options.iter().any(|other: &FileOption| other.id == id) {
                let known = id.replace('_', "-");
                let problem = format!(
                    "{name} is another name of {known}, which the file sets, too; remove one"
                );
                return Err(at(begin, problem));
            }
            let values = texts(name, value).map_err(|(byte, problem)| at(byte, problem))?;
            let is_list = command
                .get_arguments()
                .any(|it| *it.get_id() == *id && matches!(it.get_action(), ArgAction::Append));
            if values.is_empty() || values.len() > 1 && !is_list {
                let problem = match values.len() {
                    0 => format!("{name} is an empty list; write a value, or remove it"),
                    _ => format!("{name} is a list; write one value"),
                };
                return Err(at(begin, problem));
            }
            let (name, place) = (name.to_owned(), Place::of(&text, begin));
            options.push(FileOption { id, name, values, place });
        }
        options.sort_by_key(|option| (option.place.line, option.place.column));
        Ok(ConfigFile { path: path.to_owned(), options })
    }

    /// Where the file sets an option.
    pub(crate) fn place(&self, option: &FileOption) -> String {
        format!("{}, line {}", self.path.display(), option.place.line)
    }

    /// The sentence for a value of the file that cannot be used.
    pub(crate) fn unusable(&self, option: &FileOption, problem: &str) -> String {
        let FileOption { name, place, .. } = option;
        format!("configuration file {}, {place}: {name}: {problem}", self.path.display())
    }
}

/// Options that a file cannot set, because they are not settings of the router.
pub(crate) const NOT_IN_FILES: [&str; 3] = ["config", "help", "version"];

/// The id of the option with this long name.
fn option_id(command: &Command, long: &str) -> Option<String> {
    command
        .get_arguments()
        .filter(|argument| !argument.get_long().is_some_and(|name| NOT_IN_FILES.contains(&name)))
        .find(|argument| {
            argument.get_long() == Some(long)
                || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        })
        .map(|argument| argument.get_id().to_string())
}

/// The value of an option, or the values of a list. An error has the place of the value in the text.
fn texts(name: &str, value: Spanned<DeValue<'_>>) -> Result<Vec<String>, (usize, String)> {
    let begin = value.span().start;
    let text = match value.into_inner() {
        DeValue::Array(values) => {
            return values.into_iter().try_fold(Vec::new(), |mut all, value| {
                all.extend(texts(name, value)?);
                Ok(all)
            });
        }
        DeValue::String(text) => text.into_owned(),
        // TOML knows 0o660 as a number. It would be printed as decimal and parsed as octal.
        DeValue::Integer(_) if name == "unix-mode" => {
            let problem = format!("{name} is a number; write {name} = \"0660\" instead");
            return Err((begin, problem));
        }
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(_) => {
            return Err((begin, format!("{name} is not a decimal number; write it as one")));
        }
        other => {
            let kind = match other {
                DeValue::Float(_) => "a fraction",
                DeValue::Boolean(_) => "a boolean",
                DeValue::Datetime(_) => "a date or a time",
                _ => "a table",
            };
            return Err((begin, format!("{name} is {kind}; write text or a whole number")));
        }
    };
    Ok(vec![text])
}
