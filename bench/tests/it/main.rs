//! Tests of this crate from outside: the program itself, against the real server if it was built.
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod store;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BENCH: &str = env!("CARGO_BIN_EXE_roost-bench");

fn bench(line: &str) -> Output {
    let mut command = Command::new(BENCH);
    command.args(line.split_whitespace());
    command.output().unwrap()
}

/// The server beside the program under test. `cargo test --workspace` builds it; `-p roost-bench`
/// alone does not.
fn server_is_there() -> bool {
    let server = Path::new(BENCH).with_file_name("roost");
    if !server.exists() {
        eprintln!(
            "\n*** SKIPPED: {} is not there; build it with `cargo build -p roost-gateway` ***\n",
            server.display()
        );
    }
    server.exists()
}

/// The one processor that every machine has, for both sides.
const ANYWHERE: &str = "--server-cpus 0 --cpus 0";

fn result_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.json", std::process::id()))
}

fn measured(name: &str, line: &str) -> Value {
    let file = result_file(name);
    let output = bench(&format!("{line} --json {}", file.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let json = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_wrong_command_line_is_refused() {
    for line in ["", "pairs", "pairs --spawn --pairs 0", "pairs --spawn --body-bytes 15", "storm"] {
        let output = bench(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_server_that_does_not_start_is_explained() {
    if !server_is_there() {
        return;
    }
    let output = bench(&format!("idle --spawn {ANYWHERE} --server-args --shards=many"));
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("did not get ready") && errors.contains("many"), "{errors}");
}

#[test]
fn a_few_pairs_lose_nothing_in_a_closed_loop() {
    if !server_is_there() {
        return;
    }
    let line = format!("pairs --spawn {ANYWHERE} --pairs 5 --window 3 --seconds 3 --warmup 0");
    let result = measured("closed", &line);
    assert_eq!((&result["lost"], &result["duplicated"]), (&Value::from(0), &Value::from(0)));
    for field in ["sent_per_s", "delivered_per_s", "ticked_per_s", "connect_per_s"] {
        assert!(result[field].as_f64().unwrap() > 0.0, "{field}");
    }
    for stage in ["sent", "delivered", "ticked"] {
        let latency = &result["latency_us"][stage];
        let of = |name: &str| latency[name].as_u64().unwrap();
        assert!(0 < of("p50") && of("p50") <= of("p99"), "{latency}");
        assert!(of("p99") <= of("p999") && of("p999") <= of("max"), "{latency}");
    }
    assert!(result["server"]["cpu_us_per_message"].is_number());
    assert!(result["generator"]["limited"].is_boolean());
    assert!(result["fdatasync_us"]["overwritten"]["p50"].is_number());
}

#[test]
fn a_few_pairs_keep_a_rate() {
    if !server_is_there() {
        return;
    }
    let line = format!("pairs --spawn {ANYWHERE} --pairs 5 --rate 200 --seconds 3 --warmup 0");
    let result = measured("open", &line);
    assert_eq!(result["settings"]["rate"], 200);
    assert_eq!((&result["lost"], &result["duplicated"]), (&Value::from(0), &Value::from(0)));
    assert!(result["ticked_per_s"].as_f64().unwrap() > 20.0, "{result}");
}

#[test]
fn idle_connections_are_held_and_counted() {
    if !server_is_there() {
        return;
    }
    let result = measured("idle", &format!("idle --spawn {ANYWHERE} --connections 50 --seconds 1"));
    assert_eq!((&result["connections"], &result["disconnected"]), (&50.into(), &0.into()));
    assert!(result["server"]["user_bytes_per_connection"].is_number());
    assert_eq!(result["heartbeats"], result["heartbeats_answered"]);
}
