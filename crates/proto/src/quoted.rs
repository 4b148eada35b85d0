//! Quotes texts of peers in messages for users and operators.

use std::fmt;

/// How much of a text is quoted, in bytes. Nearly all names in use are shorter.
pub const MAX_QUOTED: usize = 256;

/// A quotation of a text that a peer chose. `Display` writes it in quotation marks, with control characters escaped.
/// A text of more than [`MAX_QUOTED`] bytes is cut, and the length of the whole text in bytes follows.
///
/// The text is cut before it is escaped. To escape a kilobyte of unusual characters would take a router a tenth of a
/// millisecond, hundreds of times as long as to route a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    beginning: Box<str>,
    /// Length of the whole text, in bytes.
    length: usize,
}

impl Quoted {
    /// Quotes a text.
    pub fn new(text: &str) -> Self {
        let end = text.floor_char_boundary(MAX_QUOTED);
        Quoted { beginning: text[..end].into(), length: text.len() }
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quoted { beginning, length } = self;
        write!(f, "{beginning:?}")?;
        if beginning.len() < *length {
            write!(f, "… ({length} bytes)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_quoted_as_a_whole() {
        assert_eq!(Quoted::new("/a\n\"b").to_string(), r#""/a\n\"b""#);
        let longest = "x".repeat(MAX_QUOTED);
        assert_eq!(Quoted::new(&longest).to_string(), format!("{longest:?}"));
    }

    #[test]
    fn a_long_text_is_cut_before_it_is_escaped() {
        // 3 bytes each, and 8 when escaped.
        let quoted = Quoted::new(&"\u{e000}".repeat(100_000));
        assert_eq!(quoted.beginning.len(), 255);
        let expected = format!("\"{}\"… (300000 bytes)", r"\u{e000}".repeat(85));
        assert_eq!(quoted.to_string(), expected);
    }
}
