//! How lists, tags and ids stand in columns.

use std::str::FromStr;

use prost::Message;
use proto::ids::{Digest, LeaseId};
use proto::v1;

use super::rows::{Row, unreadable};
use crate::matching::Tags;
use crate::store::{Error, Result};

macro_rules! list {
    ($name:ident of $item:ty) => {
        #[derive(Clone, PartialEq, Message)]
        pub(super) struct $name {
            #[prost(message, repeated, tag = "1")]
            pub list: Vec<$item>,
        }
    };
}

list!(Variables of v1::VariableValue);
list!(Parameters of v1::ParameterValue);
list!(Lines of v1::LogLine);
list!(Phases of v1::PhaseTiming);
list!(Unconfirmed of v1::UnconfirmedResource);
list!(Intended of v1::IntendedChange);

impl Lines {
    /// The bytes of a list of these lines, none of which is copied for it.
    pub(super) fn encoded<'l>(lines: impl Iterator<Item = &'l v1::LogLine> + Clone) -> Vec<u8> {
        let size = lines
            .clone()
            .map(|line| prost::encoding::message::encoded_len(1, line))
            .sum();
        let mut bytes = Vec::with_capacity(size);
        for line in lines {
            prost::encoding::message::encode(1, line, &mut bytes);
        }
        bytes
    }
}

/// A text column through a parser.
pub(super) fn word<T>(
    row: Row<'_>,
    index: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    parse(row.text(index)?).ok_or_else(|| unreadable(index, "word"))
}

/// A nullable text column through a parser.
pub(super) fn word_or_null<T>(
    row: Row<'_>,
    index: usize,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>> {
    match row.text_or_null(index)? {
        None => Ok(None),
        Some(text) => parse(text)
            .map(Some)
            .ok_or_else(|| unreadable(index, "word")),
    }
}

/// A text column that is an id.
pub(super) fn id<T: FromStr>(row: Row<'_>, index: usize) -> Result<T> {
    word(row, index, |text| text.parse().ok())
}

/// A nullable blob column that is a lease id.
pub(super) fn lease(row: Row<'_>, index: usize) -> Result<Option<LeaseId>> {
    match row.bytes_or_null(index)? {
        None => Ok(None),
        Some(bytes) => LeaseId::try_from(bytes)
            .map(Some)
            .map_err(|_| unreadable(index, "lease")),
    }
}

/// A blob column that is a digest.
pub(crate) fn digest(row: Row<'_>, index: usize) -> Result<Digest> {
    let bytes = row.bytes_or_null(index)?.unwrap_or_default();
    Digest::try_from(bytes).map_err(|_| unreadable(index, "digest"))
}

/// A blob column that is a message; NULL is the empty one.
pub(super) fn message<M: Message + Default>(row: Row<'_>, index: usize) -> Result<M> {
    Ok(message_or_null(row, index)?.unwrap_or_default())
}

/// A nullable blob column that is a message.
pub(super) fn message_or_null<M: Message + Default>(
    row: Row<'_>,
    index: usize,
) -> Result<Option<M>> {
    match row.bytes_or_null(index)? {
        None => Ok(None),
        Some(bytes) => M::decode(bytes)
            .map(Some)
            .map_err(|_| unreadable(index, "message")),
    }
}

/// A text column that holds tags.
pub(super) fn tags(row: Row<'_>, index: usize) -> Result<Tags> {
    word(row, index, |text| serde_json::from_str(text).ok())
}

/// Tags as canonical JSON: keys sorted, so that equal sets are equal texts.
pub(super) fn tags_json(tags: &Tags) -> String {
    serde_json::to_string(tags).expect("invariant: a map of strings is JSON")
}

/// An unsigned number as SQL's signed one.
pub(super) fn signed(value: u64, what: &'static str) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::Invalid {
        what: format!("{what} {value} is too large"),
    })
}

/// A stored count; the schema holds no negative ones.
pub(super) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
