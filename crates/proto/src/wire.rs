//! Reads protobuf fields in place, without decoding the message that contains them.
//!
//! These functions accept and refuse exactly what prost accepts and refuses. Otherwise a peer could make the router
//! read another value of a field than the service behind it. Tests of [`head`](crate::head) compare the two on
//! arbitrary bytes.

/// How deep groups may nest in a skipped field. prost allows 100 levels, and the `Packet` around a message takes one of
/// them. A message must be valid in both framings, whichever it came in: a service that cannot decode a forwarded
/// message closes its connection.
const RECURSION_LIMIT: u32 = 99;

/// How many fields a message may have, those in groups included (rule FR-11). Real messages have far fewer. prost has
/// no limit of its own, and reads 65,536 fields in a millisecond, during which a router routes thousands of calls.
pub const MAX_FIELDS: usize = 4096;

/// How many fields a router may add to a message that it forwards, such as another request id.
pub(crate) const ADDED_FIELDS: usize = 8;

/// How much text (names, ids, the caller) a message with a payload may have, in bytes (rule FR-12). The router spends
/// time on each of them.
pub const MAX_TEXT: usize = 64 << 10;

/// How long a message without a payload, or a `Packet` with several messages, may be, in bytes (rule FR-12).
pub const MAX_PLAIN: usize = 256 << 10;

/// Why a message is refused: it is not valid protobuf, or exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field extends past the end of the message.
    #[error("it ends in the middle of a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("it contains a number of more than 64 bits")]
    InvalidVarint,
    /// A field key with number 0, a number over 2^29 - 1, or an unknown wire type.
    #[error("it contains an invalid field key")]
    InvalidKey,
    /// A known field with the wire type of another kind of value.
    #[error("field {0} has the wrong type")]
    WrongType(u32),
    /// A string field that is not UTF-8.
    #[error("field {0} is not UTF-8")]
    NotUtf8(u32),
    /// More fields than [`MAX_FIELDS`].
    #[error("it has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// More text than [`MAX_TEXT`].
    #[error("it has more than {MAX_TEXT} bytes of text")]
    TooMuchText,
    /// A message without a payload, or a `Packet` with several messages, that is longer than [`MAX_PLAIN`].
    #[error("it has more than {MAX_PLAIN} bytes")]
    TooLong,
    /// A group that ends without a beginning, or is nested too deep.
    #[error("it contains a group that is not closed, not opened, or nested too deep")]
    InvalidGroup,
}

/// The value of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a `bool` or an enum value.
    Varint(u64),
    /// Eight bytes, which are skipped.
    Fixed64,
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
    /// A group, which is skipped as a whole.
    Group,
    /// Four bytes, which are skipped.
    Fixed32,
}

impl<'a> Value<'a> {
    /// The value of a number, `bool` or enum field.
    ///
    /// # Errors
    /// [`WireError::WrongType`] if the value has another type; it names `field`.
    pub fn varint(self, field: u32) -> Result<u64, WireError> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(WireError::WrongType(field)),
        }
    }

    /// The value of a bytes, string or message field.
    ///
    /// # Errors
    /// [`WireError::WrongType`] if the value has another type; it names `field`.
    pub fn bytes(self, field: u32) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WrongType(field)),
        }
    }

    /// The value of a string field. Subtracts its length from `left`, the text that the message may still have.
    pub(crate) fn text(self, field: u32, left: &mut usize) -> Result<&'a str, WireError> {
        let bytes = self.bytes(field)?;
        *left = left.checked_sub(bytes.len()).ok_or(WireError::TooMuchText)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8(field))
    }
}

/// One encoded field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The field's number.
    pub field: u32,
    /// The field's value.
    pub value: Value<'a>,
    /// Where the record, key included, begins in the message, in bytes.
    pub start: usize,
    /// Where the record ends.
    pub end: usize,
}

/// Iterates over the top-level records of a message.
pub struct Records<'a> {
    message: &'a [u8],
    position: usize,
    /// How many more fields the message may have.
    left: usize,
    /// How deep groups may nest in a field.
    depth: u32,
}

impl<'a> Records<'a> {
    /// The records of an encoded message.
    pub fn new(message: &'a [u8]) -> Self {
        Records { message, position: 0, left: MAX_FIELDS, depth: RECURSION_LIMIT }
    }

    /// The records of a message that is the value of a field, and may have this many fields.
    pub(crate) fn nested(message: &'a [u8], left: usize) -> Self {
        Records { message, position: 0, left, depth: RECURSION_LIMIT - 1 }
    }

    /// How many more fields the message may have.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    pub(crate) fn set_left(&mut self, left: usize) {
        self.left = left;
    }

    /// Checks that a message has at most `most` fields. It does not check that the message is valid otherwise: the
    /// caller decodes it.
    pub(crate) fn check_count(message: &[u8], most: usize) -> Result<(), WireError> {
        // Each field takes two bytes at least.
        if message.len() < 2 * MAX_FIELDS {
            return Ok(());
        }
        Self::count(message, &mut { most }, |_, _| Ok(()))
    }

    /// Checks that a `Packet` of several messages has at most [`MAX_FIELDS`] fields, those of its messages included.
    pub(crate) fn check_nested_count(message: &[u8]) -> Result<(), WireError> {
        if message.len() < 2 * MAX_FIELDS {
            return Ok(());
        }
        Self::count(message, &mut { MAX_FIELDS }, |value, left| match value {
            Value::Bytes(part) => Self::count(part, left, |_, _| Ok(())),
            _ => Ok(()),
        })
    }

    fn count(
        message: &[u8],
        left: &mut usize,
        mut each: impl FnMut(Value<'_>, &mut usize) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut records = Records { left: *left, ..Records::new(message) };
        loop {
            match records.next() {
                Ok(Some(record)) => each(record.value, &mut records.left)?,
                Err(WireError::TooManyFields) => return Err(WireError::TooManyFields),
                Ok(None) | Err(_) => {
                    *left = records.left;
                    return Ok(());
                }
            }
        }
    }

    /// The next record, or `None` at the end of the message.
    ///
    /// # Errors
    /// What follows is not a valid record.
    #[allow(clippy::should_implement_trait)] // An iterator would go on after an error.
    #[inline(always)]
    pub fn next(&mut self) -> Result<Option<Record<'a>>, WireError> {
        let rest = &self.message[self.position..];
        let start = self.position;
        // The common case has a fast path: a bytes field with a number below 16 and fewer than 128 bytes.
        if let &[key @ 0x08..0x80, length @ 0..0x80, ref bytes @ ..] = rest
            && key & 7 == 2
            && self.left > 0
            && let Some(bytes) = bytes.get(..usize::from(length))
        {
            self.left -= 1;
            self.position = start + 2 + bytes.len();
            let (field, value) = (u32::from(key >> 3), Value::Bytes(bytes));
            return Ok(Some(Record { field, value, start, end: self.position }));
        }
        self.next_any()
    }

    #[inline(never)]
    fn next_any(&mut self) -> Result<Option<Record<'a>>, WireError> {
        if self.position == self.message.len() {
            return Ok(None);
        }
        let start = self.position;
        let (field, wire_type) = self.key()?;
        let value = self.value(field, wire_type, self.depth)?;
        Ok(Some(Record { field, value, start, end: self.position }))
    }

    fn key(&mut self) -> Result<(u32, u8), WireError> {
        self.left = self.left.checked_sub(1).ok_or(WireError::TooManyFields)?;
        let key = self.number()?;
        let key = u32::try_from(key).map_err(|_| WireError::InvalidKey)?;
        let (field, wire_type) = (key >> 3, (key & 7) as u8);
        if field == 0 || wire_type > 5 {
            return Err(WireError::InvalidKey);
        }
        Ok((field, wire_type))
    }

    fn value(&mut self, field: u32, wire_type: u8, depth: u32) -> Result<Value<'a>, WireError> {
        match wire_type {
            0 => Ok(Value::Varint(self.number()?)),
            1 => self.take(8).map(|_| Value::Fixed64),
            2 => {
                let length = self.number()?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                self.take(length).map(Value::Bytes)
            }
            3 => {
                self.skip_group(field, depth)?;
                Ok(Value::Group)
            }
            5 => self.take(4).map(|_| Value::Fixed32),
            _ => Err(WireError::InvalidGroup),
        }
    }

    /// Skips the rest of group `field`, its end included. The start has been read.
    fn skip_group(&mut self, field: u32, depth: u32) -> Result<(), WireError> {
        let depth = depth.checked_sub(1).ok_or(WireError::InvalidGroup)?;
        loop {
            let (inner, wire_type) = self.key()?;
            if wire_type == 4 {
                return if inner == field { Ok(()) } else { Err(WireError::InvalidGroup) };
            }
            // prost counts every field inside a group as one level, scalar or not.
            if depth == 0 {
                return Err(WireError::InvalidGroup);
            }
            self.value(inner, wire_type, depth)?;
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let rest = &self.message[self.position..];
        let taken = rest.get(..length).ok_or(WireError::Truncated)?;
        self.position += length;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, WireError> {
        let (value, length) = read_varint(&self.message[self.position..])?;
        self.position += length;
        Ok(value)
    }
}

/// Reads a varint at the start of `bytes`. Returns its value and its length in bytes.
///
/// # Errors
/// The bytes end within the varint, or it has more than 64 bits.
#[inline]
pub fn read_varint(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    match *bytes {
        [low @ 0..0x80, ..] => Ok((u64::from(low), 1)),
        [low, high @ 0..0x80, ..] => Ok((u64::from(low & 0x7f) | u64::from(high) << 7, 2)),
        _ => read_long_varint(bytes),
    }
}

fn read_long_varint(bytes: &[u8]) -> Result<(u64, usize), WireError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte holds the 64th bit and nothing else.
        if index == 9 && byte > 1 {
            return Err(WireError::InvalidVarint);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(WireError::Truncated)
}

/// Appends `value` as a varint.
pub fn write_varint(mut value: u64, out: &mut impl Extend<u8>) {
    while value >= 0x80 {
        out.extend([(value as u8 & 0x7f) | 0x80]);
        value >>= 7;
    }
    out.extend([value as u8]);
}

/// The length of `value` as a varint, in bytes.
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
