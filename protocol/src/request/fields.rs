//! Checks of single fields. Each error says which field, and its bound.

use super::Target;
use crate::error::Refusal;
use crate::ids::{ConversationId, DeviceId, KeyKind, Sequence, UserId};
use crate::limits;
use crate::wire::ErrorCode;
use bytes::Bytes;

/// The bounds of a list of users, and what is said when they are not kept.
pub(super) struct UserList {
    pub(super) most: usize,
    pub(super) count: &'static str,
    pub(super) id: &'static str,
    pub(super) twice: &'static str,
}

/// A [`UserList`] with its texts, made of the field's name and its bounds in words.
macro_rules! user_list {
    ($field:literal, $bounds:literal, $most:expr) => {
        $crate::request::fields::UserList {
            most: $most,
            count: concat!($field, " names ", $bounds),
            id: concat!($field, ": a user id is 1 to 64 bytes without control characters"),
            twice: concat!($field, " names a user twice"),
        }
    };
}
pub(super) use user_list;

/// The bounds of a text that people read.
pub(super) struct TextBounds {
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) length: &'static str,
    pub(super) control: &'static str,
}

/// A [`TextBounds`] with what is said when its bounds are not kept.
macro_rules! text_bounds {
    ($field:literal, $bounds:literal, $least:expr, $most:expr) => {
        $crate::request::fields::TextBounds {
            least: $least,
            most: $most,
            length: concat!($field, " has ", $bounds),
            control: concat!($field, " has no control characters"),
        }
    };
}
pub(super) use text_bounds;

pub(super) const fn invalid(text: &'static str) -> Refusal {
    Refusal::new(ErrorCode::ErrorInvalidRequest, text)
}

pub(super) fn conversation(id: &[u8]) -> Result<ConversationId, Refusal> {
    ConversationId::from_slice(id).ok_or(invalid("a conversation id has 16 bytes"))
}

/// A conversation of one of these kinds.
pub(super) fn conversation_of(
    id: &[u8],
    kinds: &[KeyKind],
    otherwise: &'static str,
) -> Result<ConversationId, Refusal> {
    let id = conversation(id)?;
    if kinds.contains(&id.kind()) { Ok(id) } else { Err(invalid(otherwise)) }
}

pub(super) fn target(conversation: &[u8], user: &str) -> Result<Target, Refusal> {
    match (conversation.is_empty(), user.is_empty()) {
        (false, true) => self::conversation(conversation).map(Target::Conversation),
        (true, false) => {
            self::user(user, "user is 1 to 64 bytes of UTF-8 without control characters")
                .map(Target::User)
        }
        (true, true) | (false, false) => {
            Err(invalid("the request names exactly one of conversation and user"))
        }
    }
}

pub(super) fn user(id: &str, otherwise: &'static str) -> Result<UserId, Refusal> {
    UserId::new(id).map_err(|_| invalid(otherwise))
}

/// At least one user, at most as many as the list may have, none twice.
pub(super) fn users(ids: &[String], list: &UserList) -> Result<Vec<UserId>, Refusal> {
    if ids.is_empty() {
        return Err(invalid(list.count));
    }
    users_or_none(ids, list)
}

/// As [`users`], but there may be none.
pub(super) fn users_or_none(ids: &[String], list: &UserList) -> Result<Vec<UserId>, Refusal> {
    if ids.len() > list.most {
        return Err(invalid(list.count));
    }
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(invalid(list.twice));
    }
    ids.iter().map(|id| user(id, list.id)).collect()
}

pub(super) fn device(id: &[u8], otherwise: &'static str) -> Result<DeviceId, Refusal> {
    <[u8; 16]>::try_from(id).map(DeviceId).map_err(|_| invalid(otherwise))
}

pub(super) const fn seq(seq: u64, otherwise: &'static str) -> Result<Sequence, Refusal> {
    if seq == 0 { Err(invalid(otherwise)) } else { Ok(Sequence(seq)) }
}

/// What is said about a body that is too long; one place, for it is checked in two.
pub(super) const BODY_TOO_LARGE: Refusal =
    Refusal::new(ErrorCode::ErrorTooLarge, "a body has at most 65536 bytes");

pub(super) fn body(body: Bytes) -> Result<Bytes, Refusal> {
    if body.len() > limits::BODY_MAX_BYTES { Err(BODY_TOO_LARGE) } else { Ok(body) }
}

/// How many of a list: 0 means as many as there may be.
pub(super) fn limit(limit: u32, most: usize, otherwise: &'static str) -> Result<usize, Refusal> {
    match usize::try_from(limit) {
        Ok(0) => Ok(most),
        Ok(limit) if limit <= most => Ok(limit),
        Ok(_) | Err(_) => Err(invalid(otherwise)),
    }
}

pub(super) fn text(value: String, bounds: &TextBounds) -> Result<String, Refusal> {
    if !(bounds.least..=bounds.most).contains(&value.len()) {
        return Err(invalid(bounds.length));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(bounds.control));
    }
    Ok(value)
}
