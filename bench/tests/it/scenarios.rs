//! Each scenario, small: it ends well, loses nothing, and its result has the promised names.

use super::{ANYWHERE, bench, measured, result_file, server_is_there};
use serde_json::Value;

/// What every result holds.
fn assert_whole(result: &Value, scenario: &str) {
    assert_eq!((&result["schema"], &result["scenario"]), (&2.into(), &scenario.into()));
    let environment = &result["environment"];
    assert!(environment["machine"]["processors"].as_u64().unwrap() > 0);
    assert!(environment["placement"]["text"].as_str().unwrap().contains("generator on core"));
    assert!(environment["sysctls"].is_object() && environment["versions"].is_object());
    assert_eq!(result["failures"], Value::Array(Vec::new()));
}

fn assert_nothing_lost(result: &Value) {
    assert_eq!((&result["lost"], &result["duplicated"]), (&Value::from(0), &Value::from(0)));
}

fn assert_stage(result: &Value, stage: &str) {
    let latency = &result["latency_us"][stage];
    let of = |name: &str| latency[name].as_u64().unwrap();
    assert!(0 < of("p50") && of("p50") <= of("p99"), "{stage}: {latency}");
    assert!(of("p99") <= of("p999") && of("p999") <= of("max"), "{stage}: {latency}");
}

#[test]
fn a_few_pairs_lose_nothing_in_a_closed_loop() {
    if !server_is_there() {
        return;
    }
    let line = format!("pairs --spawn {ANYWHERE} --pairs 5 --window 3 --seconds 3 --warmup 0");
    let result = measured("closed", &line);
    assert_whole(&result, "pairs");
    assert_nothing_lost(&result);
    for field in ["sent_per_s", "delivered_per_s", "ticked_per_s", "connect_per_s"] {
        assert!(result[field].as_f64().unwrap() > 0.0, "{field}");
    }
    for stage in ["sent", "delivered", "ticked"] {
        assert_stage(&result, stage);
    }
    assert!(result["server"]["cpu_us_per_message"].is_number());
    assert!(result["server"]["allocated_bytes"].is_number(), "the admin listener was asked");
    assert!(result["server"]["flushes_per_s"].as_f64().unwrap() > 0.0);
    assert!(result["generator"]["limited"].is_boolean());
    assert!(result["fdatasync_us"]["overwritten"]["p50"].is_number());
    assert_eq!(result["settings"]["window"], 3);
    assert!(!result["rounds"][0]["samples"].as_array().unwrap().is_empty());
}

#[test]
fn a_few_pairs_keep_a_rate_and_show_it() {
    if !server_is_there() {
        return;
    }
    let page = result_file("open").with_extension("html");
    let line = format!(
        "pairs --spawn {ANYWHERE} --pairs 5 --rate 200 --seconds 2 --warmup 0 --rounds 2 --html {}",
        page.display()
    );
    let result = measured("open", &line);
    assert_whole(&result, "pairs");
    assert_eq!(result["settings"]["rate"], 200);
    assert_nothing_lost(&result);
    assert!(result["ticked_per_s"].as_f64().unwrap() > 20.0, "{result}");
    assert_eq!(result["rounds"].as_array().unwrap().len(), 2);
    assert!(result["spread"]["delivered_per_s"]["max"].is_number());
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    assert!(text.contains("Throughput") && !text.contains("http"), "one page that needs no other");
}

#[test]
fn idle_connections_are_held_and_counted() {
    if !server_is_there() {
        return;
    }
    let line = format!("idle --spawn {ANYWHERE} --connections 200 --seconds 1 --settle 0");
    let result = measured("idle", &line);
    assert_whole(&result, "idle");
    assert_eq!((&result["connections"], &result["disconnected"]), (&200.into(), &0.into()));
    assert!(result["server"]["user_bytes_per_connection"].is_number());
    assert!(result["kernel"]["bytes_per_connection"].is_number());
    assert!(result["kernel"]["bytes_per_connection_above_floor"].is_number());
    assert_eq!(result["heartbeats"], result["heartbeats_answered"]);
}

/// Neighbours who had nothing to do with each other, then such who had: their messages have other
/// numbers.
#[test]
fn a_server_started_anew_is_measured_from_its_store_on() {
    if !server_is_there() {
        return;
    }
    for ties in ["", "--conversations 6 --groups 2 --group-size 5"] {
        let line = format!(
            "idle --spawn {ANYWHERE} --connections 20 {ties} --restart --settle 0 --rate 20 \
             --seconds 2"
        );
        let result = measured("anew", &line);
        assert_whole(&result, "idle");
        assert_nothing_lost(&result);
        assert_eq!(result["restarted"], true);
        for field in ["connections", "received", "acknowledged"] {
            assert_eq!(result[field], 20, "{field} of {ties:?}");
        }
        assert_eq!(result["heartbeats"], result["heartbeats_answered"]);
        for field in ["rss_bytes_empty", "rss_bytes_first_empty", "rss_bytes_first_filled"] {
            assert!(result["server"][field].as_u64().unwrap() > 0, "{field}: {result}");
        }
        assert!(result["server"]["user_bytes_per_connection"].is_number());
    }
}

#[test]
fn a_group_hears_one_writer() {
    if !server_is_there() {
        return;
    }
    let line =
        format!("fanout --spawn {ANYWHERE} --subscribers 7 --rate 50 --seconds 2 --warmup 0");
    let result = measured("fanout", &line);
    assert_whole(&result, "fanout");
    assert_nothing_lost(&result);
    assert_stage(&result, "last");
    let [sent, delivered] =
        ["sent_per_s", "delivered_per_s"].map(|name| result[name].as_f64().unwrap());
    assert!(delivered > sent * 3.0, "{sent} {delivered}");
}

#[test]
fn one_conversation_is_hot() {
    if !server_is_there() {
        return;
    }
    let line = format!("hot --spawn {ANYWHERE} --window 16 --seconds 1 --warmup 0");
    let result = measured("hot", &line);
    assert_whole(&result, "hot");
    assert_nothing_lost(&result);
}

#[test]
fn readers_that_stall_have_everything_in_the_end() {
    if !server_is_there() {
        return;
    }
    let line = format!(
        "slow --spawn {ANYWHERE} --subscribers 6 --stalled 50 --stall 1 --rate 100 --seconds 3 \
         --warmup 0"
    );
    let result = measured("slow", &line);
    assert_whole(&result, "slow");
    assert_nothing_lost(&result);
    assert_stage(&result, "delivered");
}

#[test]
fn a_day_is_mixed() {
    if !server_is_there() {
        return;
    }
    let line =
        format!("mixed --spawn {ANYWHERE} --connections 40 --rate 300 --seconds 3 --warmup 0");
    let result = measured("mixed", &line);
    assert_whole(&result, "mixed");
    assert_nothing_lost(&result);
    for act in ["typing", "read", "presence", "history"] {
        assert!(result["acts"][act].as_u64().unwrap() > 0, "{act}: {}", result["acts"]);
    }
    assert!(result["acts_answered"].as_u64().unwrap() > 0);
}

#[test]
fn a_soak_looks_for_growth() {
    if !server_is_there() {
        return;
    }
    let line = format!(
        "soak --spawn {ANYWHERE} --connections 20 --rate 100 --seconds 8 --warmup 0 --leak 1000000"
    );
    let result = measured("soak", &line);
    assert_whole(&result, "soak");
    assert!(result["server_memory_growth"]["mib_per_hour"].is_number(), "{result}");
}

#[test]
fn everybody_returns_from_a_storm() {
    if !server_is_there() {
        return;
    }
    let line = format!("storm --spawn {ANYWHERE} --connections 60 --away 0 --warmup 0");
    let result = measured("storm", &line);
    assert_whole(&result, "storm");
    assert_eq!((&result["left"], &result["returned"]), (&60.into(), &60.into()));
    assert_stage(&result, "welcomed");
    assert_stage(&result, "back");
}

#[test]
fn those_who_stay_are_heard_before_and_during_a_storm() {
    if !server_is_there() {
        return;
    }
    let line = format!(
        "storm --spawn {ANYWHERE} --connections 60 --talkers 6 --rate 100 --away 1 --warmup 1"
    );
    let result = measured("storm-talkers", &line);
    assert_whole(&result, "storm");
    assert_eq!((&result["left"], &result["returned"]), (&60.into(), &60.into()));
    assert!(result["talkers_come_first"].is_boolean(), "{result}");
    for stage in ["back", "calm_sent", "calm_delivered", "storm_sent", "storm_delivered"] {
        assert_stage(&result, stage);
    }
}

/// A busy machine may keep no latency at all: then the search fails, but it ends and says why.
#[test]
fn a_search_for_the_capacity_ends() {
    if !server_is_there() {
        return;
    }
    let file = result_file("capacity");
    let line = format!(
        "capacity --spawn {ANYWHERE} --pairs 2 --rate 20 --tries 2 --goal-ms 60000 --seconds 1 \
         --warmup 0 --json {}",
        file.display()
    );
    bench(&line);
    let result: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    let tries = result["results"].as_array().unwrap();
    assert!((1..=2).contains(&tries.len()), "{result}");
    assert!(tries.iter().all(|one| one["tried"].as_u64().unwrap() > 0));
    assert!(result["capacity_per_s"].as_u64().is_some() && result["saturated"].is_string());
}

#[test]
fn a_result_is_no_change_from_itself() {
    if !server_is_there() {
        return;
    }
    let file = result_file("same");
    let line = format!(
        "pairs --spawn {ANYWHERE} --pairs 2 --rate 50 --seconds 3 --warmup 0 --json {}",
        file.display()
    );
    assert!(bench(&line).status.success());
    let output = bench(&format!("compare {0} {0}", file.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("verdict    no change"), "{text}");
    std::fs::remove_file(&file).unwrap();
}

/// What the verdict is, is chance with so few rounds on a busy machine.
#[test]
fn two_builds_are_measured_by_turns() {
    if !server_is_there() {
        return;
    }
    let file = result_file("turns");
    let server = std::path::Path::new(super::BENCH).with_file_name("roost");
    let line = format!("pairs {ANYWHERE} --pairs 2 --window 2 --seconds 1 --warmup 0");
    let output = std::process::Command::new(super::BENCH)
        .arg("compare")
        .args([&server, &server])
        .args(["--rounds", "2", "--measure", &line, "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("by turns, round by round"), "{text}");
    let comparison: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(comparison["by_turns"], true);
    let results = comparison["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        assert_whole(result, "pairs");
        assert_nothing_lost(result);
        assert_eq!(result["rounds"].as_array().unwrap().len(), 2);
        assert_eq!(result["settings"]["server_program"], server.to_str().unwrap());
    }
    assert_eq!(comparison["figures"][0]["values"], serde_json::json!([2, 2]));
}
