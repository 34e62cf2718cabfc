//! What a delivery to many costs. Run it with a release build and look at the time:
//!
//! ```sh
//! cargo test --release -p roost-gateway --lib -- --ignored fan_out
//! ```

use super::*;

const MEMBERS: u32 = 500;
const ROUNDS: u64 = 20_000;

/// Everybody is connected, their lists on disk or in memory; the pushes are taken as connections
/// take them.
fn fan_out(members: u32, active: bool, rounds: u64) -> u64 {
    let mut world = World::new(Limits::default());
    for n in 0..members {
        world.connect(n, 1);
        if active {
            // Something in it, so that the list stays.
            world.deliver(said(n, n + 1_000_000, 1));
            world.sync(n, 1, 0);
        }
    }
    let users: Arc<[UserKey]> = (0..members).map(|n| user(n).0).collect();
    let recipients = match members {
        1 => Recipients::One(users[0]),
        2 => Recipients::Two([users[0], users[1]]),
        _ => Recipients::Many(users),
    };
    let conversation = if members <= 2 { direct(0, 1) } else { group(9) };
    let card = if members <= 2 { card(0, 1) } else { Arc::new(Card::Group) };
    world.edges.clear();
    let mut pushes = 0;
    for seq in 1..=rounds {
        let deliver = Deliver {
            conversation,
            card: Arc::clone(&card),
            recipients: recipients.clone(),
            head: at(seq),
            message_id: MessageId(seq),
            own_marks: OwnMarks::One((user(0).0, at(seq))),
            memberships: Vec::new(),
            fresh: Some(Box::new(Fresh {
                sender_edge: edge(0, 1),
                ..*fresh(conversation, seq, user(0).0)
            })),
        };
        let message = ToMailbox::Deliver(Box::new(deliver));
        let arrival = Arrival { message, token: Token::NONE, taken: None };
        world.boxes.handle_told(&mut world.ctx, arrival);
        while let Some((_, what)) = world.ctx.links.next_for_edge() {
            pushes += u64::from(matches!(what, ToEdge::Push(_)));
        }
    }
    pushes
}

#[test]
fn everybody_else_gets_one_push() {
    for active in [false, true] {
        assert_eq!(fan_out(20, active, 3), 19 * 3);
        assert_eq!(fan_out(2, active, 3), 3);
    }
}

#[test]
#[ignore = "takes long; for its time"]
fn fan_out_cold() {
    assert_eq!(fan_out(MEMBERS, false, ROUNDS), u64::from(MEMBERS - 1) * ROUNDS);
}

#[test]
#[ignore = "takes long; for its time"]
fn fan_out_active() {
    assert_eq!(fan_out(MEMBERS, true, ROUNDS), u64::from(MEMBERS - 1) * ROUNDS);
}

#[test]
#[ignore = "takes long; for its time"]
fn fan_out_two_cold() {
    assert_eq!(fan_out(2, false, 1_000_000), 1_000_000);
}

#[test]
#[ignore = "takes long; for its time"]
fn fan_out_two_active() {
    assert_eq!(fan_out(2, true, 1_000_000), 1_000_000);
}
