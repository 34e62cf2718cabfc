//! What is wrong is said before anything is measured, with what helps.

use super::{ANYWHERE, bench, result_file, server_is_there};
use std::net::TcpListener;

fn errors(line: &str, code: i32) -> String {
    let output = bench(line);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{line}: {text}");
    text
}

#[test]
fn a_wrong_command_line_is_refused() {
    for line in ["", "pairs", "pairs --spawn --pairs 0", "pairs --spawn --body-bytes 15", "gale"] {
        assert!(!errors(line, 2).is_empty(), "{line}");
    }
}

#[test]
fn a_server_that_does_not_start_is_explained() {
    if !server_is_there() {
        return;
    }
    let text = errors(&format!("idle --spawn {ANYWHERE} --server-args --shards=many"), 1);
    assert!(text.contains("did not get ready") && text.contains("many"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_at_once() {
    for option in ["--json", "--html"] {
        let text = errors(&format!("idle --spawn {option} /no/such/folder/file"), 1);
        assert!(text.contains("/no/such/folder/file") && text.contains("nothing was"), "{text}");
    }
}

#[test]
fn nobody_at_the_address_is_said() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = errors(&format!("idle --server {address} --data . {ANYWHERE}"), 1);
    assert!(text.contains("is the server running"), "{text}");
}

#[test]
fn more_than_the_machine_has_is_refused() {
    let text = errors("idle --spawn --connections 10000000", 1);
    assert!(text.contains("descriptors are needed") || text.contains("--force"), "{text}");
}

#[test]
fn sealed_connections_are_for_roost() {
    assert!(errors("idle --spawn --tls full --target websocket", 1).contains("--tls is for Roost"));
}

#[test]
fn devices_without_sockets_are_for_plain_roost() {
    let refused = |line: &str| errors(&format!("idle --spawn {line}"), 1);
    assert!(refused("--peers tun --target redis").contains("--peers tun is for Roost"));
    assert!(refused("--peers tun --groups 2").contains("no --groups"));
    assert!(refused("--peers tun --connections 8 --rate 2").contains("16 devices"));
}

#[test]
fn a_restart_of_what_is_not_of_this_run_is_refused() {
    for (line, helps) in [
        ("idle --server 127.0.0.1:9 --data .", "take --spawn"),
        ("catchup --server 127.0.0.1:9 --data .", "take --spawn"),
        ("idle --spawn --target redis", "leave out --target"),
        ("idle --spawn --agents 127.0.0.1:9", "leave out --agents"),
        ("idle --spawn --peers tun", "leave out --peers tun"),
        ("idle --spawn --connections 1", "raise --connections"),
    ] {
        let text = errors(&format!("{line} --restart"), 1);
        assert!(text.contains("--restart") && text.contains(helps), "{line}: {text}");
    }
}

#[test]
fn results_that_are_none_are_not_compared() {
    let file = result_file("none");
    std::fs::write(&file, "{\"schema\": 1}").unwrap();
    let text = errors(&format!("compare {0} {0}", file.display()), 2);
    assert!(text.contains("schema is 1"), "{text}");
    std::fs::remove_file(&file).unwrap();
    assert!(errors(&format!("compare {0} {0}", file.display()), 2).contains("cannot read"));
}

#[test]
fn builds_that_are_not_there_are_not_measured_by_turns() {
    let text = errors("compare /no/such/roost /no/such/roost --measure idle", 2);
    assert!(text.contains("/no/such/roost is not there"), "{text}");
    let output = std::process::Command::new(super::BENCH)
        .args(["compare", super::BENCH, super::BENCH, "--measure", "idle --connections many"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && text.contains("'many'"), "{text}");
    assert!(errors("compare a.json b.json --rounds 3", 2).contains("--measure"));
}

#[test]
fn the_bare_echo_stands_beside_a_server_of_the_run() {
    for line in ["--server 127.0.0.1:9 --data .", "--spawn --tls", "--spawn --target redis"] {
        let text = errors(&format!("cold {line}"), 1);
        assert!(text.contains("cold starts both servers itself"), "{line}: {text}");
    }
}
