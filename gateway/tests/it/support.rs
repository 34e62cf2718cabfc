//! `roost chat` as a process, and a server that keeps its address over restarts.

use crate::roost::{Driver, PATIENCE};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

fn roost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    for name in ["CONFIG", "DATA", "TCP", "TLS", "ADMIN", "SHARDS", "DRIVER", "DURABILITY", "TOKEN"]
    {
        command.env_remove(format!("ROOST_{name}"));
    }
    command
}

/// A data folder and the server on it. It is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct House {
    folder: TempDir,
    driver: Driver,
    server: Option<Child>,
    pub(crate) tcp: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl House {
    /// Starts a server on free ports.
    pub(crate) fn new(driver: Driver) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = TempDir::new().unwrap();
        let mut house = Self { folder, driver, server: None, tcp: nowhere, tls: nowhere };
        house.start();
        house
    }

    /// Starts the server on the ports it had before.
    pub(crate) fn start(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut command = roost();
        command.args(["serve", "--json", "--shards", "2", "--admin", "127.0.0.1:0"]);
        command.args(["--driver", self.driver.name()]).arg("--data").arg(self.data());
        command.arg("--tcp").arg(self.tcp.to_string()).arg("--tls").arg(self.tls.to_string());
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.server = Some(child);
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("not ready: {}", fs::read_to_string(self.log()).unwrap()));
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        (self.tcp, self.tls) = (address("tcp"), address("tls"));
    }

    /// Ends the server as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// What `roost token` prints.
    pub(crate) fn token(&self, user: &str) -> String {
        let output = roost()
            .args(["token", "--user", user, "--data"])
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// `roost chat --json` over plain TCP, with the house's key.
    pub(crate) fn chat(&self, user: &str, to: &str) -> ChatSetup {
        let server = self.tcp.to_string();
        ChatSetup::new(&["--server", &server, "--user", user, "--to", to, "--json"])
            .path("--data", &self.data())
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It may have ended by itself; there is nothing to do about an error.
            drop(server.kill());
            drop(server.wait());
        }
        if thread::panicking() {
            eprintln!("log of the server:\n{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// A chat that is not yet started.
#[derive(Debug)]
pub(crate) struct ChatSetup {
    command: Command,
    input: Option<Vec<u8>>,
}

impl ChatSetup {
    pub(crate) fn new(args: &[&str]) -> Self {
        let mut command = roost();
        command.arg("chat").args(args);
        Self { command, input: None }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn path(mut self, name: &str, path: &Path) -> Self {
        self.command.arg(name).arg(path);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &Path) -> Self {
        self.command.env(name, value);
        self
    }

    /// What comes on stdin, before it ends.
    pub(crate) fn input(mut self, text: &str) -> Self {
        self.input = Some(text.as_bytes().to_vec());
        self
    }

    /// Starts it; its events are read as they come.
    pub(crate) fn start(mut self) -> Chat {
        self.command.stdout(Stdio::piped());
        let mut child = self.spawn();
        let stdout = child.stdout.take().unwrap();
        let (sender, events) = channel();
        let reader = thread::Builder::new().name("events".to_owned());
        let reader = reader.spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.unwrap();
                // A chat that is killed may leave half a line.
                let Ok(event) = serde_json::from_str(&line) else { break };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        drop(reader.unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        Chat { child, events, seen: Vec::new(), stderr: Some(stderr) }
    }

    /// Starts it with its output appended to a file.
    pub(crate) fn start_into(mut self, file: &Path) -> Child {
        let out = OpenOptions::new().create(true).append(true).open(file).unwrap();
        self.command.stdout(out);
        let mut child = self.spawn();
        drop(drain(child.stderr.take().unwrap()));
        child
    }

    /// Runs what must end by itself with an error; gives its last word.
    pub(crate) fn refused(mut self) -> String {
        self.command.stdout(Stdio::piped());
        let output = self.spawn().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said.lines().last().unwrap_or_default().to_owned()
    }

    fn spawn(&mut self) -> Child {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self.command.stdin(stdin).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(input) = self.input.take() {
            let mut stdin = child.stdin.take().unwrap();
            let writer = thread::Builder::new().name("input".to_owned());
            // A chat that is killed does not read to the end.
            let writer = writer.spawn(move || drop(stdin.write_all(&input)));
            drop(writer.unwrap());
        }
        child
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    let reader = thread::Builder::new().name("stderr".to_owned()).spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    });
    reader.unwrap()
}

/// A running chat. It is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Chat {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    stderr: Option<JoinHandle<String>>,
}

impl Chat {
    /// Reads on until an event is the one.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> &Value {
        loop {
            let Ok(event) = self.events.recv_timeout(PATIENCE) else {
                panic!("no {what}; the last events are {:?}", self.last());
            };
            let found = is_it(&event);
            self.seen.push(event);
            if found {
                return self.seen.last().unwrap();
            }
        }
    }

    /// Reads on until the next event of a kind.
    #[track_caller]
    pub(crate) fn until_event(&mut self, kind: &str) -> &Value {
        self.until(kind, |event| event["event"] == kind)
    }

    fn last(&self) -> &[Value] {
        self.seen.get(self.seen.len().saturating_sub(5)..).unwrap_or_default()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.seen.extend(self.events.iter());
        std::mem::take(&mut self.seen)
    }

    /// Waits until it ends by itself; gives all its events.
    #[track_caller]
    pub(crate) fn finish(self) -> Vec<Value> {
        let (status, events, said) = self.end();
        assert!(status.success(), "{status}: {said}");
        assert_eq!(said, "", "nothing is wrong, so nothing is said");
        events
    }

    /// Waits until it ends; gives also what it said.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<Value>, String) {
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => self.seen.push(event),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it does not end; the last events are {:?}", self.last());
                }
            }
        }
        let status = self.child.wait().unwrap();
        let said = self.stderr.take().unwrap().join().unwrap();
        (status, std::mem::take(&mut self.seen), said)
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about an error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The events of one kind.
pub(crate) fn of<'a>(kind: &'a str, events: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["event"] == kind)
}

/// The events in a file.
pub(crate) fn events_in(file: &Path) -> Vec<Value> {
    let lines = BufReader::new(File::open(file).unwrap()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}
