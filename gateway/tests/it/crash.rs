//! The process ends at any moment under load; what was acknowledged is there when it is back.
//! (The page cache outlives a process, so this says nothing about the flush: see `power_cut`.)

use crate::device::{Device, message};
use crate::load::{Load, UNHELD};
use crate::roost::{Setup, on_both_drivers, refused, waits_until};
use roost_protocol::wire::server_frame::Body as Told;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Kills in one test; `ROOST_KILL_ROUNDS` asks for more.
fn rounds() -> u64 {
    let rounds = std::env::var("ROOST_KILL_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("ROOST_KILL_ROUNDS is a number"))
}

/// A number from 0 to below `max`, another one at every call.
pub(crate) fn random(max: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % max
}

on_both_drivers! {
    fn kill_9_under_load_loses_nothing_acknowledged(driver) {
        let config = "segment_bytes = 1048576\nlimits.checkpoint_interval_ms = 100\n";
        let mut server = Setup::new(driver).config(&format!("{config}{UNHELD}")).start();
        let mut load = Load::new(6);
        for round in 0..rounds() {
            let answers = 200 + random(1_500);
            load.write_until(&server, answers, |_| server.signal(Signal::KILL));
            server = server.start_again();
            let wrong = load.ask_everybody(&server);
            assert_eq!(wrong, [""; 0], "round {round}, after {answers} answers");
        }
        assert!(load.noted() >= 600);
    }

    fn a_clean_stop_under_load_loses_nothing_either(driver) {
        let config = "segment_bytes = 1048576\nlimits.drain_ms = 1000\n";
        let mut server = Setup::new(driver).config(&format!("{config}{UNHELD}")).start();
        let mut load = Load::new(6);
        load.write_until(&server, 500 + random(500), |_| server.signal(Signal::TERM));
        assert!(server.wait().success());
        let server = server.start_again();
        assert_eq!(load.ask_everybody(&server), [""; 0]);
    }

    fn a_second_drain_waits_like_the_first(driver) {
        let mut server = Setup::new(driver).config("limits.drain_ms = 600000\n").start();
        let drain = |data: &Path, wait_s: u32| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
            command.arg("drain").arg("--data").arg(data).args(["--wait", &wait_s.to_string()]);
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut device = Device::sign_in(&server, "ann");
        // Two at once.
        let mut drains = vec![drain(server.data(), 600), drain(server.data(), 600)];
        while !matches!(device.push(), Told::GoAway(_)) {}
        server.logs("draining");
        let lock = server.data().join("store/lock");
        waits_until("it says so", || fs::read_to_string(&lock).unwrap().contains("draining"));
        // Some that come late and wait for a while only: when the first is through, a signal of the
        // second one would end the server at once, with whoever is still there.
        for wait_s in [2, 1] {
            let late = drain(server.data(), wait_s).wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&late.stderr).into_owned();
            assert!(said.contains("still runs after"), "it had waited, and says: {said}");
        }
        drains.push(drain(server.data(), 600));
        device.send(message("bob", 1, b"still here"));
        device.wire.is_alive();
        device.leave();
        assert!(server.wait().success());
        for drain in drains {
            let output = drain.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    fn a_server_in_another_container_is_not_signalled(driver) {
        let server = Setup::new(driver).start();
        let lock = server.data().join("store/lock");
        let text = fs::read_to_string(&lock).unwrap();
        let (namespace, _) = text.split_once("pid:[").expect("it says where it is");
        fs::write(&lock, format!("{namespace}pid:[1] of another machine\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
        let said = refused(command.arg("drain").arg("--data").arg(server.data()));
        assert!(said.contains("in another container"), "{said}");
        Device::sign_in(&server, "ann").wire.is_alive();
    }

    fn drain_stops_the_server_of_a_folder_and_says_when_there_is_none(driver) {
        let mut server = Setup::new(driver).start();
        let data = server.data().to_owned();
        let drain = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
            command.arg("drain").arg("--data").arg(&data).output().unwrap()
        };
        let stopped = drain();
        assert!(stopped.status.success(), "{stopped:?}");
        assert!(server.wait().success());
        let nobody = drain();
        let said = String::from_utf8(nobody.stderr).unwrap();
        assert!(!nobody.status.success() && said.contains("no server runs on"), "{said}");
    }
}
