//! Runs that end before they were to: what was measured is written, and the exit code says so.

use super::{ANYWHERE, BENCH, result_file, server_is_there};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

/// A run that would take an hour.
struct Long {
    child: Child,
    stderr: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Long {
    fn start(name: &str, target: &str) -> Self {
        let file = result_file(name);
        let line = format!(
            "pairs {target} {ANYWHERE} --pairs 2 --rate 50 --seconds 3600 --warmup 0 --progress \
             --json {}",
            file.display()
        );
        let mut command = Command::new(BENCH);
        command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, file }
    }

    /// A line comes every second, the first one perhaps when measuring has only just begun: the
    /// second one says that something was measured.
    fn wait_until_it_measures(&mut self) {
        let mut measured = 0;
        while measured < 2 {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it ended too soon");
            measured += u32::from(line.starts_with("measuring") && !line.contains(" 0/s"));
        }
    }

    /// The result it wrote though it failed.
    fn failed(mut self) -> Value {
        // What else it says is taken, so that it never waits for room.
        let rest = self.stderr.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(1), "{rest}");
        let json = fs::read_to_string(&self.file).unwrap();
        fs::remove_file(&self.file).unwrap();
        serde_json::from_str(&json).unwrap()
    }
}

fn failures(result: &Value) -> String {
    result["failures"].to_string()
}

#[test]
fn an_interrupt_ends_a_run_in_order() {
    if !server_is_there() {
        return;
    }
    let mut run = Long::start("interrupted", "--spawn");
    run.wait_until_it_measures();
    kill_process(Pid::from_child(&run.child), Signal::INT).unwrap();
    let result = run.failed();
    assert!(failures(&result).contains("ended by a signal"), "{}", failures(&result));
    assert!(result["delivered_per_s"].as_f64().unwrap() > 0.0);
    assert!(!failures(&result).contains("did not stop cleanly"), "{}", failures(&result));
}

#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    if !server_is_there() {
        return;
    }
    let data = result_file("dying").with_extension("data");
    let mut server = Command::new(Path::new(BENCH).with_file_name("roost"))
        .args(["serve", "--json", "--tcp", "127.0.0.1:0", "--tls", "off", "--admin", "off"])
        .args(["--shards", "1", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let address = ready["tcp"].as_str().unwrap();
    let mut run = Long::start("dying", &format!("--server {address} --data {}", data.display()));
    run.wait_until_it_measures();
    server.kill().unwrap();
    server.wait().unwrap();
    let result = run.failed();
    assert!(failures(&result).contains("lost its connection"), "{}", failures(&result));
    assert!(result["delivered_per_s"].as_f64().unwrap() > 0.0);
    fs::remove_dir_all(&data).unwrap();
}

/// Tokens of one server are nothing to another.
#[test]
fn a_wrong_key_is_explained() {
    if !server_is_there() {
        return;
    }
    let [right, wrong] = ["right", "wrong"].map(|name| result_file(name).with_extension("data"));
    let serve = |data: &Path| {
        let mut child = Command::new(Path::new(BENCH).with_file_name("roost"))
            .args(["serve", "--json", "--tcp", "127.0.0.1:0", "--tls", "off", "--admin", "off"])
            .args(["--shards", "1", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        (child, stdout, ready["tcp"].as_str().unwrap().to_owned())
    };
    let (mut other, _other_stdout, _) = serve(&wrong);
    let (mut server, _stdout, address) = serve(&right);
    let line = format!("pairs --server {address} --data {} {ANYWHERE} --pairs 2", wrong.display());
    let output = super::bench(&line);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--data must be the folder"), "{text}");
    for child in [&mut other, &mut server] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for data in [right, wrong] {
        fs::remove_dir_all(&data).unwrap();
    }
}
