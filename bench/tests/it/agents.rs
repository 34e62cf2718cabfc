//! Several generators do a run together.

use super::{ANYWHERE, BENCH, measured, server_is_there};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

struct Agent {
    child: Child,
    /// Open as long as it runs.
    _stdout: BufReader<ChildStdout>,
    address: String,
}

impl Agent {
    fn start() -> Self {
        let mut command = Command::new(BENCH);
        command.args(["agent", "--listen", "127.0.0.1:0", "--cpus", "0", "--once"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at ").unwrap().to_owned();
        Self { child, _stdout: stdout, address }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It has ended by itself, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn two_agents_share_the_pairs_of_a_run() {
    if !server_is_there() {
        return;
    }
    let (one, other) = (Agent::start(), Agent::start());
    let line = format!(
        "pairs --spawn {ANYWHERE} --pairs 5 --rate 100 --seconds 2 --warmup 0 --agents {},{}",
        one.address, other.address
    );
    let result = measured("agents", &line);
    assert_eq!((&result["connections"], &result["lost"]), (&10.into(), &0.into()));
    assert_eq!(result["generator"]["agents"], 2);
    assert!(result["delivered_per_s"].as_f64().unwrap() > 20.0, "{result}");
    assert!(result["latency_us"]["delivered"]["p50"].as_u64().unwrap() > 0);
}
