//! Blocks: decided here, told to the direct conversation, answered when it confirms.

use super::*;
use crate::shard::message::{BlockConfirmed, BlockTold};
use roost_protocol::request::SetPrivacy;

fn block(n: u32, unblock: bool) -> MailboxRequest {
    MailboxRequest::Block { peer: user(n), unblock }
}

/// What the conversation was told since the last look.
fn told(world: &mut World) -> Vec<BlockTold> {
    let mut found = Vec::new();
    for message in std::mem::take(&mut world.told) {
        let ToConversation::BlockTold(told) = message else { panic!("{message:?}") };
        found.push(told);
    }
    found
}

fn confirm(world: &mut World, told: &BlockTold) {
    let (user, conversation, number) = (told.by, told.conversation, told.number);
    world.tell(ToMailbox::BlockConfirmed(BlockConfirmed { user, conversation, number }));
    world.run();
}

fn done(world: &mut World, id: u32) -> bool {
    match world.answer(id) {
        None => false,
        Some(Reply::Frame(body)) => matches!(*body, server_frame::Body::Done(_)),
        Some(other) => panic!("{other:?}"),
    }
}

/// Blocks or unblocks somebody, with the conversation's confirmation.
fn decided(world: &mut World, n: u32, unblock: bool) {
    let id = world.ask(1, 1, block(n, unblock));
    world.run();
    for told in told(world) {
        confirm(world, &told);
    }
    assert!(done(world, id));
}

fn blocked(world: &mut World, after: Option<u32>, limit: u32) -> (Vec<String>, bool) {
    let after = after.map(|n| user(n).1);
    let body = world.asked(1, 1, MailboxRequest::ListBlocks { after, limit });
    let server_frame::Body::BlockList(list) = body else { panic!("{body:?}") };
    (list.users, list.more)
}

#[test]
fn a_block_is_answered_when_the_conversation_knows_it() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let id = world.ask(1, 1, block(2, false));
    assert!(!done(&mut world, id), "durable here, but not known there");
    let messages = told(&mut world);
    let [first] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((first.conversation, first.by, first.blocked), (direct(1, 2), user(1).0, true));
    assert_eq!(first.users.iter().map(|(key, _)| *key).min(), Some(first.users[0].0));
    // Asked again meanwhile: it is told again, and one confirmation answers both.
    let again = world.ask(1, 1, block(2, false));
    world.run();
    let messages = told(&mut world);
    let [second] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(second.number, first.number);
    confirm(&mut world, second);
    assert!(done(&mut world, id) && done(&mut world, again));
    confirm(&mut world, first);
    assert!(world.replies.is_empty(), "one answer each");
    assert_eq!(blocked(&mut world, None, 100), (vec!["user-2".to_owned()], false));
}

#[test]
fn nothing_is_told_before_it_is_durable() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.held = true;
    let id = world.ask(1, 1, block(2, false));
    world.run();
    assert_eq!(told(&mut world).len(), 0);
    world.held = false;
    world.run();
    for told in told(&mut world) {
        confirm(&mut world, &told);
    }
    assert!(done(&mut world, id));
}

#[test]
fn unblocking_waits_for_its_own_confirmation() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(3, 1, 1));
    let block_id = world.ask(1, 1, block(2, false));
    world.run();
    let first = told(&mut world).remove(0);
    let unblock_id = world.ask(1, 1, block(2, true));
    world.run();
    let second = told(&mut world).remove(0);
    assert!(second.number > first.number && !second.blocked);
    confirm(&mut world, &first);
    assert!(done(&mut world, block_id) && !done(&mut world, unblock_id));
    assert_eq!(blocked(&mut world, None, 100).0.len(), 0);
    confirm(&mut world, &second);
    assert!(done(&mut world, unblock_id));
    // Ending what is not, and what is over, is done at once.
    world.done(1, 1, block(2, true));
    world.done(1, 1, block(7, true));
    assert_eq!(told(&mut world).len(), 0);
    assert_eq!(world.refused(1, 1, block(1, false)), ErrorCode::ErrorInvalidRequest);
}

#[test]
fn the_list_is_in_the_order_of_ids_and_outlives_a_crash() {
    let limits = Limits { blocks_max: 5, ..Limits::default() };
    let mut world = World::new(limits);
    world.connect(1, 1);
    for n in [30, 2, 11, 5, 4] {
        decided(&mut world, n, false);
    }
    let users = |ids: &[u32]| ids.iter().map(|n| format!("user-{n}")).collect::<Vec<_>>();
    assert_eq!(blocked(&mut world, None, 3), (users(&[11, 2, 30]), true));
    assert_eq!(blocked(&mut world, Some(30), 3), (users(&[4, 5]), false));
    assert_eq!(world.refused(1, 1, block(6, false)), ErrorCode::ErrorTooLarge);
    decided(&mut world, 11, true);
    decided(&mut world, 6, false);
    for crash in [false, true] {
        if crash {
            world.restart();
            let retold = told(&mut world);
            assert!(retold.iter().any(|told| told.users.iter().any(|(_, id)| *id == user(6).1)));
            world.connect(1, 1);
        }
        world.evict_all();
        assert_eq!(blocked(&mut world, None, 100), (users(&[2, 30, 4, 5, 6]), false));
    }
    // Whether the conversation knows is not stored: it is told again, then it is known.
    let id = world.ask(1, 1, block(2, false));
    world.run();
    let again = told(&mut world);
    assert_eq!(again.len(), 1);
    confirm(&mut world, &again[0]);
    assert!(done(&mut world, id));
}

#[test]
fn the_settings_come_with_the_list() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let privacy = |world: &mut World| {
        let ask = MailboxRequest::ListBlocks { after: None, limit: 100 };
        let body = world.asked(1, 1, ask);
        let server_frame::Body::BlockList(list) = body else { panic!("{body:?}") };
        let privacy = list.privacy.expect("always there");
        (privacy.presence(), privacy.contacts_only, privacy.read_receipts)
    };
    let open = (wire::Audience::Everyone, Some(false), Some(true));
    assert_eq!(privacy(&mut world), open, "at first");
    let settings = SetPrivacy {
        presence: Some(wire::Audience::Contacts),
        contacts_only: None,
        read_receipts: Some(false),
    };
    world.done(1, 1, MailboxRequest::SetPrivacy(settings));
    for crash in [false, true] {
        if crash {
            world.restart();
            world.connect(1, 1);
        }
        world.evict_all();
        let set = (wire::Audience::Contacts, Some(false), Some(false));
        assert_eq!(privacy(&mut world), set);
    }
}

#[test]
fn the_last_of_several_is_what_is_told_again() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    for unblock in [false, true, false, true] {
        world.ask(1, 1, block(2, unblock));
        world.run();
    }
    let last = told(&mut world).pop().unwrap();
    world.restart();
    let messages = told(&mut world);
    let [retold] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((retold.number, retold.blocked), (last.number, false));
    assert_eq!(world.retold, 1);
}
