//! What the fuzz targets do with a piece of input; `tests/it/hostile.rs` runs the same.

use roost_protocol::frame::{self, Cut, FrameReader};
use roost_protocol::ids::{ConversationId, KeyKind, UserId};
use roost_protocol::limits;
use roost_protocol::request::{self, Ask, Content, GroupChange, Hint, PresenceOf, Request, Target};

/// Cuts a stream in one piece and in pieces whose sizes the input draws; both must agree, and
/// the reader must keep no more than the bytes it was given and has not handed out.
pub(crate) fn frame(input: &[u8]) {
    let limit = 1024;
    let (whole, whole_failed) = cut_all(input, limit);
    let mut reader = FrameReader::new();
    let (mut pieces, mut failed, mut given, mut taken) = (Vec::new(), false, 0, 0);
    let mut rest = input;
    while !rest.is_empty() && !failed {
        let size = usize::from(rest[0] % 7) + 1;
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        reader.push(chunk);
        given += chunk.len();
        loop {
            match reader.next_frame(limit) {
                Ok(Some(frame)) => {
                    taken += frame.len() + roost_protocol::varint::length(length(frame));
                    pieces.push(frame.to_vec());
                }
                Ok(None) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert_eq!(reader.pending_bytes(), given - taken);
        assert!(failed || reader.pending_bytes() < limit + 5, "half a frame is below the limit");
    }
    assert_eq!((pieces, failed), (whole, whole_failed));
}

/// Decodes the content of a frame, and asks the same of what it means.
pub(crate) fn request(input: &[u8]) {
    let Ok(decoded) = request::decode(input) else { return };
    assert_eq!(request::decode(input), Ok(decoded.clone()), "decoding has no state");
    let has_id = decoded.request_id != 0;
    match decoded.body {
        Ok(Request::Send(send)) => {
            assert!(send.client_message_id.0 != 0 && send.client_sequence.0 != 0);
            assert!(send.seen_uncounted <= send.seen.0 && has_id);
            content(&send);
        }
        Ok(Request::Sync { limit, .. }) => {
            assert!(has_id && (1..=limits::SYNC_PAGE_MAX).contains(&limit));
        }
        Ok(Request::History(history)) => {
            assert!(has_id && (1..=limits::HISTORY_PAGE_MAX).contains(&history.limit));
        }
        Ok(Request::Delivered(marks) | Request::Read(marks)) => {
            assert!(marks.len() <= limits::MARKS_MAX);
            assert!(marks.iter().all(|mark| mark.uncounted <= mark.seq.0));
        }
        Ok(Request::Hello(hello)) => {
            assert!(hello.connection_number.0 != 0);
            assert!(hello.client.len() <= limits::CLIENT_NAME_MAX_BYTES);
        }
        Ok(Request::Refresh { token }) => {
            assert!((1..=limits::TOKEN_MAX_BYTES).contains(&token.len()));
        }
        Ok(Request::Ask(ask)) => {
            assert!(has_id);
            asked(&ask);
        }
        Ok(Request::Hint(Hint::WatchPresence { of, .. })) => presence_of(&of),
        Ok(Request::Hint(Hint::WatchChannel { conversation, .. })) => {
            assert_eq!(conversation.kind(), KeyKind::Channel);
        }
        Ok(Request::Hint(Hint::Typing { conversation, .. })) => {
            assert!(matches!(conversation.kind(), KeyKind::Direct | KeyKind::Group));
        }
        Ok(Request::Activity(_) | Request::IgnoredNotice) => {}
        Err(refusal) => assert!(!refusal.text.is_empty()),
    }
}

fn content(send: &request::Send) {
    let kind = match &send.target {
        Target::Conversation(id) => id.kind(),
        Target::User(_) => KeyKind::Direct,
    };
    match &send.content {
        Content::Body(body) => assert!(body.len() <= limits::BODY_MAX_BYTES),
        Content::Edit { seq, body } | Content::Forward { seq, body, .. } => {
            assert!(seq.0 != 0 && body.len() <= limits::BODY_MAX_BYTES);
        }
        Content::Delete { seq } => assert!(seq.0 != 0),
        Content::Reaction { seq, reaction } => {
            assert!(seq.0 != 0);
            text(reaction, 0, limits::REACTION_MAX_BYTES);
        }
        Content::Group(change) => group_change(change, kind),
        Content::ToDevices { ciphertexts, versions, .. } => {
            assert_eq!(kind, KeyKind::Direct);
            assert!((1..=limits::CIPHERTEXTS_MAX).contains(&ciphertexts.len()));
            assert!(ciphertexts.iter().all(|one| one.body.len() <= limits::BODY_MAX_BYTES));
            none_twice(ciphertexts.iter().map(|one| (&one.user, one.device)));
            assert!((1..=limits::DEVICE_LISTS_MAX).contains(&versions.len()));
            none_twice(versions.iter().map(|one| &one.user));
        }
    }
}

fn group_change(change: &GroupChange, kind: KeyKind) {
    assert!(matches!(kind, KeyKind::Group | KeyKind::Channel));
    match change {
        GroupChange::Rename(name) => text(name, 1, limits::NAME_MAX_BYTES),
        GroupChange::Picture(picture) => text(picture, 0, limits::PICTURE_MAX_BYTES),
        GroupChange::Add(users) | GroupChange::Remove(users) => {
            assert_eq!(kind, KeyKind::Group);
            people(users, 1, limits::MEMBERS_NAMED_MAX);
        }
        GroupChange::Promote(users) | GroupChange::Demote(users) => {
            people(users, 1, limits::MEMBERS_NAMED_MAX);
        }
        GroupChange::Leave | GroupChange::Transfer(_) | GroupChange::Dissolve => {}
    }
}

fn asked(ask: &Ask) {
    let is = |id: &ConversationId, kinds: &[KeyKind]| assert!(kinds.contains(&id.kind()));
    let within = |limit: &usize, most| assert!((1..=most).contains(limit));
    match ask {
        Ask::RenameDevice { name, .. } => text(name, 0, limits::DEVICE_NAME_MAX_BYTES),
        Ask::ListBlocks { limit, .. } => within(limit, limits::BLOCKS_PAGE_MAX),
        Ask::ListConversations { limit, .. } => within(limit, limits::CONVERSATIONS_PAGE_MAX),
        Ask::SetConversation { settings, .. } => {
            assert!(settings.pinned.is_none_or(|pinned| pinned <= limits::PINNED_MAX));
        }
        Ask::CreateGroup(create) => {
            text(&create.name, 1, limits::NAME_MAX_BYTES);
            text(&create.picture, 0, limits::PICTURE_MAX_BYTES);
            people(&create.members, 0, limits::MEMBERS_NAMED_MAX);
            assert!(!create.channel || create.members.is_empty());
        }
        Ask::ListMembers { conversation, limit, .. } => {
            is(conversation, &[KeyKind::Group, KeyKind::Channel]);
            within(limit, limits::MEMBERS_PAGE_MAX);
        }
        Ask::ReceiptDetails { conversation, seq, .. } => {
            is(conversation, &[KeyKind::Direct, KeyKind::Group]);
            assert!(seq.0 != 0);
        }
        Ask::DeleteForMe { seqs, .. } => {
            within(&seqs.len(), limits::DELETED_SEQS_MAX);
            assert!(seqs[0].0 != 0 && seqs.is_sorted_by(|one, next| one < next));
        }
        Ask::JoinChannel { conversation, .. } => is(conversation, &[KeyKind::Channel]),
        Ask::AcceptRequest(conversation) => {
            is(conversation, &[KeyKind::Direct, KeyKind::Group]);
        }
        Ask::QueryPresence(of) => presence_of(of),
        Ask::ListUserDevices { users, conversation } => {
            people(users, 1, limits::DEVICE_LISTS_MAX);
            is(conversation, &[KeyKind::Direct]);
        }
        Ask::ListDevices
        | Ask::SignOut(_)
        | Ask::SetPrivacy(_)
        | Ask::Block { .. }
        | Ask::Describe(_) => {}
    }
}

fn presence_of(of: &PresenceOf) {
    people(&of.users, 1, limits::PRESENCE_USERS_MAX);
    assert!(of.conversation.is_none_or(|id| id.kind() == KeyKind::Group));
}

fn text(text: &str, least: usize, most: usize) {
    assert!((least..=most).contains(&text.len()) && !text.chars().any(char::is_control));
}

fn people(users: &[UserId], least: usize, most: usize) {
    assert!((least..=most).contains(&users.len()));
    none_twice(users);
}

fn none_twice<T: Ord>(all: impl IntoIterator<Item = T>) {
    let mut sorted: Vec<T> = all.into_iter().collect();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "something is named twice");
}

fn cut_all(mut input: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    loop {
        let consumed = match frame::cut(input, limit) {
            Ok(Cut::Frame { content, consumed }) => {
                assert!(!content.is_empty() && content.len() <= limit);
                frames.push(content.to_vec());
                consumed
            }
            Ok(Cut::Heartbeat) => {
                frames.push(Vec::new());
                1
            }
            Ok(Cut::Incomplete { needed }) => {
                assert!(needed > input.len());
                return (frames, false);
            }
            Err(_) => return (frames, true),
        };
        input = &input[consumed..];
    }
}

fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).expect("below the limit")
}
