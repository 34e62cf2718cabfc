//! Tests of this crate from outside: the program itself, against the real server if it was built.
#![expect(clippy::unwrap_used, reason = "clippy only sees the functions that are tests themselves")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod agents;
mod brokers;
mod cold;
mod endings;
mod refusals;
mod scenarios;
mod store;
mod tun;

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
