//! Four shards on however many cores there are, with next to no room between them: nobody waits
//! for anybody for ever, and nothing is lost.

use crate::load::{Load, UNHELD};
use crate::roost::{Setup, on_both_drivers};
use rustix::process::Signal;

on_both_drivers! {
    fn queues_of_two_places_and_credits_of_one_neither_stop_nor_lose(driver) {
        let config = "shards = 4\nsegment_bytes = 1048576\nlimits.queue_slots = 2\n\
                      limits.credit_per_rank = 1\nlimits.checkpoint_interval_ms = 100\n";
        let server = Setup::new(driver).config(&format!("{config}{UNHELD}")).start();
        let mut load = Load::new(24);
        load.write_until(&server, 3_000, |_| server.signal(Signal::KILL));
        let server = server.start_again();
        assert_eq!(load.ask_everybody(&server), [""; 0]);
        assert!(load.noted() >= 3_000);
    }
}
