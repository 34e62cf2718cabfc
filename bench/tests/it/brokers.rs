//! Other brokers, when they are installed: each is started, loses nothing, and is gone afterwards.

use super::{ANYWHERE, bench, measured, result_file, server_is_there};
use roost_bench::peers::{Peer, install_command, installed};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Something on a thread of its own, as long as this program runs.
fn aside(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name("aside".to_owned()).spawn(work).unwrap();
}

fn is_there(program: &str) -> bool {
    let there = installed(program).is_some();
    if !there {
        eprintln!("\n*** SKIPPED: {program} is not there; apt-get install -y {program} ***\n");
    }
    there
}

fn assert_pairs_and_group(target: &str) {
    let name: String = target.chars().filter(char::is_ascii_alphanumeric).collect();
    for scenario in ["pairs --pairs 3 --window 2", "fanout --subscribers 3 --rate 50", "hot"] {
        let line =
            format!("{scenario} --spawn {ANYWHERE} --target {target} --seconds 1 --warmup 0");
        let result = measured(&name, &line);
        let zero = Value::from(0);
        assert_eq!((&result["lost"], &result["duplicated"]), (&zero, &zero), "{target}");
        assert!(result["delivered_per_s"].as_f64().unwrap() > 0.0, "{target}: {scenario}");
        let differences = result["differences"].as_array().unwrap();
        assert!(differences[0].as_str().unwrap().starts_with("durability: "), "{target}");
        assert!(result.get("ticked_per_s").is_none(), "no broker ticks");
        let version = result["environment"]["versions"]["target"].as_str().unwrap();
        assert!(version.chars().any(|letter| letter.is_ascii_digit()), "{version}");
        assert!(result["server"]["rss_bytes"].as_u64().unwrap() > 0);
    }
}

fn assert_idle(target: &str) {
    let line = format!(
        "idle --spawn {ANYWHERE} --target {target} --connections 100 --seconds 1 --settle 0"
    );
    let result = measured(&format!("idle-{target}"), &line);
    assert_eq!((&result["connections"], &result["disconnected"]), (&100.into(), &0.into()));
    assert_eq!(result["heartbeats"], result["heartbeats_answered"]);
}

#[test]
fn redis_carries_messages() {
    if is_there("redis-server") {
        for target in ["redis", "redis-streams", "redis-streams --durable"] {
            assert_pairs_and_group(target);
        }
        assert_idle("redis");
    }
}

#[test]
fn mosquitto_carries_messages() {
    if is_there("mosquitto") {
        for how in ["", "--qos 0", "--mqtt-version 5", "--persistent-sessions --durable"] {
            assert_pairs_and_group(&format!("mqtt {how}"));
        }
        assert_idle("mqtt");
    }
}

#[test]
fn nats_carries_messages() {
    if is_there("nats-server") {
        for target in ["nats", "jetstream", "jetstream --durable"] {
            assert_pairs_and_group(target);
        }
        assert_idle("nats");
    }
}

#[test]
fn ejabberd_carries_messages() {
    if is_there("ejabberdctl") {
        for target in ["xmpp", "xmpp --durable"] {
            assert_pairs_and_group(target);
        }
        assert_idle("xmpp");
    }
}

#[test]
fn all_meet_by_turns() {
    if !(server_is_there() && is_there("redis-server")) {
        return;
    }
    let line = "versus --peers redis --rounds 2 --seconds 1 --warmup 0 --pairs 3 --rate 100 \
         --subscribers 3 --connections 100 --cpus 0";
    let result = measured("versus", line);
    let results = result["results"].as_array().unwrap();
    let targets: Vec<&str> = results.iter().map(|of| of["target"].as_str().unwrap()).collect();
    assert_eq!(targets[..3], ["roost", "redis", "redis-streams durable"]);
    assert_eq!(results.len(), 12, "three in four scenarios");
    for of in results {
        assert_eq!(of["rounds"].as_array().unwrap().len(), 2);
        assert!(of["command"].as_array().unwrap().len() > 3);
    }
    assert!(result["whole_run_s"].as_f64().unwrap() >= 24.0, "24 runs of a second each");
    let configurations = &result["settings"]["configurations"];
    let durable = configurations["redis-streams durable"].as_str().unwrap();
    assert!(durable.contains("appendfsync always"), "{durable}");
}

#[test]
fn a_broker_that_cannot_be_started_is_refused() {
    let output = bench("pairs --spawn --target websocket --seconds 1");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("use --server"), "{errors}");
    let output = bench("storm --spawn --target redis");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("idle, pairs"), "{errors}");
}

#[test]
fn missing_brokers_are_named_with_the_command_that_installs_them() {
    let command = install_command(&[Peer::Nats, Peer::Ejabberd]);
    assert_eq!(command, "apt-get install -y nats-server ejabberd");
    if installed("nats-server").is_none() {
        let output = bench("versus --peers nats");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("apt-get install -y nats-server"), "{errors}");
    }
}

#[test]
fn something_else_that_listens_is_no_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    aside(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
            aside(move || while stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {});
        }
    });
    for target in ["redis", "mqtt", "nats", "websocket"] {
        let line = format!("pairs --server {address} --target {target} --pairs 1 --seconds 1");
        let output = bench(&line);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{target}: {text}");
        assert!(text.contains("FAILED") && text.contains("could not connect"), "{target}: {text}");
    }
    let line = format!("pairs --server {address} --target xmpp --pairs 1 --seconds 1");
    let output = bench(&line);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("not what XMPP servers say"), "{text}");
}

/// A WebSocket server that sends back what it gets; only whole frames below 126 bytes.
fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let mut is_open = false;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&buffer[..count]);
        if !is_open {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            bytes.drain(..end + 4);
            is_open = true;
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")?;
        }
        while bytes.len() > 6 && bytes.len() >= 6 + usize::from(bytes[1] & 0x7f) {
            let length = bytes[1] & 0x7f;
            let kind = if bytes[0] & 0xf == 9 { 0x8a } else { bytes[0] };
            stream.write_all(&[kind, length])?;
            stream.write_all(&bytes[6..6 + usize::from(length)])?;
            bytes.drain(..6 + usize::from(length));
        }
    }
}

#[test]
fn an_echo_over_websocket_is_measured() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    aside(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            aside(move || drop(echo(stream)));
        }
    });
    let line = format!(
        "pairs --server {address} --target websocket --pairs 2 --window 2 --seconds 1 --warmup 0 \
         --cpus 0"
    );
    let result = measured("websocket", &line);
    assert_eq!((&result["lost"], &result["target"]), (&0.into(), &"websocket".into()));
    assert!(result["delivered_per_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_floor_is_measured_and_figures_are_held_against_it() {
    let floor = measured("floor", "floor --seconds 1 --connections 50 --cpus 0");
    for part in ["accept", "disk", "echo", "aead", "handshakes", "spin"] {
        assert!(floor[part].is_object(), "{part}");
    }
    let batch = &floor["echo"]["epoll"]["batch_8_x_100_b"];
    assert!(batch["messages_per_s"].as_f64().unwrap() > 0.0, "{floor}");
    assert!(floor["handshakes"]["resumed_per_s"].as_f64().unwrap() > 0.0);
    if is_there("redis-server") {
        let file = result_file("floor-kept");
        std::fs::write(&file, floor.to_string()).unwrap();
        let line = format!(
            "pairs --spawn {ANYWHERE} --target redis --pairs 2 --seconds 1 --warmup 0 --floor {}",
            file.display()
        );
        let result = measured("floor-ratio", &line);
        std::fs::remove_file(&file).unwrap();
        assert!(result["floor_ratio"]["delivered_per_s"].as_f64().unwrap() > 0.0, "{result}");
    }
    let output = bench("pairs --spawn --target redis --pairs 1 --seconds 1 --floor /none");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--floor /none"), "{text}");
}
