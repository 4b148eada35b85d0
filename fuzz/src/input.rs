//! Making sense of bytes, so that each of them counts: what libFuzzer changes should change something.

use arbitrary::{Arbitrary, Result, Unstructured};

/// What happens, one after the other, until there are no more bytes. A list by itself would end by chance.
#[derive(Debug)]
pub struct Script<T>(pub Vec<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Script<T> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let mut steps = Vec::new();
        while !input.is_empty() {
            // The last one may be incomplete.
            steps.extend(T::arbitrary(input));
        }
        Ok(Script(steps))
    }
}

/// A few bytes.
pub fn bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = usize::from(input.arbitrary::<u8>()? % 48);
    input.bytes(length.min(input.len()))
}

/// A few characters.
pub fn text<'a>(input: &mut Unstructured<'a>) -> Result<&'a str> {
    let bytes = bytes(input)?;
    let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Ok(valid)
}
