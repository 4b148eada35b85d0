//! Advice on mistyped names.

/// How many letters of a name may be wrong for a known one to be suggested.
const TYPING_ERRORS: usize = 3;

/// Advice for a name that is not known: the nearest of the `known` names, or else where to find them.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    match known.min_by_key(|known| distance(known)) {
        Some(nearest) if distance(nearest) <= TYPING_ERRORS => format!("did you mean {nearest}?"),
        _ => "see --help for the names".to_owned(),
    }
}
