//! The list of conversations: settings, pages, what is unread on several devices, own messages.

use super::*;
use crate::shard::message::ReceiptTold;
use roost_protocol::request::ConversationSettings;

fn set(
    conversation: ConversationId,
    muted_until_ms: Option<u64>,
    archived: Option<bool>,
    pinned: Option<u32>,
) -> MailboxRequest {
    let settings = ConversationSettings { muted_until_ms, archived, pinned };
    MailboxRequest::SetConversation { conversation, settings }
}

fn settings_of(entry: &wire::Entry) -> (u64, bool, u32) {
    (entry.muted_until_ms, entry.archived, entry.pinned)
}

/// What a device makes of an entry, as the protocol says it.
fn unread(entry: &wire::Entry) -> u64 {
    let counted = entry.head - entry.head_uncounted;
    counted.saturating_sub(entry.read - entry.read_uncounted)
}

#[test]
fn settings_are_kept_and_shown_to_the_other_devices() {
    let mut world = World::new(Limits::default());
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.connect(1, 2);
    world.deliver(said(2, 1, 1));
    world.pushed();
    world.done(1, 1, set(talk, Some(u64::MAX), None, Some(3)));
    let changed = world.changed();
    let [(to, entry)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!((*to, settings_of(entry)), (edge(1, 2), (u64::MAX, false, 3)));
    // What is absent stays, also when something is said; repeating it tells nobody.
    world.done(1, 2, set(talk, None, Some(true), None));
    assert_eq!(world.changed().len(), 1);
    world.done(1, 2, set(talk, None, Some(true), None));
    world.done(1, 2, set(talk, None, None, None));
    assert_eq!(world.changed(), []);
    world.deliver(said(2, 1, 2));
    assert_eq!(settings_of(&world.entry(1, 1, talk)), (u64::MAX, true, 3));
    // They outlive a crash that takes the soft head with it, and an eviction.
    world.restart();
    world.connect(1, 1);
    world.evict_all();
    assert_eq!(settings_of(&world.entry(1, 1, talk)), (u64::MAX, true, 3));
    world.done(1, 1, set(talk, Some(0), Some(false), Some(0)));
    assert_eq!(settings_of(&world.entry(1, 1, talk)), (0, false, 0));
    let unknown = ErrorCode::ErrorUnknownConversation;
    assert_eq!(world.refused(1, 1, set(direct(1, 9), None, Some(true), None)), unknown);
}

#[test]
fn the_list_comes_in_pages_by_last_activity() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    for peer in 10..35 {
        world.deliver(Deliver { message_id: MessageId(peer.into()), ..said(peer, 1, 1) });
    }
    let (mut before, mut ids) = (MessageId(0), Vec::new());
    for (page, entries, more) in [(1, 10, true), (2, 10, true), (3, 5, false)] {
        let ask = MailboxRequest::ListConversations { before, limit: 10 };
        let server_frame::Body::ConversationList(list) = world.asked(1, 1, ask) else {
            panic!("not a list")
        };
        assert_eq!((list.entries.len(), list.more), (entries, more), "page {page}");
        ids.extend(list.entries.iter().map(|entry| entry.last_message_id));
        before = MessageId(*ids.last().unwrap());
    }
    assert_eq!(ids, (10..35).rev().collect::<Vec<u64>>());
    // Sync pages by what changed, and says so at the end.
    let page = world.sync(1, 1, 0);
    assert_eq!((page.entries.len(), page.more), (25, false));
    assert_eq!(world.sync(1, 1, page.cursor).entries, []);
    // A cursor from the future is of another store.
    assert_eq!(world.sync(1, 1, page.cursor + 1).entries.len(), 25);
}

#[test]
fn reading_on_one_device_is_seen_on_the_others_and_told_once() {
    let mut world = World::new(Limits::default());
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.connect(1, 2);
    for seq in 1..=5 {
        world.deliver(said(2, 1, seq));
    }
    assert_eq!(unread(&world.entry(1, 1, talk)), 5);
    world.pushed();
    world.read(1, 1, talk, 3);
    let changed = world.changed();
    let [(to, entry)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!((*to, entry.read, unread(entry)), (edge(1, 2), 3, 2));
    // Marks only rise.
    world.read(1, 2, talk, 2);
    world.read(1, 2, talk, 3);
    assert_eq!(world.changed(), []);
    let told = std::mem::take(&mut world.told);
    let [ToConversation::ReadTold(read)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((read.user, read.seq, read.private), (user(1).0, Sequence(3), false));
    // One above the head is kept for what will come.
    world.read(1, 2, talk, 9);
    assert_eq!(unread(&world.entry(1, 1, talk)), 0);
    world.deliver(said(2, 1, 9));
    assert_eq!(unread(&world.entry(1, 1, talk)), 0);
    world.deliver(said(2, 1, 10));
    assert_eq!(unread(&world.entry(1, 1, talk)), 1);
    // It is durable, and told again to the conversation after a crash.
    world.restart();
    world.connect(1, 1);
    assert_eq!(world.entry(1, 1, talk).read, 9);
    let told = std::mem::take(&mut world.told);
    let [ToConversation::ReadTold(read)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((read.seq, world.retold), (Sequence(9), 1));
}

#[test]
fn a_mark_may_come_before_the_conversation_is_known() {
    let mut world = World::new(Limits::default());
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.read(1, 1, talk, 2);
    assert_eq!(world.told.len(), 1);
    assert!(world.entries(1, 1).is_empty());
    world.restart();
    world.connect(1, 1);
    world.deliver(said(2, 1, 3));
    let entry = world.entry(1, 1, talk);
    assert_eq!((entry.read, unread(&entry)), (2, 1));
}

#[test]
fn own_messages_move_the_own_mark_and_reach_the_other_devices() {
    let mut world = World::new(Limits::default());
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.connect(1, 2);
    world.connect(2, 1);
    world.deliver(said(2, 1, 1));
    world.pushed();
    let mut own = said(1, 2, 2);
    own.fresh.as_mut().unwrap().sender_edge = edge(1, 1);
    world.deliver(own);
    let mut pushed = world.pushed();
    pushed.sort_by_key(|(edge, _)| edge.edge.slot);
    let [(own, own_copy), (other, copy)] = pushed.as_slice() else { panic!("{pushed:?}") };
    assert_eq!((*own, *other), (edge(1, 2), edge(2, 1)), "not to the connection that sent it");
    let id_in = |body: &server_frame::Body| {
        let server_frame::Body::Message(message) = body else { panic!("{body:?}") };
        message.client_message_id
    };
    assert_eq!((id_in(own_copy), id_in(copy)), (2, 0), "only who wrote it gets its id");
    // Nothing was unread before it, so nothing is.
    assert_eq!(unread(&world.entry(1, 2, talk)), 0);
    assert_eq!(unread(&world.entry(2, 1, talk)), 1);
    // The device that writes had not seen all: the mark is at what it had.
    world.deliver(said(2, 1, 3));
    world.deliver(said(2, 1, 4));
    let seen = OwnMarks::One((user(1).0, at(3)));
    world.deliver(Deliver { own_marks: seen, ..said(1, 2, 5) });
    let entry = world.entry(1, 2, talk);
    assert_eq!((entry.read, unread(&entry)), (3, 2));
    assert!(world.told.is_empty(), "only an explicit mark is told");
}

#[test]
fn hidden_records_are_bounded_and_on_all_devices() {
    let limits = Limits { hidden_per_conversation_max: 3, ..Limits::default() };
    let mut world = World::new(limits);
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.connect(1, 2);
    world.deliver(said(2, 1, 9));
    world.pushed();
    let hide = |seqs: &[u64]| {
        let seqs = seqs.iter().copied().map(Sequence).collect();
        MailboxRequest::DeleteForMe { conversation: talk, seqs }
    };
    world.done(1, 1, hide(&[7, 2, 7]));
    let changed = world.changed();
    let [(to, entry)] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!((*to, entry.hidden.as_slice()), (edge(1, 2), &[2, 7][..]));
    world.done(1, 1, hide(&[2, 7]));
    assert_eq!(world.changed(), []);
    assert_eq!(world.refused(1, 1, hide(&[1, 3])), ErrorCode::ErrorTooLarge);
    world.done(1, 1, hide(&[1]));
    world.restart();
    world.connect(1, 1);
    assert_eq!(world.entry(1, 1, talk).hidden, [1, 2, 7]);
    let elsewhere =
        MailboxRequest::DeleteForMe { conversation: direct(1, 9), seqs: vec![Sequence(1)] };
    assert_eq!(world.refused(1, 1, elsewhere), ErrorCode::ErrorUnknownConversation);
}

#[test]
fn a_full_list_takes_in_nothing_new_and_goes_on_with_what_it_has() {
    let limits = Limits { conversations_per_user_max: 3, ..Limits::default() };
    let mut world = World::new(limits);
    world.connect(1, 1);
    for peer in 2..8 {
        world.deliver(said(peer, 1, 1));
    }
    assert_eq!(world.entries(1, 1).len(), 3, "those that came while the list was on disk");
    world.deliver(said(20, 1, 1));
    let known = *world.entries(1, 1).keys().next().unwrap();
    assert!(world.ctx.stats.entries_dropped_total > 0);
    let peer = (2..8).find(|peer| direct(1, *peer) == known).unwrap();
    world.deliver(said(peer, 1, 2));
    assert_eq!(world.entry(1, 1, known).head, 2);
    let join = MailboxRequest::JoinChannel { conversation: channel(1), leave: false };
    assert_eq!(world.refused(1, 1, join), ErrorCode::ErrorTooLarge);
}

#[test]
fn receipts_move_the_ticks_and_are_pushed_as_such() {
    let mut world = World::new(Limits::default());
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.deliver(said(1, 2, 4));
    world.edges.clear();
    let told = |delivered, read| {
        ToMailbox::ReceiptTold(Box::new(ReceiptTold {
            conversation: talk,
            card: card(1, 2),
            to: user(1).0,
            delivered: Sequence(delivered),
            read: Sequence(read),
        }))
    };
    for active in [false, true] {
        if active {
            world.sync(1, 1, 0);
        }
        let (delivered, read) = if active { (4, 3) } else { (3, 2) };
        world.tell(told(delivered, read));
        world.tell(told(1, 0));
        let mut ticks = std::mem::take(&mut world.edges);
        ticks.retain(|(_, what)| matches!(what, ToEdge::Receipt { .. }));
        let [(to, ToEdge::Receipt { delivered: pushed, .. })] = ticks.as_slice() else {
            panic!("{ticks:?}")
        };
        assert_eq!((*to, pushed.0), (edge(1, 1), delivered), "an older one is not told");
        let entry = world.entry(1, 1, talk);
        assert_eq!((entry.peer_delivered, entry.peer_read), (delivered, read));
    }
}

#[test]
fn what_one_device_writes_moves_the_mark_on_the_others() {
    let mut world = World::new(Limits::default());
    let talk = direct(1, 2);
    world.connect(1, 1);
    world.connect(1, 2);
    world.deliver(said(2, 1, 1));
    world.pushed();
    let by = edge(1, 1);
    let wrote = |seq| {
        let fresh = Fresh { sender_edge: by, ..*fresh(talk, seq, user(1).0) };
        Deliver { fresh: Some(Box::new(fresh)), ..said(1, 2, seq) }
    };
    for (round, seq) in (2..8).enumerate() {
        // Also when the list is on disk: it is read for that.
        if round % 2 == 1 {
            world.evict_all();
        }
        world.pushed();
        world.deliver(wrote(seq));
        world.run();
        let changed = world.changed();
        let [(to, entry)] = changed.as_slice() else { panic!("{seq}: {changed:?}") };
        assert_eq!((*to, entry.read, unread(entry)), (edge(1, 2), seq, 0));
    }
    // The same again is no news, and with one device nobody need be told: nothing is read then.
    world.deliver(wrote(7));
    assert_eq!(world.changed(), []);
    world.disconnect(1, 2);
    world.evict_all();
    let loads = world.ctx.stats.loads_total;
    world.deliver(wrote(8));
    world.run();
    assert_eq!((world.changed(), world.ctx.stats.loads_total), (vec![], loads));
}

#[test]
fn a_list_stays_while_a_read_mark_waits_for_room() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(2, 1, 1));
    world.run();
    let (me, with) = (user(1).0, direct(1, 2));
    assert_eq!(world.entry(1, 1, with).read, 0);
    // The list is on its way out of memory when a mark comes for which the log has no room.
    world.tick += 10_000;
    world.boxes.evict_some(&mut world.ctx, world.tick, 1, 100);
    let (_, entries) = world.boxes.cells.active(me).expect("it has not left yet");
    entries.unwritten.insert(with, at(1));
    world.run();
    assert!(world.boxes.cells.active(me).is_some(), "the mark is nowhere else");
    assert_eq!(world.entry(1, 1, with).read, 1);
    world.evict_all();
    assert!(world.boxes.cells.active(me).is_none(), "now it may leave");
    assert_eq!(world.entry(1, 1, with).read, 1);
}
