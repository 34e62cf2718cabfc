//! Devices that have no sockets, against the real server. Needs root and /dev/net/tun: without them
//! the test says that it was not run.

use super::{ANYWHERE, bench, measured, server_is_there};

/// Whether this machine lets us make a namespace and a device.
fn is_allowed() -> bool {
    if !server_is_there() {
        return false;
    }
    let output = bench(&format!("idle --spawn {ANYWHERE} --peers tun --connections 1 --seconds 1"));
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_allowed = !errors.contains("--peers tun needs root");
    if !is_allowed {
        eprintln!("\n*** SKIPPED: {errors} ***\n");
    }
    is_allowed
}

#[test]
fn devices_without_sockets_are_welcomed_say_that_they_are_there_and_leave() {
    if !is_allowed() {
        return;
    }
    let line = format!(
        "idle --spawn {ANYWHERE} --peers tun --connections 200 --seconds 1 --settle 0 --rate 20"
    );
    let result = measured("tun", &line);
    assert_eq!((&result["connections"], &result["disconnected"]), (&200.into(), &0.into()));
    assert_eq!(result["heartbeats"], result["heartbeats_answered"]);
    assert!(result["heartbeats"].as_u64().unwrap() > 0);
    assert_eq!((&result["lost"], &result["duplicated"]), (&0.into(), &0.into()));
    for field in ["connect_per_s", "sent_per_s", "delivered_per_s"] {
        assert!(result[field].as_f64().unwrap() > 0.0, "{field}");
    }
    assert!(result["latency_us"]["delivered"]["p50"].as_u64().unwrap() > 0);
    assert!(result["server"]["user_bytes_per_connection"].is_number());
    assert!(result["server"]["rss_bytes_left"].is_number(), "all left");
    assert!(result["kernel"]["bytes_per_connection"].is_number());
    assert!(result["kernel"]["slab_bytes_per_connection_pair"].is_null(), "there is no other end");
    // A SYN, Hello, an acknowledgement of Welcome, a FIN, and one of the server's.
    assert!(result["generator"]["packets_sent"].as_u64().unwrap() >= 5 * 200);
    assert_eq!(result["settings"]["peers"], "tun");
}

#[test]
fn devices_without_sockets_leave_and_return_while_others_write() {
    if !is_allowed() {
        return;
    }
    let line = format!(
        "storm --spawn {ANYWHERE} --peers tun --connections 300 --talkers 20 --rate 50 --warmup 1 \
         --away 0"
    );
    let result = measured("tun-storm", &line);
    assert_eq!((&result["connections"], &result["disconnected"]), (&320.into(), &0.into()));
    assert_eq!((&result["left"], &result["returned"]), (&300.into(), &300.into()));
    assert_eq!((&result["lost"], &result["duplicated"]), (&0.into(), &0.into()));
    for stage in ["welcomed", "back", "calm_delivered"] {
        assert!(result["latency_us"][stage]["p50"].as_u64().unwrap() > 0, "{stage}: {result}");
    }
    assert!(result["server"]["cpu_us_per_return"].as_f64().unwrap() > 0.0);
    assert!(result["generator"]["packets_sent"].as_u64().unwrap() >= 8 * 300);
    assert_eq!(result["settings"]["peers"], "tun");
}

#[test]
fn a_server_that_they_cannot_reach_is_said() {
    if !is_allowed() {
        return;
    }
    let arguments = ["idle", "--spawn", "--peers", "tun", "--server-args", "--tcp 127.0.0.1:0"];
    let output = std::process::Command::new(super::BENCH).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("cannot reach 127.0.0.1"), "{text}");
}
