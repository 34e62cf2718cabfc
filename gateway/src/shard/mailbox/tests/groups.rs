//! Groups in the list: who came, who went, and what they may still see.

use super::*;
use crate::shard::message::Membership;

const GROUP: u32 = 1;

/// A record of a group for some; the membership it changes, if any.
fn spoken(seq: u64, by: u32, to: &[u32], changed: Option<(u32, bool)>) -> Deliver {
    let conversation = group(GROUP.into());
    let users: Arc<[UserKey]> = to.iter().map(|n| user(*n).0).collect();
    let membership = changed.map(|(n, left)| {
        let (user, user_id) = user(n);
        Membership { user, user_id, member: n, since: at(seq), left }
    });
    Deliver {
        conversation,
        card: Arc::new(Card::Group),
        recipients: Recipients::Many(users),
        head: at(seq),
        message_id: MessageId(seq),
        own_marks: OwnMarks::One((user(by).0, at(seq))),
        memberships: membership.into_iter().collect(),
        fresh: Some(fresh(conversation, seq, user(by).0)),
    }
}

fn messages(world: &mut World) -> Vec<(EdgeAddress, u64)> {
    let mut found = Vec::new();
    for (edge, body) in world.pushed() {
        if let server_frame::Body::Message(message) = body {
            found.push((edge, message.seq));
        } else if let server_frame::Body::News(_) = body {
            found.push((edge, 0));
        }
    }
    found.sort_by_key(|(edge, _)| edge.edge.slot);
    found
}

#[test]
fn joining_moves_the_mark_and_leaving_ends_the_head() {
    let mut world = World::new(Limits::default());
    let talk = group(GROUP.into());
    world.connect(1, 1);
    world.connect(2, 1);
    world.deliver(spoken(5, 1, &[1, 2], Some((2, false))));
    assert_eq!(messages(&mut world), [(edge(1, 1), 5), (edge(2, 1), 5)]);
    let entry = world.entry(2, 1, talk);
    assert_eq!((entry.member, entry.head, entry.read, entry.left), (3, 5, 5, false));
    world.deliver(spoken(6, 1, &[1, 2], None));
    assert_eq!(world.entry(2, 1, talk).read, 5, "what comes after is unread");
    // The one removed gets the record that removes them, and nothing after it.
    messages(&mut world);
    world.deliver(spoken(7, 1, &[1, 2], Some((2, true))));
    world.deliver(spoken(8, 1, &[1], None));
    let seen = messages(&mut world);
    assert_eq!(seen, [(edge(1, 1), 7), (edge(1, 1), 8), (edge(2, 1), 7)]);
    let entry = world.entry(2, 1, talk);
    assert_eq!((entry.head, entry.left, entry.member), (7, true, 3));
    // What of the conversation is told again later does not show them more than that.
    world.deliver(Deliver { fresh: None, ..spoken(9, 1, &[1, 2], None) });
    assert_eq!(world.entry(2, 1, talk).head, 7);
    assert_eq!(world.entry(1, 1, talk).head, 9);
    // Coming again: from there on.
    world.deliver(spoken(12, 1, &[1, 2], Some((2, false))));
    let entry = world.entry(2, 1, talk);
    assert_eq!((entry.head, entry.read, entry.left, entry.member), (12, 12, false, 3));
}

#[test]
fn an_entry_of_somebody_who_left_can_still_be_arranged() {
    let mut world = World::new(Limits::default());
    let talk = group(GROUP.into());
    world.connect(2, 1);
    world.deliver(spoken(5, 1, &[2], Some((2, false))));
    world.deliver(spoken(6, 2, &[2], Some((2, true))));
    let settings = roost_protocol::request::ConversationSettings {
        archived: Some(true),
        ..Default::default()
    };
    let archive = MailboxRequest::SetConversation { conversation: talk, settings };
    world.done(2, 1, archive);
    let hide = MailboxRequest::DeleteForMe { conversation: talk, seqs: vec![Sequence(5)] };
    world.done(2, 1, hide);
    world.read(2, 1, talk, 6);
    let entry = world.entry(2, 1, talk);
    assert_eq!((entry.archived, entry.left, entry.read), (true, true, 6));
    world.checkpoint();
    world.restart();
    world.connect(2, 1);
    let entry = world.entry(2, 1, talk);
    assert_eq!((entry.archived, entry.left, entry.head), (true, true, 6));
    assert_eq!(entry.hidden, [5]);
}

#[test]
fn membership_comes_to_cold_and_unknown_lists_in_any_order() {
    let mut world = World::new(Limits::default());
    let talk = group(GROUP.into());
    // Nobody has seen this user; the removal is told before the joining.
    world.deliver(Deliver { fresh: None, ..spoken(9, 1, &[3], Some((3, true))) });
    world.deliver(Deliver { fresh: None, ..spoken(4, 1, &[3], Some((3, false))) });
    world.checkpoint();
    world.restart();
    world.connect(3, 1);
    let entry = world.entry(3, 1, talk);
    assert_eq!((entry.left, entry.head, entry.read, entry.member), (true, 9, 4, 4));
    // One with a slot only.
    world.evict_all();
    world.deliver(spoken(20, 1, &[3], Some((3, false))));
    assert_eq!(messages(&mut world), [(edge(3, 1), 20)]);
    let entry = world.entry(3, 1, talk);
    assert_eq!((entry.left, entry.head, entry.read), (false, 20, 20));
}

#[test]
fn many_recipients_get_one_frame_and_the_author_their_own() {
    let mut world = World::new(Limits::default());
    for n in 1..=4 {
        world.connect(n, 1);
    }
    world.connect(1, 2);
    world.edges.clear();
    world.deliver(spoken(3, 1, &[1, 2, 3, 4], None));
    let pushed = world.pushed();
    assert_eq!(pushed.len(), 5, "the sender's connection of this test is nobody's");
    for (to, body) in pushed {
        let server_frame::Body::Message(message) = body else { panic!("{body:?}") };
        assert_eq!(message.client_message_id != 0, to.edge.slot / 256 == 1);
    }
}

#[test]
fn messages_that_were_merged_are_news_of_the_head() {
    let mut world = World::new(Limits::default());
    world.connect(2, 1);
    world.edges.clear();
    world.deliver(Deliver { fresh: None, ..spoken(8, 1, &[2], None) });
    assert_eq!(messages(&mut world), [(edge(2, 1), 0)]);
    // Told again, it is nothing new.
    world.deliver(Deliver { fresh: None, ..spoken(8, 1, &[2], None) });
    assert_eq!(messages(&mut world), []);
}
