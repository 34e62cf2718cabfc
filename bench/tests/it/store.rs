//! Every part of `roost-bench store`, small: with the engines that were built in.

use super::{bench, measured};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{name}"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The result of a part; everything that it wrote must be gone.
fn part(name: &str, arguments: &str) -> Value {
    let folder = folder(name);
    let line = format!("store {name} --dir {} {arguments}", folder.display());
    let result = measured(name, &line);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "files are left");
    fs::remove_dir(&folder).unwrap();
    assert_eq!(result["scenario"], format!("store {name}"));
    assert!(result["machine"]["kernel"].is_string() && result["disk"].is_string());
    result
}

fn is_above_zero(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn appends_are_counted() {
    let arguments = "--batches 1,10 --streams 10 --seconds 1 --warmup 0 --rounds 1";
    let result = part("append", arguments);
    for case in ["append_by_1", "append_by_10", "append_natural"] {
        let found = &result[case]["roost"];
        assert!(is_above_zero(&found["median"]["records_per_s"]), "{case}: {found}");
        assert!(is_above_zero(&found["of_bare"]), "{case}: {found}");
    }
    assert!(is_above_zero(&result["append_call"]["roost"]["p50_ns"]));
}

#[test]
fn what_is_written_and_kept_is_counted() {
    let result = part("amplification", "--messages 20000 --conversations 100");
    for (name, found) in result["amplification"].as_object().unwrap() {
        let settled = &found["settled"];
        // A file system that is on no block device has no counter.
        assert!(settled["written_per_payload"].is_number(), "{name}: {found}");
        assert!(settled["space_per_payload"].as_f64().unwrap() >= 1.0, "{name}: {found}");
    }
}

#[test]
fn cold_reads_find_everything() {
    let arguments = "--messages 20000 --conversations 1000 --queries 5 --own-files-only";
    let result = part("cold-read", arguments);
    for (name, found) in result["cold_read"].as_object().unwrap() {
        let found = &found["found"];
        assert_eq!(found["wrong"], 0, "{name}: {found}");
        assert!(is_above_zero(&found["messages"]), "{name}: {found}");
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    let arguments = "--messages 5000 --rounds 2 --appends 2000 --own-files-only";
    let result = part("open", arguments);
    for (name, found) in result["open_5000"].as_object().unwrap() {
        assert!(found["median"]["last_commit"].as_u64().unwrap() >= 20, "{name}: {found}");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_explained() {
    let output = bench("store append --dir /proc/nowhere");
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty());
}
