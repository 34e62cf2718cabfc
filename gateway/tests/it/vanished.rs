//! Peers that are gone without a word: no end, no reset, no acknowledgement. That takes a network
//! whose packets can be thrown away, which only root can make.

use crate::device::{Bystanders, Device, Wire, hello, message};
use crate::leaks::sockets_at;
use crate::roost::{Server, Setup, on_both_drivers, waits_until};
use roost_protocol::preface::PREFACE;
use roost_protocol::wire::client_frame::Body as Ask;
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;

const OPEN: &str = "roost_connections_open";
const UNACKNOWLEDGED: &str = "roost_unacknowledged_total";
/// Where those are who will vanish.
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ROUNDS: u64 = 2;
const DEVICES: u64 = 20;
const SILENT: u64 = 5;

/// Whether this process may make networks; says so loudly when not.
fn networks_can_be_made() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "ip", "link", "set", "lo", "up"]).stdin(Stdio::null());
    let made = command.output().is_ok_and(|output| output.status.success());
    if !made {
        eprintln!("SKIPPED, so NOT TESTED: no network of our own; it takes root, unshare and ip");
    }
    made
}

/// Runs in a thread that may be in the network of a server, and is not needed afterwards.
fn elsewhere(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("elsewhere".to_owned()).spawn(run).unwrap();
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

fn enter_network_of(server: &Server) {
    let network = File::open(format!("/proc/{}/ns/net", server.pid())).unwrap();
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// What goes there is thrown away from now on, or not any more.
fn throw_away(is_thrown: bool) {
    let what = if is_thrown { "add" } else { "del" };
    let mut command = Command::new("ip");
    command.args(["route", what, "blackhole", &format!("{THERE}/32"), "table", "local"]);
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
}

/// Sockets that the server's kernel still has for those who vanished, in whatever state.
fn left_behind(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let there = format!("{:08X}:", u32::from_be_bytes(THERE.octets()).swap_bytes());
    let is_left = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, peer) = (fields.next().unwrap(), fields.next().unwrap());
        own.ends_with(&format!(":{port:04X}")) && peer.starts_with(&there)
    };
    table.lines().skip(1).filter(is_left).count()
}

fn vanish(server: &Server) {
    enter_network_of(server);
    let mut bystanders = Bystanders::new(server);
    let mut loud = Device::sign_in(server, "loud");
    let mut descriptors = Vec::new();
    for round in 1..=ROUNDS {
        let user = |number: u64| format!("gone{number}");
        let devices: Vec<Device> = (0..DEVICES)
            .map(|number| {
                let mut wire = Wire::from(THERE, server.tcp);
                wire.write(&PREFACE);
                wire.ask(1, Ask::Hello(hello(&server.token(&user(number)), 1, round)));
                Device::welcomed(wire)
            })
            .collect();
        let silent: Vec<Wire> = (0..SILENT).map(|_| Wire::from(THERE, server.tcp)).collect();
        let all = 3 + round * (DEVICES + SILENT);
        server.metric_becomes("roost_connections_total", |total| total == all);
        throw_away(true);
        for number in 0..DEVICES {
            loud.send(message(&user(number), round, b"are you there?"));
        }
        // No heartbeat was missed, and no queue is full: it is the kernel that notices.
        server.metric_becomes(UNACKNOWLEDGED, |count| count == round * DEVICES);
        // Those who said nothing at all were told so, and never acknowledge that either.
        server.metric_becomes(OPEN, |open| open == 3);
        waits_until("the kernel has nothing of them", || left_behind(server.tcp.port()) == 0);
        assert_eq!(sockets_at(server.tcp.port()), (3, 3));
        bystanders.are_unharmed();
        if round == 1 {
            descriptors = server.descriptors();
        }
        server.descriptors_become(&descriptors);
        throw_away(false);
        drop((devices, silent));
    }
    // What they missed is there when they come back.
    let mut back = Device::sign_in_as(server, "gone0", 1, ROUNDS + 1);
    assert_eq!(back.history("loud").len(), usize::try_from(ROUNDS).unwrap());
}

on_both_drivers! {
    fn a_peer_that_vanishes_is_let_go_of_in_time(driver) {
        if !networks_can_be_made() {
            return;
        }
        elsewhere(move || {
            let config = "[limits]\nunacknowledged_timeout_ms = 1500\n\
                          send_stall_timeout_ms = 1000\nhello_timeout_ms = 3000\n\
                          heartbeat_foreground_ms = 600000\nheartbeat_background_ms = 600000\n";
            vanish(&Setup::new(driver).own_network().config(config).start());
        });
    }
}
