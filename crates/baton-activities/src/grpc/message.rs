//! Messages whose types are known only when they are sent: between JSON, Protobuf and the wire.
//!
//! JSON is that of Protobuf's own mapping, with two liberties it allows to readers: fields without presence are shown
//! with their defaults, and 64-bit integers are numbers, which are exact here.
//!
//! # Invariants
//! - What a server sends cannot grow without limit when it becomes JSON: its text is limited in bytes and in levels.

use std::io;

use baton_agent::DATA_DEPTH_MAX;
use baton_execution::{Fault, fault_type};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, ser::Formatter};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Messages of one method.
#[derive(Clone)]
pub(super) struct DynamicCodec {
    /// What the server sends.
    pub(super) output: MessageDescriptor,
}

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Sent;
    type Decoder = Received;

    fn encoder(&mut self) -> Sent {
        Sent
    }

    fn decoder(&mut self) -> Received {
        Received(self.output.clone())
    }
}

pub(super) struct Sent;

impl Encoder for Sent {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(format!("the message cannot be encoded: {error}")))
    }
}

pub(super) struct Received(MessageDescriptor);

impl Decoder for Received {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from).map_err(|error| {
            Status::internal(format!("the server sent something that is not a '{}': {error}", self.0.full_name()))
        })?;
        Ok(Some(message))
    }
}

/// A message from JSON; nothing (`null`) is the message without any field.
///
/// # Errors
/// A field that the message does not have, or has of another type.
pub(super) fn from_json(descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, Fault> {
    if value.is_null() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    DynamicMessage::deserialize(descriptor.clone(), value).map_err(|error| {
        let detail = format!("the arguments are no '{}': {error}", descriptor.full_name());
        Fault::new(fault_type::VALIDATION, 400, detail).non_retryable()
    })
}

/// A message as JSON; `left` is how many bytes of text it may still take, and is counted down.
pub(super) fn to_json(message: &DynamicMessage, left: &mut usize) -> Result<Value, Fault> {
    let options = SerializeOptions::new().stringify_64_bit_integers(false).skip_default_fields(false);
    let mut text = Limited { text: Vec::new(), left: *left };
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Levels { left: DATA_DEPTH_MAX });
    message.serialize_with_options(&mut serializer, &options).map_err(|error| unfit(&error))?;
    *left = text.left;
    serde_json::from_slice(&text.text).map_err(|error| unfit(&error))
}

fn unfit(error: &serde_json::Error) -> Fault {
    let (kind, status) = match error.io_error_kind() {
        Some(io::ErrorKind::FileTooLarge) => (fault_type::TOO_LARGE, 413),
        Some(_) => (fault_type::LIMIT, 400),
        None => (fault_type::VALIDATION, 400),
    };
    Fault::new(kind, status, format!("what the server sent cannot be shown as JSON: {error}")).non_retryable()
}

/// Text that does not become longer than it may.
struct Limited {
    text: Vec<u8>,
    left: usize,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than the limit for responses"))?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compact JSON that does not become deeper than it may: a message can hold another within itself (`Any`) any number
/// of times, and is unfolded only here.
struct Levels {
    left: usize,
}

impl Levels {
    fn enter(&mut self) -> io::Result<()> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| io::Error::other(format!("it is nested deeper than {DATA_DEPTH_MAX} levels")))?;
        Ok(())
    }
}

impl Formatter for Levels {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.left += 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.left += 1;
        writer.write_all(b"}")
    }
}
