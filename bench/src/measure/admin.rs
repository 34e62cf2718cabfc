//! What a server says of itself on its admin listener.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::Builder;
use std::time::Duration;

/// A server that is busy answers late; one that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Values by name, added up over shards.
pub type Values = BTreeMap<String, f64>;

/// A question under way on a thread of its own, so that the generator's loop goes on.
#[derive(Debug)]
pub struct Asked(Option<Receiver<Option<Values>>>);

impl Asked {
    /// Asks now.
    #[must_use]
    pub fn at(admin: Option<SocketAddr>) -> Self {
        let Some(admin) = admin else { return Self(None) };
        let (sender, receiver) = channel();
        let ask = move || {
            // Nobody waits any more when the run was ended: then the answer is not needed.
            drop(sender.send(ask(admin)));
        };
        let started = Builder::new().name("ask-admin".to_owned()).spawn(ask);
        Self(started.is_ok().then_some(receiver))
    }

    /// Waits for the answer; empty without one.
    #[must_use]
    pub fn answer(self) -> Values {
        let answer = self.0.and_then(|receiver| receiver.recv_timeout(PATIENCE * 2).ok().flatten());
        answer.unwrap_or_default()
    }
}

fn ask(admin: SocketAddr) -> Option<Values> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(parse(&text))
}

/// Lines like `roost_commits_total{shard="0"} 12`, the last word a number.
fn parse(text: &str) -> Values {
    let mut values = Values::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        if let Ok(value) = value.trim().parse::<f64>() {
            *values.entry(name.to_owned()).or_default() += value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_added_up() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE roost_flushes counter\n\
                    roost_flushes_total{shard=\"0\"} 3\nroost_flushes_total{shard=\"1\"} 4\n\
                    roost_allocator_allocated_bytes 77\n";
        let values = parse(text);
        assert_eq!(values.get("roost_flushes_total"), Some(&7.0));
        assert_eq!(values.get("roost_allocator_allocated_bytes"), Some(&77.0));
    }

    #[test]
    fn a_server_without_an_admin_listener_says_nothing() {
        assert!(Asked::at(None).answer().is_empty());
    }
}
