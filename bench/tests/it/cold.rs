//! A bare echo beside the server: both are spoken to, and held against each other.

use super::{ANYWHERE, measured, server_is_there};
use serde_json::Value;

fn assert_each(result: &Value, who: &str, steps: &[&str]) {
    for step in steps {
        let of = &result[who][*step];
        assert!(of["cpu_us_each"].is_number() && of["per_s"].as_f64().unwrap() > 0.0, "{result}");
        assert_eq!(of["cpu_us_each_of_turns"].as_array().unwrap().len(), 2, "{who} {step}");
        assert!(of["voluntary_switches_each"].is_number());
    }
}

#[test]
fn heartbeats_stand_beside_a_bare_echo() {
    if !server_is_there() {
        return;
    }
    let line = format!(
        "cold --spawn {ANYWHERE} --connections 40 --rate 400 --seconds 1 --warmup 0 --turns 2"
    );
    let result = measured("cold-heartbeats", &line);
    assert_eq!((&result["scenario"], &result["settings"]["rate"]), (&"cold".into(), &400.into()));
    for who in ["bare", "roost"] {
        assert_each(&result, who, &["heartbeats"]);
        assert!(result[who]["at_rest"]["cpu_share"].is_number());
    }
    assert!(result["ratios"]["heartbeat_to_bare_echo"]["median"].is_number(), "{result}");
}

#[test]
fn messages_of_few_and_of_all_stand_beside_a_bare_echo() {
    if !server_is_there() {
        return;
    }
    let line = format!(
        "cold --spawn {ANYWHERE} --part messages --connections 40 --active 10 --at-once 4 \
         --seconds 1 --warmup 0 --turns 2"
    );
    let result = measured("cold-messages", &line);
    assert_eq!(result["settings"]["at_once"], 4);
    for who in ["bare", "roost"] {
        assert_each(&result, who, &["few_alone", "few_among_many", "all"]);
    }
    let names = ["message_with_idle_to_without", "message_of_all_to_of_few"];
    for name in names.into_iter().chain(["bare_echo_of_all_to_of_few", "coldness_to_bare_echo"]) {
        assert!(result["ratios"][name]["median"].is_number(), "{name}: {result}");
    }
}

#[test]
fn whoever_waits_for_an_echo_is_not_drawn_again() {
    if !server_is_there() {
        return;
    }
    // Far more at once than there are connections: without care the bare echo is asked twice.
    let line = format!(
        "cold --spawn {ANYWHERE} --part messages --connections 8 --active 4 --at-once 64 \
         --seconds 1 --warmup 0 --turns 1"
    );
    let result = measured("cold-overlapping", &line);
    assert_eq!(result["failures"].as_array().map(Vec::len), Some(0));
    assert!(result["bare"]["all"]["per_s"].as_f64().unwrap() > 0.0, "{result}");
}
