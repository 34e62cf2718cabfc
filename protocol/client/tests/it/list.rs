//! The user's list: what is unread, hidden, asked for by strangers; groups that were left, and
//! joined again.

use crate::hand::{Hand, channel, entry, group, id_bytes, message, messages, room, welcome};
use roost_client::limits::NOTICE_INTERVAL;
use roost_client::{Command, Event, Peer};
use roost_protocol::ids::{ConversationId, Sequence};
use roost_protocol::request::Ask;
use roost_protocol::wire::{self, ErrorCode, client_frame::Body, server_frame};

fn listed(id: ConversationId, kind: wire::ConversationKind, head: u64) -> wire::Entry {
    let peer = String::new();
    wire::Entry { conversation: id_bytes(id), kind: kind.into(), peer, ..entry(head) }
}

fn group_entry(head: u64) -> wire::Entry {
    wire::Entry { member: 2, ..listed(group(), wire::ConversationKind::KindGroup, head) }
}

fn said_delivered(hand: &mut Hand) -> Vec<u64> {
    let frames = hand.taken(|body| matches!(body, Body::Delivered(_)));
    let marks = frames.into_iter().flat_map(|(_, body)| match body {
        Body::Delivered(delivered) => delivered.marks,
        _ => vec![],
    });
    marks.map(|mark| mark.seq).collect()
}

#[test]
fn unread_counts_what_counts() {
    let mut hand = Hand::new();
    let with = wire::Entry { head_uncounted: 1, read: 2, read_uncounted: 0, ..entry(5) };
    hand.online(vec![with]);
    // Of 1 to 5 one does not count; two are read.
    assert_eq!(hand.session.unread(room()), 2);
    let page: Vec<_> = messages(1..=5)
        .into_iter()
        .map(|message| wire::Message { uncounted: u64::from(message.seq >= 4), ..message })
        .collect();
    hand.page(page, 5);
    let pushed = wire::Message { uncounted: 2, ..message(6, "an edit") };
    hand.push(server_frame::Body::Message(pushed));
    assert_eq!(hand.session.unread(room()), 2);
    let pushed = wire::Message { uncounted: 2, ..message(7, "a message") };
    hand.push(server_frame::Body::Message(pushed));
    assert_eq!(hand.session.unread(room()), 3);
    assert_eq!(hand.restarted().session.unread(room()), 3);
    hand.command(Command::Read { conversation: room(), seq: Sequence(6) });
    assert_eq!(hand.session.unread(room()), 1);
    // Read on another device.
    let read = wire::Entry { read: 7, read_uncounted: 2, head_uncounted: 2, ..entry(7) };
    let entries = vec![read];
    hand.push(server_frame::Body::EntryChanged(wire::EntryChanged { entries }));
    assert_eq!(hand.session.unread(room()), 0);
    assert_eq!(hand.session.unread(group()), 0);
}

#[test]
fn what_one_writes_having_seen_the_rest_is_read() {
    let mut hand = Hand::new();
    hand.online(vec![entry(0)]);
    hand.push_message(1, "a");
    hand.say(&Peer::Conversation(room()), "b", 1);
    let (id, send) = hand.take_send();
    assert_eq!(send.seen, 1);
    hand.accept(id, 2);
    assert_eq!(hand.session.unread(room()), 0);
    // Not when something came between.
    hand.say(&Peer::Conversation(room()), "c", 2);
    let (id, _) = hand.take_send();
    hand.push_message(3, "crossed it");
    hand.accept(id, 4);
    assert_eq!(hand.session.unread(room()), 2);
    assert_eq!(hand.restarted().session.unread(room()), 2);
    let own = wire::Message { client_message_id: 5, ..message(5, "from my tablet") };
    hand.push(server_frame::Body::Message(own));
    assert_eq!(hand.session.unread(room()), 3);
}

#[test]
fn what_this_user_deleted_for_themselves_is_not_shown() {
    let mut hand = Hand::new();
    hand.online(vec![wire::Entry { hidden: vec![2, 3], ..entry(4) }]);
    hand.page(messages(1..=4), 4);
    assert_eq!(hand.texts(), ["m1", "m4"]);
    hand.ask(Ask::DeleteForMe { conversation: room(), seqs: vec![Sequence(5)] }, 1);
    let (id, _) = hand.sent.pop().unwrap();
    hand.answer(id, server_frame::Body::Done(wire::Done {}));
    let mut restarted = hand.restarted();
    restarted.online(vec![]);
    restarted.push_message(5, "m5");
    assert!(restarted.texts().is_empty());
    assert_eq!(restarted.session.entry_of(room()).unwrap().hidden, [2, 3, 5]);
    assert!(restarted.sent.iter().all(|(_, body)| !matches!(body, Body::History(_))));
}

#[test]
fn a_stranger_is_told_nothing_until_accepted() {
    let mut hand = Hand::new();
    hand.online(vec![wire::Entry { request: true, ..entry(2) }]);
    hand.page(messages(1..=2), 2);
    assert_eq!(hand.texts(), ["m1", "m2"]);
    assert_eq!((said_delivered(&mut hand), hand.session.unread(room())), (vec![], 0));
    hand.command(Command::Read { conversation: room(), seq: Sequence(1) });
    // Nor after a restart of the app, or of the server.
    let mut hand = hand.restarted();
    hand.online(vec![]);
    hand.reconnect(wire::Welcome { server_run: 99, ..welcome() });
    hand.synced(1, vec![]);
    let marks = |body: &Body| matches!(body, Body::Delivered(_) | Body::Read(_));
    assert_eq!(hand.taken(marks), []);
    hand.ask(Ask::AcceptRequest(room()), 1);
    let (id, _) = hand.sent.pop().unwrap();
    hand.pass(NOTICE_INTERVAL);
    hand.answer(id, server_frame::Body::Done(wire::Done {}));
    assert_eq!((said_delivered(&mut hand), hand.session.unread(room())), (vec![2], 1));
    assert_eq!(hand.take_read().1.marks[0].seq, 1);
}

#[test]
fn marks_of_a_moment_share_a_frame() {
    let mut hand = Hand::new();
    let entries = [room(), group()].map(|id| listed(id, wire::ConversationKind::KindGroup, 0));
    hand.online(entries.to_vec());
    let push = |hand: &mut Hand, id, seq| {
        let pushed = wire::Message { conversation: id_bytes(id), ..message(seq, "x") };
        hand.push(server_frame::Body::Message(pushed));
    };
    push(&mut hand, room(), 1);
    assert_eq!(hand.sent.len(), 1, "at once when nothing was said lately");
    hand.sent.clear();
    for seq in 2..=5 {
        push(&mut hand, room(), seq);
        push(&mut hand, group(), seq - 1);
    }
    hand.command(Command::Read { conversation: room(), seq: Sequence(4) });
    hand.command(Command::Read { conversation: group(), seq: Sequence(2) });
    assert!(hand.sent.is_empty() && !hand.session.is_idle());
    let begin = hand.now.monotonic;
    hand.tick();
    assert_eq!(hand.now.monotonic.since(begin), NOTICE_INTERVAL);
    let (_, delivered) = hand.take_delivered();
    assert_eq!(delivered.marks.iter().map(|mark| mark.seq).collect::<Vec<_>>(), [5, 4]);
    let (_, read) = hand.take_read();
    assert_eq!(read.marks.iter().map(|mark| mark.seq).collect::<Vec<_>>(), [4, 2]);
    assert!(hand.sent.is_empty() && hand.session.is_idle());
    // Whoever leaves says it first, and a Sync proves what is said before it.
    push(&mut hand, room(), 6);
    hand.command(Command::Sync);
    assert!(matches!(hand.sent[..], [(0, Body::Delivered(_)), (_, Body::Sync(_))]));
    hand.synced(2, vec![]);
    push(&mut hand, room(), 7);
    hand.sent.clear();
    hand.command(Command::Close);
    assert!(matches!(hand.sent[..], [(0, Body::Delivered(_))]));
}

#[test]
fn a_group_that_was_left_and_joined_again_has_a_hole() {
    let mut hand = Hand::new();
    // Joined at 5.
    hand.online(vec![group_entry(8)]);
    hand.page(messages(5..=8), 8);
    assert_eq!(hand.texts().len(), 4);
    hand.tick();
    assert!(hand.session.is_idle(), "the hole below is none");
    // Removed at 9: the entry says so, and no page goes further.
    let gone = wire::Entry { left: true, ..group_entry(9) };
    let entries = vec![gone];
    hand.push(server_frame::Body::EntryChanged(wire::EntryChanged { entries }));
    hand.page(messages(9..=9), 9);
    let news = wire::News { conversation: id_bytes(group()), head: 30, uncounted: 0 };
    hand.push(server_frame::Body::News(news));
    let asked = hand.page(vec![], 9);
    assert_eq!(asked.after, Some(9));
    hand.sent.clear();
    assert!(hand.session.is_idle(), "a head above the end is asked for once");
    let write = |hand: &mut Hand, tag| hand.say(&Peer::Conversation(group()), "let me in", tag);
    write(&mut hand, 1);
    let (id, _) = hand.take_send();
    hand.refuse(id, ErrorCode::ErrorForbidden);
    assert_eq!(hand.refusals(), [(1, ErrorCode::ErrorForbidden)]);
    // In again at 40.
    let entries = vec![wire::Entry { read: 40, ..group_entry(41) }];
    hand.push(server_frame::Body::EntryChanged(wire::EntryChanged { entries }));
    let asked = hand.page(messages(40..=41), 41);
    assert_eq!(asked.after, Some(9));
    hand.tick();
    assert!(hand.session.is_idle());
    write(&mut hand, 2);
    let (id, send) = hand.take_send();
    assert_eq!((send.client_sequence, send.seen), (1, 41));
    let conversation = id_bytes(group());
    let reply = wire::SendReply { message_id: 1, seq: 42, conversation, ..Default::default() };
    hand.answer(id, server_frame::Body::Send(reply));
    assert_eq!(hand.accepted(), [(2, 42)]);
    assert_eq!(hand.session.unread(group()), 0);
    // Nothing is asked for again after a restart.
    let mut restarted = hand.restarted();
    restarted.online(vec![]);
    assert!(restarted.sent.iter().all(|(_, body)| !matches!(body, Body::History(_))));
}

#[test]
fn receipts_of_single_members_are_no_ticks_of_the_group() {
    let mut hand = Hand::new();
    hand.online(vec![group_entry(5)]);
    hand.page(messages(1..=5), 5);
    let receipt = |delivered, read, member| {
        let conversation = id_bytes(group());
        let receipts = vec![wire::Receipt { conversation, delivered, read, member }];
        server_frame::Body::Receipts(wire::Receipts { receipts })
    };
    hand.events.clear();
    hand.push(receipt(5, 5, 3));
    assert!(hand.events.is_empty());
    hand.push(receipt(4, 2, 0));
    let ticks = [
        Event::Delivered { conversation: group(), up_to: Sequence(4) },
        Event::Read { conversation: group(), up_to: Sequence(2) },
    ];
    assert_eq!(hand.events, ticks);
}

#[test]
fn a_channel_begins_with_its_newest_page_and_is_ticked_by_nobody() {
    let mut hand = Hand::new();
    hand.online(vec![listed(channel(), wire::ConversationKind::KindChannel, 0)]);
    assert!(hand.sent.is_empty());
    let news = wire::News { conversation: id_bytes(channel()), head: 500, uncounted: 0 };
    hand.push(server_frame::Body::News(news));
    let (id, asked) = hand.take_history();
    assert_eq!((asked.before, asked.after), (None, None));
    let reply = wire::HistoryReply {
        messages: messages((451..=500).rev()),
        more: true,
        head: 500,
        next: 451,
        ..wire::HistoryReply::default()
    };
    hand.answer(id, server_frame::Body::History(reply));
    let texts = hand.texts();
    assert_eq!((texts.len(), texts[0].as_str(), texts[49].as_str()), (50, "m451", "m500"));
    assert!(hand.sent.is_empty() && hand.session.is_idle());
    let news = wire::News { conversation: id_bytes(channel()), head: 502, uncounted: 0 };
    hand.push(server_frame::Body::News(news));
    let asked = hand.page(messages(501..=502), 502);
    assert_eq!(asked.after, Some(500));
    assert_eq!(said_delivered(&mut hand), []);
}

#[test]
fn the_list_is_there_after_a_restart() {
    let mut hand = Hand::new();
    let first = wire::Entry { muted_until_ms: 9, pinned: 2, archived: true, ..entry(0) };
    hand.online(vec![first.clone(), group_entry(0)]);
    let restarted = hand.restarted();
    let all: Vec<_> = restarted.session.conversations().collect();
    let without = wire::Entry { conversation: bytes::Bytes::new(), ..first };
    assert_eq!(all[0], (room(), &without));
    assert_eq!((all[1].0, all[1].1.member), (group(), 2));
    let bob = crate::hand::user("bob");
    assert_eq!(restarted.session.conversation_with(&bob), Some(room()));
}
