//! Two people chat through the real binary: a book's worth of lines, with everything that goes
//! wrong on the way. Bob ends with every line exactly once and in order, Alice with a tick for
//! every line.

use crate::roost::{Setup, on_both_drivers};
use crate::support::{ChatSetup, events_in, of};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The lines of a book: this repository's own pages, and what a book may hold besides.
fn book(title: &str) -> Vec<String> {
    let mut lines = vec![format!("{title} – «Ρουστ», 第一章, 🐦"), String::new()];
    for page in [
        include_str!("../../../protocol/PROTOCOL.md"),
        include_str!("../../../LICENSE"),
        include_str!("../../../ARCHITECTURE.md"),
        include_str!("../../../protocol/PROTOCOL.md"),
    ] {
        lines.extend(page.lines().map(str::to_owned));
    }
    lines.push("\"quoted\" \\ back\tslash \u{7f} é".to_owned());
    lines.push("long ".repeat(10_000));
    assert!(lines.len() > 2_000, "a book has thousands of lines");
    lines
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Bob's events hold every line exactly once, in order, from Alice.
#[track_caller]
fn has_read(events: &[Value], lines: &[String], first_seq: u64) {
    let messages: Vec<&Value> = of("message", events).collect();
    for (index, (message, line)) in messages.iter().zip(lines).enumerate() {
        assert_eq!(message["body"], line.as_str(), "line {index}");
        assert_eq!(message["seq"], first_seq + u64::try_from(index).unwrap(), "line {index}");
        assert_eq!(message["from"], "alice");
        assert_eq!(message["own"], false);
    }
    assert_eq!(messages.len(), lines.len(), "so many lines of the book");
    no_errors(events);
}

/// Alice's events hold one tick for every line.
#[track_caller]
fn has_ticks(events: &[Value], lines: &[String], first_seq: u64) {
    let sent: Vec<u64> = of("sent", events).map(|event| event["seq"].as_u64().unwrap()).collect();
    let last = first_seq + u64::try_from(lines.len()).unwrap();
    assert_eq!(sent, (first_seq..last).collect::<Vec<_>>(), "a tick for each line, in order");
    let names: BTreeSet<&str> =
        of("sent", events).map(|event| event["client_message_id"].as_str().unwrap()).collect();
    assert_eq!(names.len(), lines.len(), "each line has its own name");
    no_errors(events);
}

#[track_caller]
fn no_errors(events: &[Value]) {
    assert_eq!(of("error", events).collect::<Vec<_>>(), Vec::<&Value>::new());
}

/// The highest watermark of a kind.
fn up_to(kind: &str, events: &[Value]) -> u64 {
    of(kind, events).map(|event| event["up_to"].as_u64().unwrap()).max().unwrap_or(0)
}

fn count(lines: &[String]) -> u64 {
    u64::try_from(lines.len()).unwrap()
}

on_both_drivers! {
    fn a_book_goes_to_somebody_who_is_there(driver) {
        let house = Setup::new(driver).with_tls().start();
        let lines = book("online");
        let mut bob = house.chat("bob", "alice").args(&["--receive-only"]).start();
        bob.until_event("connected");
        let mut alice = house.chat("alice", "bob").input(&text(&lines)).start();
        alice.until("read tick for all", |event| {
            event["event"] == "read" && event["up_to"] == count(&lines)
        });
        let mut alice = alice.kill();
        has_ticks(&alice, &lines, 1);
        assert_eq!(up_to("delivered", &alice), count(&lines));
        has_read(&bob.kill(), &lines, 1);
        // Killed and come back: nothing is said or shown again.
        alice = house.chat("alice", "bob").args(&["--exit-when-idle", "1"]).start().finish();
        has_ticks(&alice, &[], 1);
        let bob = house.chat("bob", "alice").args(&["--exit-when-idle", "1"]).start().finish();
        has_read(&bob, &[], 1);
    }

    fn a_book_waits_for_somebody_who_is_away(driver) {
        let house = Setup::new(driver).with_tls().start();
        let idle = ["--exit-when-idle", "1"];
        let (first, second) = (book("first"), book("second"));
        let alice = house.chat("alice", "bob").args(&idle).input(&text(&first)).start().finish();
        has_ticks(&alice, &first, 1);
        assert_eq!(up_to("delivered", &alice), 0, "nobody was there");
        let bob = house.chat("bob", "alice").args(&idle).args(&["--receive-only"]).start().finish();
        has_read(&bob, &first, 1);
        // Bob was there, is away again, and returns as the same device.
        let seq = count(&first) + 1;
        let alice = house.chat("alice", "bob").args(&idle).input(&text(&second)).start().finish();
        has_ticks(&alice, &second, seq);
        assert_eq!(up_to("read", &alice), count(&first));
        let bob = house.chat("bob", "alice").args(&idle).args(&["--receive-only"]).start().finish();
        has_read(&bob, &second, seq);
        let mut alice = house.chat("alice", "bob").args(&["--receive-only"]).start();
        alice.until("read tick for all", |event| {
            event["event"] == "read" && event["up_to"] == count(&first) + count(&second)
        });
        no_errors(&alice.kill());
    }

    fn the_server_is_killed_in_the_middle(driver) {
        let mut house = Setup::new(driver).with_tls().start();
        let lines = book("kill -9");
        let mut bob = house.chat("bob", "alice").args(&["--receive-only"]).start();
        bob.until_event("connected");
        let alice = house.chat("alice", "bob").args(&["--exit-when-idle", "3"]);
        let alice = alice.input(&text(&lines)).start();
        for part in 1..=3 {
            let middle = count(&lines) * part / 4;
            bob.until("line in the middle", |event| {
                event["event"] == "message" && event["seq"] == middle
            });
            house.kill();
            bob.until_event("disconnected");
            house.restart();
        }
        has_ticks(&alice.finish(), &lines, 1);
        bob.until("last line", |event| {
            event["event"] == "message" && event["seq"] == count(&lines)
        });
        has_read(&bob.kill(), &lines, 1);
    }

    fn the_reader_is_killed_in_the_middle(driver) {
        let house = Setup::new(driver).with_tls().start();
        let lines = book("bob, killed");
        let alice = house.chat("alice", "bob").args(&["--exit-when-idle", "1"]);
        let alice = alice.input(&text(&lines)).start();
        let out = house.path("bob.jsonl");
        let bob = || house.chat("bob", "alice").args(&["--receive-only"]);
        for part in 1..=8 {
            let mut child = bob().start_into(&out);
            // Killed while it writes: at some moment after its share of the book.
            wait_for_lines(&out, lines.len() * part / 10);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // What she still has to say may take longer than he waits when he is idle.
        has_ticks(&alice.finish(), &lines, 1);
        let mut last = bob().args(&["--exit-when-idle", "2"]).start_into(&out);
        assert!(last.wait().unwrap().success());
        has_read(&events_in(&out), &lines, 1);
    }

    fn lines_wait_for_a_server_and_survive_their_writer(driver) {
        let mut house = Setup::new(driver).with_tls().start();
        let lines = book("no server").split_off(2_000);
        house.kill();
        // Alice takes lines while there is no server, and is killed.
        let mut alice = house.chat("alice", "bob").input("one\ntwo\n\nfour").start();
        alice.until_event("disconnected");
        let state = house.data().join("chat");
        wait_until(|| holds(&state, b"four"));
        assert_eq!(of("sent", &alice.kill()).count(), 0);
        house.restart();
        let alice = house.chat("alice", "bob").args(&["--exit-when-idle", "1"]);
        let alice = alice.input(&text(&lines)).start().finish();
        let mut all = ["one", "two", "", "four"].map(str::to_owned).to_vec();
        all.extend(lines);
        has_ticks(&alice, &all, 1);
        let bob = house.chat("bob", "alice").args(&["--exit-when-idle", "1"]).start().finish();
        has_read(&bob, &all, 1);
    }

    fn the_same_over_tls(driver) {
        let house = Setup::new(driver).with_tls().start();
        let lines = book("secret");
        let server = format!("localhost:{}", house.tls().port());
        let certificate = house.data().join("keys/tls-cert.pem");
        let idle = ["--exit-when-idle", "1"];
        let tls = |user: &str, to: &str| {
            ChatSetup::new(&["--server", &server, "--tls", "--user", user, "--to", to, "--json"])
        };
        let mut bob = tls("bob", "alice").path("--data", house.data()).start();
        bob.until_event("connected");
        let alice = tls("alice", "bob")
            .args(&["--token", &house.printed_token("alice")])
            .path("--ca", &certificate)
            .env("XDG_STATE_HOME", &house.path("state"))
            .args(&idle)
            .input(&text(&lines));
        has_ticks(&alice.start().finish(), &lines, 1);
        bob.until("last line", |event| {
            event["event"] == "message" && event["seq"] == count(&lines)
        });
        has_read(&bob.kill(), &lines, 1);
        // He leaves in order as well, and nothing comes twice.
        let bob = tls("bob", "alice").path("--data", house.data()).args(&idle).start();
        has_read(&bob.finish(), &[], 1);
        // Somebody else's certificate.
        let other = Setup::new(driver).with_tls().start();
        let said = tls("alice", "bob")
            .args(&["--token", &house.printed_token("alice")])
            .path("--ca", &other.data().join("keys/tls-cert.pem"))
            .path("--state", &house.path("other.state"))
            .refused();
        assert!(said.contains("is not trusted") && said.contains("--ca"), "{said}");
    }

    fn a_chat_that_cannot_be_says_why(driver) {
        let house = Setup::new(driver).with_tls().start();
        let server = house.tcp.to_string();
        let line = ["--server", &server, "--user", "alice", "--to", "bob", "--json"];
        let chat = || ChatSetup::new(&line).path("--state", &house.path("a.state"));
        let said = chat().path("--data", &house.path("nowhere")).refused();
        assert!(said.contains("nowhere"), "{said}");
        let said = chat().args(&["--token", &house.printed_token("carol")]).refused();
        assert!(said.contains("\"carol\"") && said.contains("--user"), "{said}");
        let forged = format!("{}x", house.printed_token("alice"));
        let said = chat().args(&["--token", &forged]).refused();
        assert!(said.contains("token") && said.contains("--data"), "{said}");
        let other = house.chat("carol", "bob").path("--state", &house.path("a.state")).refused();
        assert!(other.contains("\"alice\"") && other.contains("--state"), "{other}");
        let said = chat().args(&["--tls", "--token", &house.printed_token("alice")]).refused();
        assert!(said.contains("--ca"), "{said}");
        let said = chat().args(&["--tls"]).path("--data", &house.path("nowhere")).refused();
        assert!(said.contains("tls-cert.pem") && said.contains("--ca"), "{said}");
        // As the same device twice.
        let mut first = house.chat("alice", "bob").start();
        first.until_event("connected");
        let said = house.chat("alice", "bob").refused();
        assert!(said.contains("--state"), "{said}");
        // A line that is no message is told of; the others go out.
        let long = format!("before\n{}\nafter\n", "x".repeat(65_537));
        let chat = house.chat("dora", "bob").args(&["--exit-when-idle", "1"]).input(&long);
        let (status, events, said) = chat.start().end();
        assert_eq!(status.code(), Some(1));
        assert!(said.contains("1 lines were not sent"), "{said}");
        assert_eq!(of("sent", &events).count(), 2);
        let codes: Vec<_> = of("error", &events).map(|event| event["code"].clone()).collect();
        assert_eq!(codes, ["too_large"]);
    }
}

/// Waits until a file has so many lines: no event announces that.
fn wait_for_lines(file: &Path, lines: usize) {
    wait_until(|| {
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count() >= lines
    });
}

/// Whether some file in a folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    let Ok(files) = std::fs::read_dir(folder) else { return false };
    files
        // One that was written anew under another name is gone by now.
        .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .any(|content| content.windows(bytes.len()).any(|window| window == bytes))
}

/// Looks again and again, without a clock: each look costs a read.
#[track_caller]
fn wait_until(mut is_true: impl FnMut() -> bool) {
    for _ in 0..2_000_000_u32 {
        if is_true() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("it does not happen");
}
