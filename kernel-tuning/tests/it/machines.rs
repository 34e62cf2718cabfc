//! Saved machines of several sizes: which limits bite, in which order.

use crate::support::{Run, tune_machine};
use expect_test::{Expect, expect};
use serde_json::Value;

/// A line for each setting that does not just fit.
fn lines(run: &Run) -> String {
    let report = run.json();
    let findings = report["findings"].as_array().unwrap().iter();
    let open = findings.filter(|finding| !["fits"].contains(&finding["state"].as_str().unwrap()));
    let line = |finding: &Value| {
        let of = |name: &str| finding[name].as_str().unwrap().to_owned();
        let bites = finding["bites"].as_object().map_or_else(
            || of("bites"),
            |bites| {
                let (kind, number) = bites.iter().next().unwrap();
                format!("{kind} {number}")
            },
        );
        format!(
            "{} {} {bites}\n    {} -> {}\n",
            of("state"),
            of("setting"),
            of("now"),
            of("needed")
        )
    };
    open.map(line).collect()
}

#[track_caller]
fn judged(machine: &str, goal: &str, expected: &Expect) -> Value {
    let run = tune_machine(machine, &format!("check --json {goal}"));
    expected.assert_eq(&format!("exit code {}\n{}", run.code, lines(&run)));
    run.json()
}

#[test]
fn two_million_loopback_sessions_on_two_cores() {
    let report = judged(
        "two-cores-24g",
        "--connections 2000000 --loopback",
        &expect![[r#"
            exit code 1
            avoided RLIMIT_NOFILE at 19994
                20,000 -> 2,000,200
            stops net.ipv4.ip_local_port_range at 28232
                32768-60999, 1 pair, slow from 14,116 -> 1024-65535 and 63 pairs of addresses
            slows net.ipv4.tcp_ehash_entries slow_at 262144
                262,144 -> 2,097,152
            slows net.ipv4.tcp_mem slow_at 383867
                287,898 383,867 575,796 -> 1500000 2000000 3000000
            avoided fs.nr_open at 1048570
                1,048,576 -> 2,000,200
            stops fs.file-max at 1232787
                2,466,165 -> 4,500,000
            slows net.core.somaxconn burst 4097
                4,096 -> 8,192
            slows net.ipv4.tcp_max_orphans burst 131072
                131,072 -> 500,000
            advised net.core.netdev_max_backlog burst 1000
                1,000 -> 4,096
            advised net.ipv4.tcp_max_syn_backlog burst 2048
                2,048 -> 8,192
            advised net.ipv4.tcp_max_tw_buckets burst 131072
                131,072 -> 500,000
            advised net.ipv4.tcp_rmem always
                4096 131072 33554432 -> 4096 131072 262144
            advised net.ipv4.tcp_wmem always
                4096 16384 4194304 -> 4096 16384 262144
            advised vm.min_free_kbytes always
                67,584 -> 123,420
        "#]],
    );
    assert_eq!(report["first"], "net.ipv4.ip_local_port_range");
}

#[test]
fn the_same_with_epoll_is_bounded_by_descriptors_first() {
    let goal = "--connections 2000000 --loopback --driver epoll";
    let report = judged(
        "two-cores-24g",
        goal,
        &expect![[r#"
            exit code 1
            stops RLIMIT_NOFILE at 19994
                20,000 -> 2,000,200
            stops net.ipv4.ip_local_port_range at 28232
                32768-60999, 1 pair, slow from 14,116 -> 1024-65535 and 63 pairs of addresses
            slows net.ipv4.tcp_ehash_entries slow_at 262144
                262,144 -> 2,097,152
            slows net.ipv4.tcp_mem slow_at 383867
                287,898 383,867 575,796 -> 1500000 2000000 3000000
            stops fs.nr_open at 1048570
                1,048,576 -> 2,000,200
            stops fs.file-max at 1232787
                2,466,165 -> 4,500,000
            slows net.core.somaxconn burst 4097
                4,096 -> 8,192
            slows net.ipv4.tcp_max_orphans burst 131072
                131,072 -> 500,000
            advised net.core.netdev_max_backlog burst 1000
                1,000 -> 4,096
            advised net.ipv4.tcp_max_syn_backlog burst 2048
                2,048 -> 8,192
            advised net.ipv4.tcp_max_tw_buckets burst 131072
                131,072 -> 500,000
            advised net.ipv4.tcp_rmem always
                4096 131072 33554432 -> 4096 131072 262144
            advised net.ipv4.tcp_wmem always
                4096 16384 4194304 -> 4096 16384 262144
            advised vm.min_free_kbytes always
                67,584 -> 123,420
        "#]],
    );
    assert_eq!(report["first"], "RLIMIT_NOFILE");
}

#[test]
fn a_million_on_a_cloud_machine() {
    judged(
        "cloud-8-cores-32g",
        "--connections 1000000",
        &expect![[r#"
            exit code 0
            slows RLIMIT_NOFILE at 1018
                1,024:1,048,576 -> 65,536
            slows systemd.DefaultLimitNOFILE at 1018
                1,024:524,288 (default) -> 65,536
            slows net.ipv4.tcp_mem slow_at 510001
                382,500 510,001 765,000 -> 750000 1000000 1500000
            slows net.ipv4.tcp_ehash_entries slow_at 524288
                262,144 -> 524,288
            slows net.core.somaxconn burst 4097
                4,096 -> 8,192
            slows net.ipv4.tcp_max_orphans burst 131072
                131,072 -> 250,000
            advised net.core.netdev_max_backlog burst 1000
                1,000 -> 4,096
            advised net.ipv4.tcp_max_syn_backlog burst 2048
                2,048 -> 8,192
            advised net.ipv4.tcp_max_tw_buckets burst 131072
                131,072 -> 250,000
            advised net.ipv4.tcp_rmem always
                4096 131072 6291456 -> 4096 131072 262144
            advised net.ipv4.tcp_wmem always
                4096 16384 4194304 -> 4096 16384 262144
            advised vm.min_free_kbytes always
                67,584 -> 162,529
            advised nic.ring always
                ens5 512 of 8192 -> 1024
        "#]],
    );
}

#[test]
fn ten_million_on_metal() {
    let goal = "--connections 10000000 --tls --rate 200000 --connects 50000 --profile latency";
    judged(
        "metal-64-cores-numa",
        goal,
        &expect![[r#"
            exit code 1
            slows RLIMIT_NOFILE at 1018
                1,024:524,288 -> 65,536
            slows systemd.DefaultLimitNOFILE at 1018
                1,024:524,288 (default) -> 65,536
            stops net.netfilter.nf_conntrack_max at 260940
                262,144 -> 11,250,000
            slows net.ipv4.tcp_ehash_entries slow_at 1048576
                524,288 -> 8,388,608
            slows net.ipv4.tcp_mem slow_at 8242915
                6,182,184 8,242,915 12,364,368 -> 7500000 10000000 15000000
            slows net.core.somaxconn burst 4097
                4,096 -> 32,768
            slows net.ipv4.tcp_max_orphans burst 262144
                262,144 -> 2,500,000
            advised net.core.netdev_max_backlog burst 1000
                1,000 -> 4,096
            advised net.ipv4.tcp_max_syn_backlog burst 2048
                2,048 -> 32,768
            advised net.ipv4.tcp_max_tw_buckets burst 262144
                262,144 -> 2,500,000
            advised net.ipv4.tcp_slow_start_after_idle always
                1 -> 0
            advised net.ipv4.tcp_notsent_lowat always
                4294967295 -> 131072
            advised vm.min_free_kbytes always
                90,112 -> 524,288
            advised vm.swappiness always
                60 -> 1
            advised transparent_hugepage always
                always -> madvise
            advised kernel.numa_balancing always
                1 -> 0
            advised cpu.governor always
                schedutil -> performance
            advised nic.interrupts always
                enp65s0f0 63 interrupts -> spread over cores
            advised nic.coalescing always
                enp65s0f0 128 us -> 25 us or less
            advised disk.scheduler always
                nvme0n1 none, sda bfq -> none or mq-deadline
        "#]],
    );
}

#[test]
fn a_container_is_bounded_by_its_memory() {
    let goal = "--connections 1000000";
    let report = judged(
        "container-4g-read-only",
        goal,
        &expect![[r#"
            exit code 1
            stops cgroup.memory.max at 974005
                3.9 GiB -> 4.0 GiB
            slows net.core.somaxconn burst 4097
                4,096 -> 8,192
            advised net.ipv4.tcp_max_syn_backlog burst 2048
                2,048 -> 8,192
            advised net.ipv4.tcp_max_tw_buckets burst 131072
                131,072 -> 250,000
            advised net.ipv4.tcp_rmem always
                4096 131072 33554432 -> 4096 131072 262144
            advised net.ipv4.tcp_wmem always
                4096 16384 4194304 -> 4096 16384 262144
            advised vm.min_free_kbytes always
                67,584 -> 322,265
            advised kernel.io_uring_disabled always
                Linux 6.8.0-1021-aws, too old -> 0, Linux 6.11 or newer
            unknown net.core.netdev_max_backlog never
                not shown -> -
            unknown net.ipv4.tcp_max_orphans never
                not shown -> -
            unknown net.ipv4.tcp_mem never
                not shown -> -
        "#]],
    );
    let findings = report["findings"].as_array().unwrap();
    let group = findings.iter().find(|f| f["setting"] == "cgroup.memory.max").unwrap();
    assert!(group["remedy"].as_str().unwrap().contains("the kernel's part"));
    let notes = report["notes"].to_string();
    assert!(notes.contains("read-only") && notes.contains("run check on the host"), "{notes}");
}

#[test]
fn an_older_kernel_waits_with_epoll() {
    judged(
        "ubuntu-5.15-4-cores-16g",
        "--connections 500000",
        &expect![[r#"
            exit code 1
            stops RLIMIT_NOFILE at 1018
                1,024:1,048,576 -> 500,200
            stops systemd.DefaultLimitNOFILE at 1018
                1,024:524,288 (default) -> 500,200
            slows net.ipv4.tcp_mem slow_at 247195
                185,394 247,195 370,788 -> 375000 500000 750000
            slows net.core.somaxconn burst 4097
                4,096 -> 8,192
            slows net.ipv4.tcp_max_orphans burst 65536
                65,536 -> 125,000
            advised net.core.netdev_max_backlog burst 1000
                1,000 -> 4,096
            advised net.ipv4.tcp_max_syn_backlog burst 1024
                1,024 -> 8,192
            advised net.ipv4.tcp_max_tw_buckets burst 65536
                65,536 -> 125,000
            advised net.ipv4.tcp_rmem always
                4096 131072 33554432 -> 4096 131072 262144
            advised net.ipv4.tcp_wmem always
                4096 16384 4194304 -> 4096 16384 262144
            advised vm.min_free_kbytes always
                67,584 -> 80,566
            advised kernel.io_uring_disabled always
                Linux 5.15.0-1071-aws, too old -> 0, Linux 6.11 or newer
            unknown net.ipv4.tcp_ehash_entries never
                not shown -> -
        "#]],
    );
}

/// The same machine under kernels of ten years: what shows, and how the server waits.
#[test]
fn what_differs_by_kernel_is_known() {
    let text = std::fs::read_to_string(crate::support::machine("two-cores-24g")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    let judge = |kernel: &str, gone: &[&str]| {
        let mut facts: Value = serde_json::from_str(&text).unwrap();
        facts["kernel"] = kernel.into();
        let sysctls = facts["sysctls"].as_object_mut().unwrap();
        gone.iter().for_each(|key| drop(sysctls.remove(*key)));
        std::fs::write(&path, facts.to_string()).unwrap();
        let goal = "--json --connections 2000000 --loopback";
        let run = crate::support::tune(&format!("check {goal} --facts {}", path.display()));
        let report = run.json();
        let findings = report["findings"].as_array().unwrap().clone();
        let state = |setting: &str| {
            let found = findings.iter().find(|f| f["setting"] == setting).unwrap();
            found["state"].as_str().unwrap().to_owned()
        };
        let notes = report["notes"].as_array().unwrap().len();
        let settings = ["RLIMIT_NOFILE", "net.ipv4.tcp_ehash_entries", "kernel.io_uring_disabled"];
        (settings.map(state), notes)
    };
    let [hash, child] = ["net.ipv4.tcp_ehash_entries", "net.ipv4.tcp_child_ehash_entries"];
    let disabled = "kernel.io_uring_disabled";
    let of = |states: [&str; 3], notes: usize| (states.map(str::to_owned), notes);
    let old = of(["stops", "unknown", "advised"], 2);
    assert_eq!(judge("5.15.0-1071-aws", &[hash, child, disabled]), old);
    let no_ring = of(["stops", "slows", "advised"], 2);
    assert_eq!(judge("6.1.0-28-cloud-amd64", &[disabled]), no_ring);
    assert_eq!(judge("6.8.0-49-generic", &[]), no_ring);
    assert_eq!(judge("6.10.11-amd64", &[]), no_ring);
    let ring = of(["avoided", "slows", "fits"], 2);
    assert_eq!(judge("6.11.0", &[]), ring);
    assert_eq!(judge("6.12.57+deb13-cloud-amd64", &[]), ring);
    assert_eq!(judge("7.3.0-rc1", &[]), ring);
    // Too old, and not known: a note more, and nothing is taken for granted.
    assert_eq!(
        judge("5.4.0-200-generic", &[hash, child, disabled]),
        of(["stops", "unknown", "advised"], 3)
    );
    assert_eq!(judge("next-20261128", &[]), of(["stops", "slows", "advised"], 3));
}

#[test]
fn plans_say_how_many_machines_a_goal_needs() {
    let nodes = |machine: &str, goal: &str| {
        let run = tune_machine(machine, &format!("plan --json {goal}"));
        let plan = run.json();
        let largest = &plan["largest"];
        let connections = largest["connections"].as_u64().unwrap();
        (
            connections / 100_000,
            largest["by"].as_str().unwrap().to_owned(),
            plan["nodes"].as_u64().unwrap(),
        )
    };
    let memory = "memory".to_owned();
    // 2.2 million pairs were seen to fit into this machine, with sessions of Roost's size fewer.
    let (here, by, _) = nodes("two-cores-24g", "--connections 2000000 --loopback");
    assert!((20..27).contains(&here), "{here}");
    assert_eq!(by, memory);
    let (cloud, by, count) = nodes("cloud-8-cores-32g", "--connections 100000000");
    assert!((50..75).contains(&cloud) && (14..20).contains(&count), "{cloud} {count}");
    assert_eq!(by, memory);
    let (_, by, _) = nodes("container-4g-read-only", "--connections 1000000");
    assert_eq!(by, "the control group's memory");
    // The gateway's own bound comes before the memory of a large machine.
    let (metal, by, count) = nodes("metal-64-cores-numa", "--connections 25000000");
    assert_eq!((metal, by.as_str(), count), (100, "limits.connections_max of one gateway", 3));
    let (_, by, _) = nodes("two-cores-24g", "--connections 100000 --heartbeat 1");
    assert_eq!(by, "processors");
}

#[test]
fn a_plan_for_people_has_every_budget() {
    let run = tune_machine("two-cores-24g", "plan --connections 2000000 --loopback");
    for part in ["sock_inode_cache", "edge", "memory:", "processors:", "descriptors", "disk:"] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    assert!(run.out.contains("to change first: "), "{}", run.out);
}

#[test]
fn tls_and_what_a_probe_measured_change_the_figures() {
    let each = |machine: &str, more: &str| {
        let run = tune_machine(machine, &format!("check --json --connections 1000 {more}"));
        run.json()["session_bytes"].as_u64().unwrap()
    };
    let plain = each("two-cores-24g", "");
    assert_eq!(plain, 4_162 + 248);
    assert_eq!(each("two-cores-24g", "--tls"), plain + 192);
    assert_eq!(each("two-cores-24g", "--tls --process-bytes 651"), 4_162 + 651);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe.json");
    let report = r#"{"measured": {"kernel": "6.18.44", "pairs": 9, "watched": true,
                     "pair_millibytes": {"TCP": 10000000}}}"#;
    std::fs::write(&path, report).unwrap();
    let measured = format!("--measured {}", path.display());
    // Half a pair, what a ring's poll takes more than epoll's half, a descriptor, the process.
    assert_eq!(each("two-cores-24g", &measured), 5_000 + (296 - 115) + 8 + 248);
    // Of another kernel: it does not count.
    assert_eq!(each("cloud-8-cores-32g", &measured), each("cloud-8-cores-32g", ""));
}
