//! Checkpoints, crashes and evictions: what is soft is merged, and no change number is shown twice.

use super::*;

#[test]
fn a_row_of_a_cold_mailbox_is_merged_when_the_list_is_loaded() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(2, 1, 1));
    let cursor = world.sync(1, 1, 0).cursor;
    world.evict_all();
    world.deliver(said(2, 1, 2));
    world.deliver(said(3, 1, 1));
    let rows = world.boxes.rows.count;
    let page = world.sync(1, 1, cursor);
    let mut heads: Vec<u64> = page.entries.iter().map(|entry| entry.head).collect();
    heads.sort_unstable();
    assert_eq!((heads, world.boxes.rows.count), (vec![1, 2], rows - 2));
    assert!(page.cursor > cursor);
}

#[test]
fn rows_that_a_checkpoint_wrote_are_merged_too() {
    for crash in [false, true] {
        let mut world = World::new(Limits::default());
        world.connect(1, 1);
        world.deliver(said(2, 1, 1));
        world.sync(1, 1, 0);
        world.evict_all();
        world.deliver(said(2, 1, 2));
        world.checkpoint();
        assert_eq!(world.boxes.rows.count, 0);
        world.deliver(said(2, 1, 3));
        if crash {
            // What no checkpoint holds is told again by the conversation.
            world.restart();
            world.connect(1, 1);
            assert_eq!(world.entry(1, 1, direct(1, 2)).head, 2);
            world.deliver(Deliver { fresh: None, ..said(2, 1, 3) });
        }
        assert_eq!(world.entry(1, 1, direct(1, 2)).head, 3);
    }
}

#[test]
fn somebody_who_never_connected_finds_what_was_said() {
    let mut world = World::new(Limits::default());
    world.deliver(said(2, 1, 1));
    assert_eq!(world.boxes.len(), 0, "nothing is loaded for them");
    assert_eq!(world.ctx.stats.loads_total, 0);
    world.checkpoint();
    world.restart();
    world.connect(1, 1);
    let entry = world.entry(1, 1, direct(1, 2));
    assert_eq!((entry.head, entry.peer.as_str()), (1, "user-2"));
}

#[test]
fn a_change_number_that_was_shown_is_never_used_again() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    let mut cursor = 0;
    for round in 1..=6_u32 {
        for n in 0..5 {
            world.deliver(said(10 + n, 1, u64::from(round)));
        }
        let page = world.sync(1, 1, cursor);
        assert_eq!(page.entries.len(), 5, "round {round}: what changed has a number above");
        assert!(page.cursor > cursor);
        cursor = page.cursor;
        assert_eq!(world.sync(1, 1, cursor).entries, []);
        match round {
            1 => world.evict_all(),
            2 => world.checkpoint(),
            // Without a checkpoint the heads are told again, and have new numbers.
            3 | 5 => {
                world.restart();
                world.connect(1, 1);
            }
            4 => {
                world.checkpoint();
                world.evict_all();
                world.restart();
                world.connect(1, 1);
            }
            _ => {}
        }
    }
}

#[test]
fn numbers_go_on_behind_the_reserved_block() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    for seq in 1..=CHANGE_BLOCK + 10 {
        world.deliver(said(2, 1, seq));
        if seq == 1 {
            world.sync(1, 1, 0);
        }
    }
    let shown = world.sync(1, 1, 0).cursor;
    assert!(shown > CHANGE_BLOCK);
    world.restart();
    world.connect(1, 1);
    world.deliver(said(3, 1, 1));
    let page = world.sync(1, 1, shown);
    assert!(page.cursor > 2 * CHANGE_BLOCK, "{}", page.cursor);
    assert!(page.entries.iter().any(|entry| entry.peer == "user-3"));
}

#[test]
fn a_full_table_waits_for_a_checkpoint() {
    let mut world = World::new(Limits { head_table_rows_max: 3, ..Limits::default() });
    for peer in 2..=4 {
        let recipients = Recipients::One(user(1).0);
        world.deliver(Deliver { recipients, ..said(peer, 1, 1) });
    }
    assert!(!world.boxes.rows_full());
    let recipients = Recipients::One(user(1).0);
    world.deliver(Deliver { recipients, ..said(5, 1, 1) });
    assert!(world.boxes.rows_full());
    assert_eq!(world.boxes.rows.count, 3);
    world.checkpoint();
    assert!(!world.boxes.rows_full());
    world.connect(1, 1);
    assert_eq!(world.entries(1, 1).len(), 4);
}

#[test]
fn a_list_that_is_idle_leaves_memory_and_the_slot_stays_while_connected() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(2, 1, 1));
    world.sync(1, 1, 0);
    assert!(world.boxes.bytes() > 0);
    world.evict_all();
    assert_eq!((world.boxes.len(), world.boxes.bytes()), (1, 0));
    // Pushes need no list.
    world.edges.clear();
    let loads = world.ctx.stats.loads_total;
    world.deliver(said(2, 1, 2));
    assert_eq!((world.pushed().len(), world.ctx.stats.loads_total), (1, loads));
    world.disconnect(1, 1);
    world.evict_all();
    assert_eq!(world.boxes.len(), 0);
    world.connect(1, 1);
    assert_eq!(world.entry(1, 1, direct(1, 2)).head, 2);
}

#[test]
fn many_evictions_write_a_snapshot_only_when_something_changed() {
    let mut world = World::new(Limits::default());
    world.connect(1, 1);
    world.deliver(said(2, 1, 1));
    world.sync(1, 1, 0);
    world.evict_all();
    let number = |world: &World| world.boxes.cells.get(user(1).0).unwrap().slot.number;
    let before = number(&world);
    for _ in 0..3 {
        world.entries(1, 1);
        world.evict_all();
    }
    // Each time the copy of the cursor, at most.
    assert!(number(&world) <= before + 3, "{} after {before}", number(&world));
    world.restart();
    world.connect(1, 1);
    assert_eq!(world.entry(1, 1, direct(1, 2)).head, 1);
}

#[test]
fn who_synced_before_the_telling_was_done_is_pushed_what_was_missing() {
    for (cold, peers) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
        let mut world = World::new(Limits::default());
        world.connect(1, 1);
        world.deliver(said(2, 1, 1));
        let cursor = world.sync(1, 1, 0).cursor;
        world.checkpoint();
        world.deliver(said(2, 1, 2));
        // The head is lost with the process, and the device is there before it is told again.
        world.restart();
        world.connect(1, 1);
        assert_eq!(world.entry(1, 1, direct(1, 2)).head, 1);
        if cold {
            world.evict_all();
        }
        world.pushed();
        // To others on the same shard, too, as in a group.
        let recipients: Vec<UserKey> = (1..=peers).map(|n| user(n).0).collect();
        let recipients = Recipients::Many(recipients.into());
        let again = Deliver { recipients, fresh: None, ..said(2, 1, 2) };
        world.deliver(again.clone());
        let pushed = world.pushed();
        let [(to, server_frame::Body::News(news))] = pushed.as_slice() else {
            panic!("cold: {cold}, {peers}: {pushed:?}")
        };
        assert_eq!((*to, news.head), (edge(1, 1), 2));
        // Once: what is known is not pushed again.
        world.deliver(again);
        assert_eq!(world.pushed(), []);
        let page = world.sync(1, 1, cursor);
        assert_eq!(page.entries.iter().map(|entry| entry.head).collect::<Vec<_>>(), [2]);
    }
}
