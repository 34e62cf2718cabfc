//! What a device asks: from the wire message to a checked value. Every bound of a field is here,
//! so that nothing behind this point asks whether a value is valid.

use crate::elements;
use crate::error::Refusal;
use crate::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, Sequence, UserId,
};
use crate::limits;
use crate::wire::{self, ErrorCode, client_frame::Body, send::Content};
use bytes::Bytes;
use prost::{DecodeError, Message};

/// A frame of a device, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientRequest {
    /// 0 for notices.
    pub request_id: u32,
    /// It is a Hello, good or not.
    pub is_hello: bool,
    /// What it asks, or why it cannot be.
    pub body: Result<Request, Refusal>,
}

/// What a device may ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The first frame.
    Hello(Hello),
    /// A new token on the open connection.
    Refresh {
        /// The JWT.
        token: String,
    },
    /// A write to a conversation.
    Send(Send),
    /// Entries changed since a cursor.
    Sync {
        /// A change number; 0 for everything.
        cursor: u64,
        /// Entries at most, 1 to 500.
        limit: usize,
    },
    /// A page of a conversation.
    History(History),
    /// Notice: this device holds everything up to these.
    Delivered(Vec<Mark>),
    /// Notice: the person saw everything up to these.
    Read(Vec<Mark>),
    /// Notice: foreground, background, or about to be suspended.
    Activity(wire::ActivityState),
    /// A notice this server does not know, or does not act on: ignored.
    IgnoredNotice,
}

/// The first frame of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who it claims to be.
    pub credential: Credential,
    /// The device's own id, unless the token names one.
    pub device: Option<DeviceId>,
    /// Counted by the device.
    pub connection_number: ConnectionNumber,
    /// The app itself, or a notification extension.
    pub role: wire::Role,
    /// Foreground or background.
    pub activity: wire::ActivityState,
    /// For the operator.
    pub client: String,
}

/// What proves who the user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A JWT.
    Token(String),
    /// A resume ticket.
    Ticket(Bytes),
}

/// Which conversation a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By its id.
    Conversation(ConversationId),
    /// The direct conversation with a user.
    User(UserId),
}

/// A write to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Where to.
    pub target: Target,
    /// Names this write for ever.
    pub client_message_id: ClientMessageId,
    /// Its number on this device in this conversation.
    pub client_sequence: ClientSequence,
    /// The newest record the device held.
    pub seen: Sequence,
    /// What of it does not count.
    pub seen_uncounted: u64,
    /// May open a direct conversation.
    pub first: bool,
    /// The record it replies to; 0 for none.
    pub reply_to: Sequence,
    /// The message, opaque.
    pub body: Bytes,
}

/// A watermark of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The conversation.
    pub conversation: ConversationId,
    /// Everything up to it.
    pub seq: Sequence,
    /// What of it does not count (Read only).
    pub uncounted: u64,
}

/// A page of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Which conversation.
    pub target: Target,
    /// From where, and in which direction.
    pub from: HistoryFrom,
    /// Messages at most, 1 to 100.
    pub limit: usize,
}

/// Where a page of history starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// The newest, newest first.
    Newest,
    /// Below this seq, newest first.
    Before(Sequence),
    /// Above this seq, oldest first.
    After(Sequence),
}

/// Decodes the content of a frame. The outer error ends the connection, the inner one answers the
/// request. Memory for elements of repeated fields is taken only after they were counted.
///
/// # Errors
/// [`ErrorCode::ErrorMalformedFrame`] when it is not the protobuf message it should be.
pub fn decode(content: &[u8]) -> Result<ClientRequest, Refusal> {
    let malformed = |_: DecodeError| {
        Refusal::new(ErrorCode::ErrorMalformedFrame, "the frame is not a ClientFrame")
    };
    let elements = elements::count(content, limits::ELEMENTS_MAX).map_err(malformed)?;
    if elements.too_many {
        let body = Err(invalid("the repeated fields of a frame have at most 1024 elements"));
        return Ok(ClientRequest { request_id: elements.request_id, is_hello: false, body });
    }
    let frame = wire::ClientFrame::decode(content).map_err(malformed)?;
    let request_id = frame.request_id;
    let is_hello = matches!(frame.body, Some(Body::Hello(_)));
    Ok(ClientRequest { request_id, is_hello, body: check(request_id, frame.body) })
}

fn check(request_id: u32, body: Option<Body>) -> Result<Request, Refusal> {
    let notice = matches!(
        body,
        Some(
            Body::Delivered(_)
                | Body::Read(_)
                | Body::Activity(_)
                | Body::Typing(_)
                | Body::WatchPresence(_)
                | Body::WatchChannel(_)
        )
    );
    if request_id == 0 && !notice {
        // What has no id cannot be answered: an unknown notice of a newer app is ignored, a
        // known request without an id is a mistake the connection is told of.
        return body.map_or(Ok(Request::IgnoredNotice), |_| {
            Err(invalid("request_id is 0, which only notices may have"))
        });
    }
    match body {
        Some(Body::Hello(hello)) => check_hello(hello).map(Request::Hello),
        Some(Body::Refresh(refresh)) => {
            check_token(&refresh.token)?;
            Ok(Request::Refresh { token: refresh.token })
        }
        Some(Body::Send(send)) => check_send(send).map(Request::Send),
        Some(Body::Sync(sync)) => check_sync(&sync),
        Some(Body::History(history)) => check_history(&history).map(Request::History),
        Some(Body::Delivered(delivered)) => check_marks(&delivered.marks).map(Request::Delivered),
        Some(Body::Read(read)) => check_marks(&read.marks).map(Request::Read),
        Some(Body::Activity(activity)) => wire::ActivityState::try_from(activity.state)
            .map(Request::Activity)
            .map_err(|_| invalid("activity.state is not a state")),
        Some(Body::Typing(_) | Body::WatchPresence(_) | Body::WatchChannel(_)) => {
            Ok(Request::IgnoredNotice)
        }
        Some(_) | None => Err(Refusal::new(
            ErrorCode::ErrorUnimplemented,
            "this server does not know or not yet serve this request",
        )),
    }
}

const fn invalid(text: &'static str) -> Refusal {
    Refusal::new(ErrorCode::ErrorInvalidRequest, text)
}

fn check_token(token: &str) -> Result<(), Refusal> {
    if token.len() > limits::TOKEN_MAX_BYTES {
        return Err(Refusal::new(ErrorCode::ErrorTokenTooLong, "a token has at most 4096 bytes"));
    }
    if token.is_empty() {
        return Err(Refusal::new(ErrorCode::ErrorTokenMalformed, "the token is empty"));
    }
    Ok(())
}

fn check_hello(hello: wire::Hello) -> Result<Hello, Refusal> {
    let credential = match (hello.token.is_empty(), hello.ticket.is_empty()) {
        (false, true) => {
            check_token(&hello.token)?;
            Credential::Token(hello.token)
        }
        (true, false) if hello.ticket.len() <= limits::TICKET_MAX_BYTES => {
            Credential::Ticket(hello.ticket)
        }
        (true, false) => {
            return Err(Refusal::new(
                ErrorCode::ErrorTicketInvalid,
                "a ticket has at most 512 bytes",
            ));
        }
        (true, true) | (false, false) => {
            return Err(invalid("hello carries exactly one of token and ticket"));
        }
    };
    let device = match hello.device.len() {
        0 => None,
        _ => Some(
            <[u8; 16]>::try_from(hello.device.as_ref())
                .map(DeviceId)
                .map_err(|_| invalid("hello.device has 16 bytes"))?,
        ),
    };
    if hello.connection_number == 0 {
        return Err(invalid("hello.connection_number starts at 1"));
    }
    if hello.client.len() > limits::CLIENT_NAME_MAX_BYTES {
        return Err(invalid("hello.client has at most 128 bytes"));
    }
    Ok(Hello {
        credential,
        device,
        connection_number: ConnectionNumber(hello.connection_number),
        role: wire::Role::try_from(hello.role).map_err(|_| invalid("hello.role is not a role"))?,
        activity: wire::ActivityState::try_from(hello.activity)
            .map_err(|_| invalid("hello.activity is not a state"))?,
        client: hello.client,
    })
}

fn check_conversation(id: &[u8]) -> Result<ConversationId, Refusal> {
    ConversationId::from_slice(id).ok_or(invalid("a conversation id has 16 bytes"))
}

fn check_target(conversation: &[u8], user: &str) -> Result<Target, Refusal> {
    match (conversation.is_empty(), user.is_empty()) {
        (false, true) => check_conversation(conversation).map(Target::Conversation),
        (true, false) => UserId::new(user)
            .map(Target::User)
            .map_err(|_| invalid("user is 1 to 64 bytes of UTF-8 without control characters")),
        (true, true) | (false, false) => {
            Err(invalid("the request names exactly one of conversation and user"))
        }
    }
}

fn check_send(send: wire::Send) -> Result<Send, Refusal> {
    let target = check_target(&send.conversation, &send.user)?;
    if send.client_message_id == 0 {
        return Err(invalid("client_message_id is 64 random bits, never 0"));
    }
    if send.client_sequence == 0 {
        return Err(invalid("client_sequence starts at 1"));
    }
    if send.seen_uncounted > send.seen {
        return Err(invalid("seen_uncounted is at most seen"));
    }
    let body = match send.content {
        Some(Content::Body(body)) if body.len() <= limits::BODY_MAX_BYTES => body,
        Some(Content::Body(_)) => {
            return Err(Refusal::new(ErrorCode::ErrorTooLarge, "a body has at most 65536 bytes"));
        }
        Some(_) => {
            return Err(Refusal::new(
                ErrorCode::ErrorUnimplemented,
                "this server does not yet take this kind of content",
            ));
        }
        None => return Err(invalid("send has no content")),
    };
    Ok(Send {
        target,
        client_message_id: ClientMessageId(send.client_message_id),
        client_sequence: ClientSequence(send.client_sequence),
        seen: Sequence(send.seen),
        seen_uncounted: send.seen_uncounted,
        first: send.first,
        reply_to: Sequence(send.reply_to),
        body,
    })
}

fn check_sync(sync: &wire::Sync) -> Result<Request, Refusal> {
    let limit = match usize::try_from(sync.limit) {
        Ok(0) => limits::SYNC_PAGE_MAX,
        Ok(limit) if limit <= limits::SYNC_PAGE_MAX => limit,
        Ok(_) | Err(_) => return Err(invalid("sync.limit is at most 500")),
    };
    Ok(Request::Sync { cursor: sync.cursor, limit })
}

fn check_history(history: &wire::History) -> Result<History, Refusal> {
    let target = check_target(&history.conversation, &history.user)?;
    if history.before_time_ms != 0 || history.after_time_ms != 0 {
        return Err(Refusal::new(
            ErrorCode::ErrorUnimplemented,
            "this server does not yet page by time",
        ));
    }
    let from = match (history.before, history.after) {
        (None, None) => HistoryFrom::Newest,
        (Some(before), None) => HistoryFrom::Before(Sequence(before)),
        (None, Some(after)) => HistoryFrom::After(Sequence(after)),
        (Some(_), Some(_)) => return Err(invalid("history has at most one of before and after")),
    };
    let limit = match history.limit.map(usize::try_from) {
        None => limits::HISTORY_PAGE_DEFAULT,
        Some(Ok(limit)) if (1..=limits::HISTORY_PAGE_MAX).contains(&limit) => limit,
        Some(_) => return Err(invalid("history.limit is 1 to 100")),
    };
    Ok(History { target, from, limit })
}

fn check_marks(marks: &[wire::Mark]) -> Result<Vec<Mark>, Refusal> {
    if marks.len() > limits::MARKS_MAX {
        return Err(invalid("a notice names at most 256 conversations"));
    }
    marks
        .iter()
        .map(|mark| {
            if mark.uncounted > mark.seq {
                return Err(invalid("uncounted is at most seq"));
            }
            Ok(Mark {
                conversation: check_conversation(&mark.conversation)?,
                seq: Sequence(mark.seq),
                uncounted: mark.uncounted,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request_id: u32, body: Body) -> Result<Request, Refusal> {
        let frame = wire::ClientFrame { request_id, body: Some(body) };
        decode(&frame.encode_to_vec()).unwrap().body
    }

    fn code(result: Result<Request, Refusal>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn garbage_is_not_a_frame() {
        assert_eq!(decode(&[0xff, 0xff]).unwrap_err().code, ErrorCode::ErrorMalformedFrame);
    }

    #[test]
    fn an_unknown_request_is_unimplemented_and_an_unknown_notice_ignored() {
        // Field 999, length-delimited, empty.
        let unknown = [0xba, 0x3e, 0x00];
        assert_eq!(decode(&unknown).unwrap().body, Ok(Request::IgnoredNotice));
        let with_id = [&[0x08, 0x07], &unknown[..]].concat();
        let decoded = decode(&with_id).unwrap();
        assert_eq!(decoded.request_id, 7);
        assert_eq!(decoded.body.unwrap_err().code, ErrorCode::ErrorUnimplemented);
    }

    #[test]
    fn history_limits_are_one_to_a_hundred() {
        let ask = |limit| {
            asked(
                1,
                Body::History(wire::History {
                    conversation: Bytes::from_static(&[0; 16]),
                    limit,
                    ..wire::History::default()
                }),
            )
        };
        assert_eq!(code(ask(Some(0))), ErrorCode::ErrorInvalidRequest);
        assert_eq!(code(ask(Some(1_000_000_000))), ErrorCode::ErrorInvalidRequest);
        let Ok(Request::History(history)) = ask(None) else { panic!("refused") };
        assert_eq!((history.limit, history.from), (50, HistoryFrom::Newest));
    }

    #[test]
    fn bodies_and_ids_are_bounded() {
        let send = |change: fn(&mut wire::Send)| {
            let mut send = wire::Send {
                conversation: Bytes::from_static(&[0; 16]),
                client_message_id: 1,
                client_sequence: 1,
                content: Some(Content::Body(Bytes::from_static(b"hello"))),
                ..wire::Send::default()
            };
            change(&mut send);
            asked(1, Body::Send(send))
        };
        assert!(send(|_| ()).is_ok());
        let long = |s: &mut wire::Send| s.content = Some(Content::Body(vec![0; 65_537].into()));
        assert_eq!(code(send(long)), ErrorCode::ErrorTooLarge);
        assert_eq!(code(send(|s| s.client_message_id = 0)), ErrorCode::ErrorInvalidRequest);
        assert_eq!(code(send(|s| s.client_sequence = 0)), ErrorCode::ErrorInvalidRequest);
        assert_eq!(code(send(|s| s.conversation = Bytes::new())), ErrorCode::ErrorInvalidRequest);
        assert_eq!(code(send(|s| s.user = "bob".into())), ErrorCode::ErrorInvalidRequest);
        let long_user = |s: &mut wire::Send| {
            s.conversation = Bytes::new();
            s.user = "b".repeat(65);
        };
        assert_eq!(code(send(long_user)), ErrorCode::ErrorInvalidRequest);
        assert_eq!(code(send(|s| s.content = None)), ErrorCode::ErrorInvalidRequest);
    }

    #[test]
    fn a_hello_is_one_even_when_it_is_wrong() {
        let hello = |connection_number| wire::Hello {
            token: "t".into(),
            connection_number,
            ..wire::Hello::default()
        };
        let decoded = |request_id, body| {
            let frame = wire::ClientFrame { request_id, body: Some(body) };
            decode(&frame.encode_to_vec()).unwrap()
        };
        for (request_id, number, good) in [(1, 1, true), (1, 0, false), (0, 1, false)] {
            let decoded = decoded(request_id, Body::Hello(hello(number)));
            assert_eq!((decoded.is_hello, decoded.body.is_ok()), (true, good));
        }
        assert!(!decoded(1, Body::Sync(wire::Sync::default())).is_hello);
    }

    #[test]
    fn a_request_without_an_id_is_a_mistake() {
        let sync = Body::Sync(wire::Sync::default());
        assert_eq!(code(asked(0, sync)), ErrorCode::ErrorInvalidRequest);
    }
}
