//! `roost store` as a process, on a store that a real server writes.

use crate::roost::{Driver, Server, Setup};
use crate::support::of;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Segments are sealed soon.
const CONFIG: &str = "segment_bytes = 1048576\nlimits.checkpoint_interval_ms = 100\n";

/// What a command ended with.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}{}", self.out, self.err))
    }
}

/// `roost store …` on a data folder.
fn store(data: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    command.env_remove("ROOST_DATA").stdin(Stdio::null());
    let output = command.arg("store").args(args).arg("--data").arg(data).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().unwrap();
    Ended { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// A server on which alice wrote so many lines to bob, and bob read them.
fn talked(lines: usize) -> Server {
    let driver = if Driver::Uring.is_here() { Driver::Uring } else { Driver::Epoll };
    let server = Setup::new(driver).config(CONFIG).start();
    let text: String = (0..lines).map(|line| format!("line {line} of many\n")).collect();
    let idle = ["--exit-when-idle", "1"];
    server.chat("alice", "bob").args(&idle).input(&text).start().finish();
    let bob = server.chat("bob", "alice").args(&idle).args(&["--receive-only"]).start().finish();
    assert_eq!(of("message", &bob).count(), lines);
    server
}

/// What `roost store inspect` says.
fn inspected(data: &Path) -> Value {
    let ended = store(data, &["inspect", "--json"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    ended.json()
}

/// Waits until the records of earlier runs are in tables.
fn sealed(server: &Server) {
    let done = |said: &Value| {
        let old = said["cuts"].as_array().unwrap().len();
        old == 0 && !said["tables"].as_array().unwrap().is_empty()
    };
    // Each look is a process of its own.
    assert!((0..5000).any(|_| done(&inspected(server.data()))), "not sealed");
}

/// The texts of all messages of alice and bob, in order.
fn messages(data: &Path) -> (i32, usize) {
    let ended = store(data, &["export", "--user", "alice", "--with", "bob"]);
    let records = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seqs: Vec<u64> = records.filter_map(|one| one["seq"].as_u64().filter(|&s| s > 0)).collect();
    assert!(seqs.is_sorted(), "the records of a stream come in order");
    (ended.code, seqs.len())
}

fn files(data: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("store")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    found
}

/// Flips a bit.
fn damage(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_live_store_is_looked_at_and_not_repaired() {
    let server = talked(200);
    let data = server.data();
    let said = inspected(data);
    assert_eq!(said["live"], true);
    assert_eq!(said["process"], server.pid());
    assert_eq!(said["run"], 1);
    let verified = store(data, &["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    let live = format!("live: process {}", server.pid());
    assert!(verified.out.contains(&live) && verified.out.ends_with("all whole\n"));
    assert_eq!(verified.err, "", "nobody watches, so there is no bar");
    assert_eq!(messages(data), (0, 200));
    let stats = store(data, &["stats", "--json"]).json();
    assert!(stats["records"].as_u64().unwrap() >= 200, "{stats}");
    assert_eq!(stats["tables_a_stream"][0], stats["streams"]);
    let refused = store(data, &["repair"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains(&format!("in use by process {}", server.pid())));
    assert!(refused.err.contains("stop it"), "{}", refused.err);
}

#[test]
fn a_store_is_looked_at_while_it_is_written() {
    let server = talked(10);
    // More than the first segments hold.
    let line = "x".repeat(2000);
    let text: String = (0..5000).map(|number| format!("{number}: {line}\n")).collect();
    let chat = server.chat("carol", "dave").args(&["--exit-when-idle", "2"]).input(&text).start();
    let (mut last, mut sealed) = (0, 0);
    for _ in 0..1000 {
        let verified = store(server.data(), &["verify", "--json"]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
        let export = store(server.data(), &["export", "--user", "carol", "--with", "dave"]);
        assert_eq!(export.code, 0, "{}", export.err);
        let records = export.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let seqs = records.filter_map(|one| one["seq"].as_u64());
        let seqs: Vec<u64> = seqs.filter(|&seq| seq > 0).collect();
        let count = u64::try_from(seqs.len()).unwrap();
        assert!(seqs.iter().copied().eq(1..=count), "no message is missing in the middle");
        assert!(count >= last, "what was there is there");
        last = count;
        let tables = inspected(server.data())["tables"].as_array().unwrap().len();
        sealed += usize::from(tables > 0);
        if count == 5000 && sealed > 5 {
            break;
        }
    }
    assert!(last == 5000 && sealed > 5, "{last} messages, tables seen {sealed} times");
    chat.finish();
}

#[test]
fn a_damaged_store_is_repaired_and_served_again() {
    let mut server = talked(150).start_again();
    sealed(&server);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let data = server.data().to_owned();
    let before = inspected(&data);
    assert_eq!((&before["live"], &before["clean"]), (&Value::from(false), &Value::from(true)));
    assert_eq!(messages(&data), (0, 150));
    let whole = store(&data, &["repair"]);
    assert_eq!((whole.code, whole.out.contains("no damage to repair")), (0, true), "{}", whole.err);
    assert_eq!(inspected(&data)["run"], before["run"]);

    // In the first table: a byte of the head of its first page, right behind the file's header,
    // since no stream here is long enough for chunks before it.
    let table = files(&data, "table").remove(0);
    let page = 64;
    damage(&table, page + 8);
    let name = table.file_name().unwrap().to_str().unwrap();
    let verified = store(&data, &["verify", "--json"]);
    assert_eq!(verified.code, 1, "{}", verified.err);
    let flaw = &verified.json()["damage"][0];
    assert_eq!((flaw["file"].as_str(), flaw["kind"].as_str()), (Some(name), Some("page")));
    assert_eq!(flaw["offset"], page);
    assert!(store(&data, &["verify"]).out.contains(name));
    assert_eq!(messages(&data).0, 1, "what is left out is said");

    let dry = store(&data, &["repair", "--dry-run"]);
    assert_eq!(dry.code, 1, "{}", dry.err);
    assert!(dry.out.contains("would be written anew"), "{}", dry.out);
    assert!(dry.out.ends_with("nothing was changed\n"), "{}", dry.out);
    assert_eq!(store(&data, &["verify"]).code, 1);
    let repaired = store(&data, &["repair", "--json"]);
    assert_eq!(repaired.code, 0, "{}", repaired.err);
    assert_eq!(repaired.json()["files"][0]["lost"], 0);
    assert!(data.join("store/damaged").join(name).exists());
    assert_eq!(store(&data, &["verify"]).code, 0);
    assert_eq!(messages(&data), (0, 150), "chunks say whose they are");
    let after = inspected(&data);
    assert_ne!(after["incarnation"], before["incarnation"]);
    assert_eq!(repaired.json()["incarnation"], after["incarnation"]);

    let server = server.start_again();
    let idle = ["--exit-when-idle", "1"];
    let alice = server.chat("alice", "bob").args(&idle).input("and on\n").start().finish();
    assert_eq!(of("sent", &alice).map(|one| one["seq"].as_u64()).collect::<Vec<_>>(), [Some(151)]);
    assert_eq!(inspected(&data)["incarnation"], after["incarnation"]);
}

#[test]
fn a_segment_that_refuses_to_open_is_repaired() {
    let mut server = talked(100);
    server.kill();
    let data = server.data().to_owned();
    let of_both = ["--user", "alice", "--with", "bob"];
    let found = store(&data, &[&["inspect", "--json"][..], &of_both].concat()).json();
    let part = &found["files"][0];
    let record = &part["records"][50];
    let offset = usize::try_from(record["offset"].as_u64().unwrap()).unwrap();
    let segment = data.join("store").join(part["file"].as_str().unwrap());
    damage(&segment, offset + 60);
    let (code, left) = messages(&data);
    assert_eq!((code, left), (1, 99), "one is damaged");
    assert_eq!(store(&data, &["verify"]).code, 1);
    let refused = Setup::new(Driver::Epoll).refused_on(&data, &[]);
    assert!(refused.contains("damaged at byte"), "{refused}");

    let repaired = store(&data, &["repair"]);
    assert_eq!(repaired.code, 0, "{}{}", repaired.out, repaired.err);
    assert!(repaired.out.contains(found["stream"].as_str().unwrap()), "{}", repaired.out);
    assert!(repaired.out.contains("--cut-at-holes"), "{}", repaired.out);
    assert_eq!(messages(&data), (0, 99));
    let cut = store(&data, &["repair", "--cut-at-holes"]);
    assert_eq!(cut.code, 0, "{}{}", cut.out, cut.err);
    let (code, left) = messages(&data);
    assert!(code == 0 && (20..60).contains(&left), "{left} messages are before the hole");
    assert_eq!(store(&data, &["verify"]).code, 0);
    let server = server.start_again();
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    let idle = ["--exit-when-idle", "1"];
    let bob = server.chat("bob", "alice").args(&idle).input("still there?\n").start().finish();
    assert_eq!(of("sent", &bob).count(), 1);
}

#[test]
fn what_is_no_store_is_said() {
    let place = tempfile::TempDir::new().unwrap();
    for command in ["inspect", "verify", "stats", "export", "repair"] {
        let ended = store(place.path(), &[command]);
        assert_eq!(ended.code, 2, "{command}");
        assert!(ended.err.starts_with("roost: ") && ended.err.contains("--data"), "{}", ended.err);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{command} made something");
    }
    fs::create_dir(place.path().join("store")).unwrap();
    fs::write(place.path().join("store/catalogue"), b"something else").unwrap();
    assert_eq!(store(place.path(), &["verify"]).code, 1);
    let refused = store(place.path(), &["repair"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("catalogue") && refused.err.contains("backup"), "{}", refused.err);
}
