//! Routing heads: the fields that a router reads of the messages that it forwards.
//!
//! A [`CallHead`], [`ReplyHead`], [`DataHead`] or [`BroadcastHead`] borrows its strings from the encoded message and does
//! not touch the payload. It has the values that any protobuf decoder finds: the last one of a repeated field counts, and
//! a message with text that is not UTF-8 is refused.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::extension;
use crate::frame::Body;
use crate::kind::MessageKind;
use crate::messages::CallReplyType;
use crate::violation::Violation;
use crate::wire::{MAX_TEXT, Record, Records, Value, WireError, varint_len, write_varint};

/// A string field that can be replaced in the encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The value; empty if the field is absent.
    pub text: &'a str,
    number: u32,
    /// Where the field's record is in the message.
    range: Option<Range<u32>>,
}

impl<'a> Field<'a> {
    fn absent(number: u32) -> Self {
        Field { text: "", number, range: None }
    }

    #[inline(always)]
    fn read(record: &Record<'a>, left: &mut usize) -> Result<Self, WireError> {
        let (number, range) = (record.field, Some(record.start as u32..record.end as u32));
        Ok(Field { text: record.value.text(number, left)?, number, range })
    }

    /// Replaces the value in `message`, from which the field was read. Does not copy the rest of the message.
    pub fn replace_in(&self, message: &Bytes, text: &str) -> Body {
        // Of a repeated field the last one counts. An absent one is appended.
        let end = message.len();
        let range =
            self.range.as_ref().map_or(end..end, |range| range.start as usize..range.end as usize);
        let key = u64::from(self.number << 3 | 2);
        let length = text.len() as u64;
        let mut record = BytesMut::with_capacity(varint_len(key) + varint_len(length) + text.len());
        write_varint(key, &mut record);
        write_varint(length, &mut record);
        record.put_slice(text.as_bytes());
        Body::Spliced(Box::new([
            message.slice(..range.start),
            record.freeze(),
            message.slice(range.end..),
        ]))
    }
}

/// The routing head of a `CallRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHead<'a> {
    /// The caller's name, as the caller states it.
    pub caller: &'a str,
    /// The address that is called.
    pub address: &'a str,
    /// The id that the sender chose for the call.
    pub request_id: Field<'a>,
    /// Whether the caller wants no reply.
    pub no_reply: bool,
    /// How the caller steers the call.
    pub steering: Steering<'a>,
}

/// The extension fields of a `CallRequest` that a router reads. An ordinary call has none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steering<'a> {
    /// For how long the caller waits, in milliseconds; 0 is for ever.
    pub timeout_ms: u32,
    /// Whether the replies need credit: `reply_credit` is not 0.
    pub has_reply_credit: bool,
    /// Whether more data of the request follows.
    pub more: bool,
    /// Calls with the same text go to the same owner of the name; empty for any owner.
    pub affinity: &'a str,
}

/// The routing head of a `CallReply`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead<'a> {
    /// The id of the answered call.
    pub request_id: Field<'a>,
    /// Whether this reply ends the call: its type is not PARTIAL.
    pub is_last: bool,
}

/// The routing head of a `CallData`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataHead<'a> {
    /// The id of the call.
    pub request_id: Field<'a>,
    /// Whether this is the last data of the request.
    pub end: bool,
}

/// The routing head of a `BroadcastRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BroadcastHead<'a> {
    /// The sender's name, as the sender states it.
    pub caller: &'a str,
    /// The topic, which may be a pattern.
    pub topic: &'a str,
    /// Whether the message has the field `missed`. Only the router may set it.
    pub has_missed: bool,
}

impl<'a> CallHead<'a> {
    /// Field number of `request_id`.
    const REQUEST_ID: u32 = 3;

    /// Reads the head of an encoded `CallRequest`.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if a protobuf decoder would refuse the message, or it has too much text (FR-12).
    #[inline(always)]
    pub fn read(message: &'a [u8]) -> Result<Self, Violation> {
        // Each in a variable of its own, which can be kept in a register.
        let (mut caller, mut address, mut no_reply) = ("", "", false);
        let mut request_id = Field::absent(Self::REQUEST_ID);
        let (mut steering, mut timeout_ms) = (Steering::default(), 0);
        for_each_record(MessageKind::CallRequest, message, |record, left, records| {
            let (field, value) = (record.field, record.value);
            match field {
                1 => caller = value.text(field, left)?,
                2 => address = value.text(field, left)?,
                Self::REQUEST_ID => request_id = Field::read(&record, left)?,
                4 => drop(value.bytes(field)?),
                5 => no_reply = value.varint(field)? != 0,
                // A uint32 is 32 bits wide; decoders drop what is above.
                extension::CALL_REQUEST_TIMEOUT_MS => timeout_ms = value.varint(field)? as u32,
                extension::FIRST.. => {
                    let budget = Budget::of(*left, records);
                    let (read, budget) = read_steering(field, value, steering, budget)?;
                    steering = read;
                    budget.store(left, records);
                }
                _ => {}
            }
            Ok(())
        })?;
        steering.timeout_ms = timeout_ms;
        Ok(CallHead { caller, address, request_id, no_reply, steering })
    }
}

impl<'a> ReplyHead<'a> {
    /// Field number of `request_id`.
    const REQUEST_ID: u32 = 1;

    /// Reads the head of an encoded `CallReply`.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if a protobuf decoder would refuse the message, or it has too much text (FR-12).
    #[inline(always)]
    pub fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut head = ReplyHead { request_id: Field::absent(Self::REQUEST_ID), is_last: true };
        for_each_record(MessageKind::CallReply, message, |record, left, records| {
            let (field, value) = (record.field, record.value);
            match field {
                Self::REQUEST_ID => head.request_id = Field::read(&record, left)?,
                2 => drop(value.varint(field)?),
                // An enum is 32 bits wide; decoders drop what is above.
                3 => head.is_last = value.varint(field)? as i32 != CallReplyType::Partial as i32,
                4 => drop(value.bytes(field)?),
                extension::CALL_REPLY_REASON => drop(value.varint(field)?),
                extension::CALL_REPLY_HEADERS => {
                    let header = value.bytes(field)?;
                    read_header(header, Budget::of(*left, records))?.store(left, records);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(head)
    }
}

impl<'a> DataHead<'a> {
    /// Field number of `request_id`.
    const REQUEST_ID: u32 = 1;

    /// Reads the head of an encoded `CallData`.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if a protobuf decoder would refuse the message, or it has too much text (FR-12).
    pub fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut head = DataHead { request_id: Field::absent(Self::REQUEST_ID), end: false };
        for_each_record(MessageKind::CallData, message, |record, left, _| {
            let (field, value) = (record.field, record.value);
            match field {
                Self::REQUEST_ID => head.request_id = Field::read(&record, left)?,
                2 => drop(value.bytes(field)?),
                3 => head.end = value.varint(field)? != 0,
                _ => {}
            }
            Ok(())
        })?;
        Ok(head)
    }
}

impl<'a> BroadcastHead<'a> {
    /// Reads the head of an encoded `BroadcastRequest`.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if a protobuf decoder would refuse the message, or it has too much text (FR-12).
    pub fn read(message: &'a [u8]) -> Result<Self, Violation> {
        let mut head = BroadcastHead::default();
        for_each_record(MessageKind::BroadcastRequest, message, |record, left, records| {
            let (field, value) = (record.field, record.value);
            match field {
                1 => head.caller = value.text(field, left)?,
                2 => drop(value.bytes(field)?),
                3 => head.topic = value.text(field, left)?,
                extension::BROADCAST_REQUEST_MISSED => {
                    value.varint(field)?;
                    head.has_missed = true;
                }
                extension::BROADCAST_REQUEST_HEADERS => {
                    let header = value.bytes(field)?;
                    read_header(header, Budget::of(*left, records))?.store(left, records);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(head)
    }

    /// Sets the field `missed` of an encoded `BroadcastRequest`. Does not copy the payload.
    pub fn with_missed(message: &Bytes, missed: u64) -> Body {
        let key = u64::from(extension::BROADCAST_REQUEST_MISSED << 3);
        let mut record = BytesMut::with_capacity(varint_len(key) + varint_len(missed));
        write_varint(key, &mut record);
        write_varint(missed, &mut record);
        // Of a repeated field the last one counts.
        Body::Spliced(Box::new([message.clone(), record.freeze(), Bytes::new()]))
    }
}

/// How much text and how many fields a message may still have. Passed by value: if the functions for rare fields got
/// references, the loop over the common fields would keep its state in memory, and every call would take longer.
#[derive(Debug, Clone, Copy)]
struct Budget {
    text: usize,
    fields: usize,
}

impl Budget {
    fn of(text: usize, records: &Records<'_>) -> Self {
        Budget { text, fields: records.left() }
    }

    fn store(self, text: &mut usize, records: &mut Records<'_>) {
        *text = self.text;
        records.set_left(self.fields);
    }
}

/// Reads one of the fields that steer a call. `steering` has the values of the fields before it.
#[inline(never)]
fn read_steering<'a>(
    field: u32,
    value: Value<'a>,
    mut steering: Steering<'a>,
    mut budget: Budget,
) -> Result<(Steering<'a>, Budget), WireError> {
    match field {
        extension::CALL_REQUEST_HEADERS => budget = read_header(value.bytes(field)?, budget)?,
        extension::CALL_REQUEST_REPLY_CREDIT => {
            steering.has_reply_credit = value.varint(field)? != 0
        }
        extension::CALL_REQUEST_MORE => steering.more = value.varint(field)? != 0,
        extension::CALL_REQUEST_AFFINITY => {
            steering.affinity = value.text(field, &mut budget.text)?
        }
        _ => {}
    }
    Ok((steering, budget))
}

/// Checks a header, which is for the ends of a call: a decoder accepts it, and its name and value count as text.
#[inline(never)]
fn read_header(header: &[u8], mut budget: Budget) -> Result<Budget, WireError> {
    let mut records = Records::nested(header, budget.fields);
    while let Some(record) = records.next()? {
        match record.field {
            1 => drop(record.value.text(1, &mut budget.text)?),
            2 => {
                let length = record.value.bytes(2)?.len();
                budget.text = budget.text.checked_sub(length).ok_or(WireError::TooMuchText)?;
            }
            _ => {}
        }
    }
    Ok(Budget { fields: records.left(), ..budget })
}

/// Calls `take` with each record of an encoded message, with how much text may still follow, and with the records that
/// follow.
#[inline(always)]
fn for_each_record<'a>(
    kind: MessageKind,
    message: &'a [u8],
    mut take: impl FnMut(Record<'a>, &mut usize, &mut Records<'a>) -> Result<(), WireError>,
) -> Result<(), Violation> {
    let mut records = Records::new(message);
    let mut left = MAX_TEXT;
    loop {
        let taken = match records.next() {
            Ok(Some(record)) => take(record, &mut left, &mut records),
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            return Err(Violation::malformed(kind, error));
        }
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
