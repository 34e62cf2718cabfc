//! This machine: applied for real in a network namespace of its own, and probed.

use crate::support::{PROGRAM, Run, may_probe, run_command, tune};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn shell(script: &str) -> Run {
    run_command(Command::new("sh").args(["-euc", script]).env("TUNE", PROGRAM))
}

#[test]
fn values_of_a_real_namespace_are_applied_and_come_back() {
    let Some(_turn) = may_probe("values_of_a_real_namespace_are_applied_and_come_back") else {
        return;
    };
    // The machine's own values, before and after, must not move; those of the namespace do, and
    // come back. A file system of its own keeps the undo file away from other runs.
    let script = r#"
        outside() { cd /proc/sys; cat net/core/somaxconn fs/file-max vm/max_map_count; cd /; }
        folder=$(mktemp -d); trap 'rm -r "$folder"' EXIT
        outside > $folder/outside-1
        unshare --net --mount sh -euc '
            dump() { find /proc/sys/net -type f | sort | xargs grep -Hs . || true; }
            mount -t tmpfs none /var/lib
            dump > '$folder'/1
            mkdir /var/lib/roost-tune; echo "{}" > /var/lib/roost-tune/undo.json
            "$TUNE" apply --connections 2000000 --loopback --connects 20000 --write
            dump > '$folder'/2
            cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_local_port_range
            "$TUNE" undo
            dump > '$folder'/3
            ls /var/lib/roost-tune'
        outside > $folder/outside-2
        cmp $folder/outside-1 $folder/outside-2
        cmp $folder/1 $folder/3
        if cmp -s $folder/1 $folder/2; then echo "nothing was applied"; exit 1; fi
    "#;
    let run = shell(script);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("16384\n1024\t65535\n"), "{}", run.out);
    assert!(
        run.out.contains("not fs.file-max") || !run.out.contains("fs/file-max:"),
        "{}",
        run.out
    );
    // It had a file of its own, and did not touch that of the first namespace, which is damaged.
    assert!(run.out.contains("/var/lib/roost-tune/undo-net-4"), "{}", run.out);
    assert!(run.out.ends_with("\nundo.json\n"), "{}", run.out);
}

#[test]
fn what_is_said_to_be_a_namespaces_own_is() {
    let Some(_turn) = may_probe("what_is_said_to_be_a_namespaces_own_is") else { return };
    let list = tune("explain").out;
    let keys = |scope: &str| {
        let of_scope = list.lines().filter(|line| line.ends_with(scope));
        let keys = of_scope.filter_map(|line| line.split_whitespace().next());
        let paths = keys.filter(|key| key.starts_with("net."));
        paths.map(|key| format!("/proc/sys/{}", key.replace('.', "/"))).collect::<Vec<_>>()
    };
    let own = keys("  network namespace");
    assert!(own.len() > 6, "{own:?}");
    for path in own {
        // The same value written in a new namespace is taken.
        let run = shell(&format!("unshare --net sh -euc 'v=$(cat {path}); echo \"$v\" > {path}'"));
        assert_eq!(run.code, 0, "{path}: {run:?}");
    }
    for path in keys("  machine") {
        let run = shell(&format!("unshare --net sh -uc 'v=$(cat {path}); echo \"$v\" > {path}'"));
        assert_ne!(run.code, 0, "{path} can be written in a namespace: {run:?}");
    }
}

#[test]
fn whoever_is_not_root_is_told() {
    let Some(_turn) = may_probe("whoever_is_not_root_is_told") else { return };
    // The program may lie where nobody else may look.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("roost-tune");
    fs::copy(PROGRAM, &program).unwrap();
    let as_nobody = |arguments: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups"]).arg(&program);
        run_command(command.args(arguments.split_whitespace()))
    };
    let looked = as_nobody("check --connections 1000");
    assert!(looked.code <= 1, "{looked:?}");
    for command in ["apply --write --connections 2000000 --loopback", "undo", "probe"] {
        let run = as_nobody(command);
        assert_eq!(run.code, 2, "{command}: {run:?}");
        assert!(run.error.contains("needs root"), "{command}: {}", run.error);
    }
}

#[test]
fn a_read_only_proc_of_a_real_container_is_said() {
    let Some(_turn) = may_probe("a_read_only_proc_of_a_real_container_is_said") else { return };
    let script = r#"
        exec unshare --net --mount sh -euc '
            mount -t tmpfs none /var/lib
            mount --bind /proc/sys /proc/sys
            mount -o remount,bind,ro /proc/sys
            "$TUNE" check --connections 1000 || test $? = 1
            "$TUNE" apply --connections 2000000 --loopback --write || echo "exit code $?"
            ls -A /var/lib'
    "#;
    let run = shell(script);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.ends_with("exit code 2\n"), "and nothing below /var/lib: {}", run.out);
    assert!(run.out.contains("note: /proc/sys is read-only here"), "{}", run.out);
    assert!(run.error.contains("--emit docker"), "{}", run.error);
}

fn strikes(outcome: &Value) -> Vec<(String, u64)> {
    let strikes = outcome["strikes"].as_array().unwrap().iter();
    let pair = |strike: &Value| {
        (strike["limit"].as_str().unwrap().to_owned(), strike["at"].as_u64().unwrap())
    };
    strikes.map(pair).collect()
}

#[test]
fn a_probe_measures_a_pair_and_leaves_nothing() {
    let Some(_turn) = may_probe("a_probe_measures_a_pair_and_leaves_nothing") else { return };
    let run = tune("probe --connections 6000 --predict-from 5000 --spread --epoll --json");
    assert_eq!(run.code, 0, "{run:?}");
    let outcome = run.json();
    assert_eq!(outcome["reached"], 6_000);
    assert_eq!(strikes(&outcome), []);
    // Two sockets, whatever their size is on this kernel; other programs do not make any.
    let grown = outcome["grown"]["TCP"].as_u64().unwrap();
    assert!(grown > 6_000 * 2 * 1_500, "{outcome}");
    let pair: u64 = outcome["measured"]["pair_millibytes"]
        .as_object()
        .unwrap()
        .values()
        .map(|bytes| bytes.as_u64().unwrap() / 1_000)
        .sum();
    assert!((5_000..20_000).contains(&pair), "{pair} B a pair: {outcome}");
    assert_eq!(outcome["left"], 0, "{outcome}");
}

#[test]
fn the_first_limit_is_named_and_can_be_gone_around() {
    let Some(_turn) = may_probe("the_first_limit_is_named_and_can_be_gone_around") else { return };
    let limited = |more: &str| {
        shell(&format!("ulimit -n 700; exec \"$TUNE\" probe --connections 3000 --json {more}"))
    };
    let naive = limited("");
    assert_eq!(naive.code, 1, "{naive:?}");
    let outcome = naive.json();
    let [(limit, at)] = strikes(&outcome).try_into().unwrap();
    assert_eq!(limit, "RLIMIT_NOFILE");
    assert!((650..700).contains(&at), "{at}");
    let raised = limited("--raise");
    assert_eq!(raised.code, 0, "{raised:?}");
    let outcome = raised.json();
    assert_eq!(outcome["reached"], 3_000);
    assert_eq!(strikes(&outcome)[0].0, "RLIMIT_NOFILE");
    assert!(outcome["strikes"][0]["raised"].as_str().unwrap().len() > 5);
}

#[test]
fn limits_strike_where_check_says() {
    let Some(_turn) = may_probe("limits_strike_where_check_says") else { return };
    let run = shell("ulimit -n 6000; exec \"$TUNE\" probe --connections 7000 --order --json");
    assert_eq!(run.code, 0, "{run:?}");
    let outcome = run.json();
    let order = &outcome["order"];
    assert_eq!(order["as_predicted"], true, "{order}");
    let rows = order["rows"].as_array().unwrap();
    let row = |limit: &str| rows.iter().find(|row| row["limit"] == limit);
    let descriptors = row("RLIMIT_NOFILE").unwrap();
    assert_eq!(descriptors["predicted"], 5_994);
    // The probe itself needs four. What it inherited depends on who runs this test: predicted are
    // six in all.
    assert!((5_900..=5_996).contains(&descriptors["struck"].as_u64().unwrap()), "{order}");
    let queue = row("net.core.somaxconn").unwrap();
    assert_eq!(queue["predicted"], queue["struck"], "{queue}");
    // What it did not strike it names, with a reason.
    let files = row("fs.file-max").is_none_or(|row| row["struck"].is_null());
    assert!(files, "not without --open-files");
    for row in rows {
        assert!(row["why"].as_str().unwrap().len() > 10, "{row}");
    }
}

#[test]
fn a_probe_that_would_take_too_much_does_not_begin() {
    let Some(_turn) = may_probe("a_probe_that_would_take_too_much_does_not_begin") else { return };
    let run = tune("probe --connections 2000 --keep-free 99999999 --json");
    assert_eq!(run.code, 1, "{run:?}");
    let outcome = run.json();
    assert_eq!(strikes(&outcome), [("memory".to_owned(), 0)]);
    let absurd = tune("probe --connections 999999999999");
    assert_eq!(absurd.code, 2);
    assert!(absurd.error.contains("choose a number"), "{}", absurd.error);
}

#[test]
fn the_memory_of_a_control_group_stops_it_by_name() {
    let Some(_turn) = may_probe("the_memory_of_a_control_group_stops_it_by_name") else { return };
    let run = tune("probe --connections 30000 --spread --memory-limit 64 --json");
    if run.code == 2 {
        // Without a controller for memory the plain sentence is what there is to see.
        assert!(run.error.contains("leave out --memory-limit"), "{}", run.error);
        return;
    }
    assert_eq!(run.code, 1, "{run:?}");
    let outcome = run.json();
    let (limit, at) = strikes(&outcome).pop().unwrap();
    assert_eq!(limit, "cgroup.memory.max", "{outcome}");
    // Version 1 counts 5 KB of a pair, version 2 up to all of its 8 to 10 KB.
    assert!((4_000..14_000).contains(&at), "{at}");
}
