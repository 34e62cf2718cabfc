//! What a device asks: from the wire message to a checked value. Every bound of a field is here,
//! so that nothing behind this point asks whether a value is valid.
//!
//! What is visible from a conversation's id, its kind, is checked here too: a change of a group for
//! a direct conversation never reaches an actor.

mod asks;
mod check;
mod connect;
mod fields;
mod reading;
mod send;
mod simple;

pub use asks::{
    Ask, Ciphertext, Content, ConversationSettings, CreateGroup, DeviceVersion, GroupChange, Hint,
    PresenceOf, SetPrivacy, SignOut,
};

use crate::elements;
use crate::error::Refusal;
use crate::ids::{
    ClientMessageId, ClientSequence, ConnectionNumber, ConversationId, DeviceId, Sequence, UserId,
};
use crate::limits;
use crate::wire::{self, ErrorCode, client_frame::Body};
use bytes::Bytes;
use fields::invalid;
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
    /// Groups, lists, settings, devices, presence.
    Ask(Ask),
    /// Notice: typing, and what is watched.
    Hint(Hint),
    /// A notice this server does not know: ignored.
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
    /// What it says.
    pub content: Content,
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
    /// Said before this time (ms since 1970), newest first.
    BeforeTime(u64),
    /// Said at this time or later, oldest first.
    AfterTime(u64),
}

/// Decodes the content of a frame. The outer error ends the connection, the inner one answers the
/// request. Memory for elements of repeated fields is taken only after they were counted.
///
/// # Errors
/// [`ErrorCode::ErrorMalformedFrame`] when it is not the protobuf message it should be.
pub fn decode(content: &[u8]) -> Result<ClientRequest, Refusal> {
    simple::read(content).map_or_else(|| decode_any(content), Ok)
}

/// The way of every frame that is not simple.
fn decode_any(content: &[u8]) -> Result<ClientRequest, Refusal> {
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
    let Some(body) = body else {
        // What has no id cannot be answered, so an unknown notice of a newer app is ignored.
        return if request_id == 0 { Ok(Request::IgnoredNotice) } else { Err(unserved()) };
    };
    if request_id == 0 && !is_notice(&body) {
        return Err(invalid("request_id is 0, which only notices may have"));
    }
    meaning(body)
}

/// What a body means. One exhaustive match, so that a new request must be given a meaning.
fn meaning(body: Body) -> Result<Request, Refusal> {
    match body {
        Body::Hello(hello) => connect::hello(hello).map(Request::Hello),
        Body::Refresh(refresh) => connect::refresh(refresh),
        Body::Send(send) => send::send(send).map(Request::Send),
        Body::Sync(sync) => reading::sync(&sync),
        Body::History(history) => reading::history(&history).map(Request::History),
        Body::Delivered(delivered) => reading::marks(&delivered.marks).map(Request::Delivered),
        Body::Read(read) => reading::marks(&read.marks).map(Request::Read),
        Body::Activity(activity) => wire::ActivityState::try_from(activity.state)
            .map(Request::Activity)
            .map_err(|_| invalid("activity.state is not a state")),
        Body::Typing(typing) => check::typing(&typing).map(Request::Hint),
        Body::WatchPresence(watch) => check::watch_presence(&watch).map(Request::Hint),
        Body::WatchChannel(watch) => check::watch_channel(&watch).map(Request::Hint),
        Body::ListDevices(wire::ListDevices {}) => Ok(Request::Ask(Ask::ListDevices)),
        Body::RenameDevice(rename) => check::rename_device(rename).map(Request::Ask),
        Body::SignOut(sign_out) => check::sign_out(&sign_out).map(Request::Ask),
        Body::SetPrivacy(privacy) => check::set_privacy(&privacy).map(Request::Ask),
        Body::Block(block) => check::block(&block).map(Request::Ask),
        Body::ListBlocks(list) => check::list_blocks(&list).map(Request::Ask),
        Body::ListUserDevices(list) => check::list_user_devices(&list).map(Request::Ask),
        Body::ListConversations(list) => check::list_conversations(&list).map(Request::Ask),
        Body::SetConversation(set) => check::set_conversation(&set).map(Request::Ask),
        Body::DeleteForMe(delete) => check::delete_for_me(delete).map(Request::Ask),
        Body::AcceptRequest(accept) => check::accept_request(&accept).map(Request::Ask),
        Body::JoinChannel(join) => check::join_channel(&join).map(Request::Ask),
        Body::CreateGroup(create) => check::create_group(create).map(Request::Ask),
        Body::DescribeConversation(describe) => check::describe(&describe).map(Request::Ask),
        Body::ListMembers(list) => check::list_members(&list).map(Request::Ask),
        Body::ReceiptDetails(details) => check::receipt_details(&details).map(Request::Ask),
        Body::QueryPresence(query) => check::query_presence(&query).map(Request::Ask),
        Body::SetPushToken(_)
        | Body::SetQuietHours(_)
        | Body::PublishKeys(_)
        | Body::FetchKeys(_)
        | Body::CreateUpload(_)
        | Body::CreateDownload(_) => Err(unserved()),
    }
}

const fn is_notice(body: &Body) -> bool {
    matches!(
        body,
        Body::Delivered(_)
            | Body::Read(_)
            | Body::Activity(_)
            | Body::Typing(_)
            | Body::WatchPresence(_)
            | Body::WatchChannel(_)
    )
}

const fn unserved() -> Refusal {
    Refusal::new(
        ErrorCode::ErrorUnimplemented,
        "this server does not know or not yet serve this request",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::send::Content as WireContent;

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
                content: Some(WireContent::Body(Bytes::from_static(b"hello"))),
                ..wire::Send::default()
            };
            change(&mut send);
            asked(1, Body::Send(send))
        };
        assert!(send(|_| ()).is_ok());
        let long = |s: &mut wire::Send| s.content = Some(WireContent::Body(vec![0; 65_537].into()));
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
