//! `roost chat` as a process.

use crate::roost::{PATIENCE, Server, waits_for};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

fn roost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    for name in ["CONFIG", "DATA", "TCP", "TLS", "ADMIN", "SHARDS", "DRIVER", "DURABILITY", "TOKEN"]
    {
        command.env_remove(format!("ROOST_{name}"));
    }
    command
}

impl Server {
    /// What `roost token` prints.
    pub(crate) fn printed_token(&self, user: &str) -> String {
        let output = roost()
            .args(["token", "--user", user, "--data"])
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// `roost chat --json` over plain TCP, with the key of the server's data folder.
    pub(crate) fn chat(&self, user: &str, to: &str) -> ChatSetup {
        self.chat_of(user).args(&["--to", to])
    }

    /// The same for somebody who writes to nobody yet.
    pub(crate) fn chat_of(&self, user: &str) -> ChatSetup {
        let server = self.tcp.to_string();
        ChatSetup::new(&["--server", &server, "--user", user, "--json"]).path("--data", self.data())
    }

    /// Somebody who types, connected, as a device of this name.
    pub(crate) fn person(&self, user: &str, device: &str) -> Chat {
        let mut chat = self.chat_of(user).args(&["--device", device]).typing();
        chat.hears("caught_up");
        chat
    }
}

/// A chat that is not yet started.
#[derive(Debug)]
pub(crate) struct ChatSetup {
    command: Command,
    input: Option<Vec<u8>>,
    types: bool,
}

impl ChatSetup {
    pub(crate) fn new(args: &[&str]) -> Self {
        let mut command = roost();
        command.arg("chat").args(args);
        Self { command, input: None, types: false }
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
        let keys = child.stdin.take();
        Chat { child, events, seen: Vec::new(), looked: 0, stderr: Some(stderr), keys }
    }

    /// Starts it with somebody who types: see [`Chat::types`].
    pub(crate) fn typing(mut self) -> Chat {
        self.types = true;
        self.start()
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
        let is_piped = self.types || self.input.is_some();
        let stdin = if is_piped { Stdio::piped() } else { Stdio::null() };
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
    /// How many of those were looked at by [`Chat::next`].
    looked: usize,
    stderr: Option<JoinHandle<String>>,
    keys: Option<ChildStdin>,
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

    /// Types a line.
    pub(crate) fn types(&mut self, line: &str) {
        let keys = self.keys.as_mut().expect("it was started with somebody who types");
        keys.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The first event that is the one, among those that no earlier call came to or passed.
    #[track_caller]
    pub(crate) fn next(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.seen.get(self.looked) {
            self.looked += 1;
            if is_it(event) {
                return event.clone();
            }
        }
        let found = self.until(what, is_it).clone();
        self.looked = self.seen.len();
        found
    }

    /// The next event of a kind, as [`Chat::next`].
    #[track_caller]
    pub(crate) fn hears(&mut self, kind: &str) -> Value {
        self.next(kind, |event| event["event"] == kind)
    }

    /// Types a line, and waits for what it is answered with.
    #[track_caller]
    pub(crate) fn asks(&mut self, line: &str, kind: &str) -> Value {
        self.types(line);
        self.next(kind, |event| event["event"] == kind || event["event"] == "error")
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
        let status = waits_for(&mut self.child);
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
