//! Applying and undoing, over trees: what is announced is written, nothing else, and all of it goes
//! back, however it ended.

use crate::support::{PROGRAM, Tree, run_command, tune_machine};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};

const GOAL: &str = "--connections 2000000 --loopback --connects 20000 --driver epoll";
const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";

fn apply(tree: &Tree, more: &str) -> crate::support::Run {
    tree.tune(&format!("apply {GOAL} {more}"))
}

#[test]
fn without_write_nothing_is_changed() {
    let tree = Tree::of("two-cores-24g");
    let before = tree.dump();
    let shown = apply(&tree, "");
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("/proc/sys/net/core/somaxconn: 4096 -> 16384"), "{}", shown.out);
    assert!(shown.out.contains("  + net.core.somaxconn = 16384"), "{}", shown.out);
    assert!(shown.out.contains("LimitNOFILE=2000200"), "{}", shown.out);
    assert!(shown.out.contains("thash_entries=2097152"), "{}", shown.out);
    assert!(shown.out.ends_with("nothing was changed; --write does it\n"));
    assert_eq!(tree.dump(), before);
}

#[test]
fn what_is_applied_fits_and_all_of_it_goes_back() {
    let tree = Tree::of("two-cores-24g");
    let before = tree.dump();
    let applied = apply(&tree, "--write");
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(tree.read(SOMAXCONN), "16384\n");
    let tcp_mem = tree.read("proc/sys/net/ipv4/tcp_mem");
    assert_eq!(tcp_mem, "1500000 2000000 3000000\n");
    assert!(tree.read("etc/sysctl.d/90-roost-tune.conf").contains("fs.file-max = "));
    assert!(
        tree.read("etc/security/limits.d/90-roost-tune.conf").contains("* hard nofile 2000200")
    );
    let changed: Vec<String> = {
        let after = tree.dump();
        after
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(value))
            .map(|(k, _)| k.clone())
            .collect()
    };
    // Nothing that was not announced.
    let announced = apply(&Tree::of("two-cores-24g"), "").out;
    for path in changed.iter().filter(|path| !path.starts_with("var/lib/roost-tune")) {
        let is_folder = tree.path(path).is_dir();
        assert!(is_folder || announced.contains(path.as_str()), "{path} was not announced");
    }
    let undone = tree.tune("undo");
    assert_eq!(undone.code, 0, "{undone:?}");
    assert_eq!(tree.dump(), before);
    let again = tree.tune("undo");
    assert_eq!(again.code, 2);
    assert!(again.error.contains("nothing was applied"), "{}", again.error);
}

#[test]
fn applying_twice_is_applying_once() {
    let tree = Tree::of("two-cores-24g");
    let before = tree.dump();
    apply(&tree, "--write");
    let once = tree.dump();
    let twice = apply(&tree, "--write");
    assert!(twice.out.contains("nothing to do"), "{}", twice.out);
    assert_eq!(tree.dump(), once);
    // A larger goal on top: what was before the first one is what comes back.
    let more = tree.tune("apply --write --connections 3000000 --connects 40000 --driver epoll");
    assert_eq!(more.code, 0, "{more:?}");
    assert_eq!(tree.read(SOMAXCONN), "32768\n");
    let file = tree.read("etc/sysctl.d/90-roost-tune.conf");
    assert!(file.contains("net.core.somaxconn = 32768"), "{file}");
    assert!(file.contains("net.ipv4.ip_local_port_range = 1024 65535"), "{file}");
    assert_eq!(tree.tune("undo").code, 0);
    assert_eq!(tree.dump(), before);
}

#[test]
fn a_crash_between_any_two_writes_can_be_undone() {
    let before = Tree::of("two-cores-24g").dump();
    let mut ended_by_itself = false;
    for writes in 0..80 {
        let tree = Tree::of("two-cores-24g");
        let mut command = Command::new(PROGRAM);
        let words = format!("apply {GOAL} --write --stop-after {writes}");
        command.args(words.split_whitespace()).arg("--root").arg(tree.top());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        if !status.stopped() {
            ended_by_itself = true;
            break;
        }
        kill_process(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
        let undone = tree.tune("undo");
        // At the first two not even the undo file was whole, and so nothing else was done.
        assert_eq!(undone.code, if writes < 2 { 2 } else { 0 }, "{writes}: {undone:?}");
        assert_eq!(tree.dump(), before, "after {writes} writes");
    }
    assert!(ended_by_itself, "there are fewer than 80 writes");
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode_and_owner() {
    const FILE: &str = "etc/sysctl.d/90-roost-tune.conf";
    let tree = Tree::of("two-cores-24g");
    tree.write(FILE, "net.core.somaxconn = 5000\n");
    let give = |mode| {
        fs::set_permissions(tree.path(FILE), Permissions::from_mode(mode)).unwrap();
    };
    let of = |path: &str| {
        let found = fs::metadata(tree.path(path)).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    give(0o640);
    if rustix::process::geteuid().is_root() {
        chown(tree.path(FILE), Some(12), Some(34)).unwrap();
    }
    let (before, dump) = (of(FILE), tree.dump());
    // Whatever the umask is: who reads these files is not root alone.
    let script = format!("umask 077; exec \"$0\" apply {GOAL} --write --root \"$1\"");
    let mut command = Command::new("sh");
    let run = run_command(command.args(["-euc", &script, PROGRAM]).arg(tree.top()));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(tree.read(FILE).contains("net.core.somaxconn = 16384"));
    assert_eq!(of(FILE), before);
    assert_eq!(of("etc/security/limits.d/90-roost-tune.conf").0, 0o644);
    // Somebody changes only that; it comes back, too.
    give(0o600);
    assert_eq!(tree.tune("undo").code, 0);
    assert_eq!((of(FILE), tree.dump()), (before, dump));
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused_before_anything_is_changed() {
    const FILE: &str = "etc/sysctl.d/90-roost-tune.conf";
    let tree = Tree::of("two-cores-24g");
    tree.write("opt/site.conf", "# managed elsewhere\n");
    tree.write("etc/sysctl.d/10-site.conf", "");
    symlink(tree.path("opt/site.conf"), tree.path(FILE)).unwrap();
    let before = tree.dump();
    let refused = apply(&tree, "--write");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.error.contains("symbolic link"), "{}", refused.error);
    assert_eq!(tree.dump(), before);
    // One that somebody puts there later is not followed by undo either.
    fs::remove_file(tree.path(FILE)).unwrap();
    assert_eq!(apply(&tree, "--write").code, 0);
    fs::rename(tree.path(FILE), tree.path("opt/moved.conf")).unwrap();
    symlink(tree.path("opt/moved.conf"), tree.path(FILE)).unwrap();
    let undone = tree.tune("undo");
    assert_eq!(undone.code, 2, "{undone:?}");
    assert!(tree.path("var/lib/roost-tune/undo.json").exists());
    fs::remove_file(tree.path(FILE)).unwrap();
    assert_eq!(tree.tune("undo").code, 0);
    assert_eq!(tree.read(SOMAXCONN).trim(), "4096");
}

#[test]
fn masks_of_processors_are_compared_as_numbers() {
    const RPS: &str = "sys/class/net/eth0/queues/rx-0/rps_cpus";
    let tree = Tree::of("two-cores-24g");
    tree.write(RPS, "00000000,00000000\n");
    fs::create_dir_all(tree.path("sys/class/net/eth0/device")).unwrap();
    let before = tree.dump();
    let goal = "apply --write --connections 1000000 --rate 100000";
    let applied = tree.tune(goal);
    assert!(applied.out.contains("rps_cpus: 00000000,00000000 -> 3"), "{}", applied.out);
    // As the kernel shows on a machine built for more processors.
    tree.write(RPS, "00000000,00000003\n");
    let again = tree.tune(goal);
    assert!(again.out.contains("nothing to do"), "{}", again.out);
    let undone = tree.tune("undo");
    assert_eq!(undone.code, 0, "{undone:?}");
    assert_eq!(tree.dump(), before);
}

#[test]
fn after_a_crash_it_can_also_be_applied_again() {
    let tree = Tree::of("two-cores-24g");
    let before = tree.dump();
    let mut command = Command::new(PROGRAM);
    let words = format!("apply {GOAL} --write --stop-after 7");
    command.args(words.split_whitespace()).arg("--root").arg(tree.top());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
    // Another one is kept out meanwhile.
    let other = apply(&tree, "--write");
    assert_eq!(other.code, 2);
    assert!(other.error.contains("another roost-tune"), "{}", other.error);
    kill_process(pid, Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(apply(&tree, "--write").code, 0);
    assert_eq!(tree.read(SOMAXCONN), "16384\n");
    assert_eq!(tree.tune("undo").code, 0);
    assert_eq!(tree.dump(), before);
}

#[test]
fn a_step_that_fails_takes_the_others_back() {
    let tree = Tree::of("two-cores-24g");
    // A file where a folder is needed.
    tree.write("etc/security", "not a folder\n");
    let before = tree.dump();
    let failed = apply(&tree, "--write");
    assert_eq!(failed.code, 2, "{failed:?}");
    assert!(failed.error.contains("has its old value again"), "{}", failed.error);
    assert_eq!(tree.dump(), before);
}

#[test]
fn what_somebody_else_changed_since_is_not_overwritten() {
    let tree = Tree::of("two-cores-24g");
    let before = tree.dump();
    apply(&tree, "--write");
    tree.write(SOMAXCONN, "9999\n");
    let during = tree.dump();
    let refused = tree.tune("undo");
    assert_eq!(refused.code, 2);
    assert!(refused.error.contains("is 9999, we wrote 16384"), "{}", refused.error);
    assert_eq!(tree.dump(), during);
    assert_eq!(tree.tune("undo --force").code, 0);
    assert_eq!(tree.dump(), before);
}

#[test]
fn a_damaged_undo_file_changes_nothing() {
    let tree = Tree::of("two-cores-24g");
    tree.write("var/lib/roost-tune/undo.json", "{\"schema\": 1, \"ste");
    let before = tree.dump();
    let undone = tree.tune("undo");
    assert_eq!(undone.code, 2);
    assert!(undone.error.contains("is not a file of roost-tune"), "{}", undone.error);
    assert_eq!(apply(&tree, "--write").code, 2);
    assert_eq!(tree.dump(), before);
}

#[test]
fn a_file_that_wins_over_ours_is_named() {
    let tree = Tree::of("two-cores-24g");
    tree.write("etc/sysctl.d/99-site.conf", "net.core.somaxconn = 1024\n");
    tree.write("etc/sysctl.d/10-site.conf", "net.ipv4.tcp_max_syn_backlog = 512\n");
    let shown = apply(&tree, "");
    assert!(
        shown.out.contains(
            "net.core.somaxconn: /etc/sysctl.d/99-site.conf sets it to 1024 and comes after \
             /etc/sysctl.d/90-roost-tune.conf"
        ),
        "{}",
        shown.out
    );
    assert!(shown.out.contains("/etc/sysctl.d/90-roost-tune.conf comes later and wins"));
    // The last of several counts, and the old file comes after all.
    tree.write("etc/sysctl.conf", "net.core.somaxconn = 2048\n");
    let shown = apply(&tree, "").out;
    assert!(shown.contains("/etc/sysctl.conf sets it to 2048: sysctl --system reads"), "{shown}");
    // One that hides a namesake below /usr/lib is the only one of them that counts.
    tree.write("usr/lib/sysctl.d/95-x.conf", "net.ipv4.tcp_max_syn_backlog = 1\n");
    let shown = apply(&tree, "").out;
    assert!(shown.contains("/usr/lib/sysctl.d/95-x.conf sets it to 1 and comes"), "{shown}");
    tree.write("etc/sysctl.d/95-x.conf", "# nothing\n");
    let shown = apply(&tree, "").out;
    assert!(!shown.contains("95-x.conf"), "{shown}");
}

#[test]
fn a_read_only_proc_is_said_before_anything_is_done() {
    let tree = Tree::of("two-cores-24g");
    tree.write("proc/self/mountinfo", "22 1 0:4 / /proc/sys ro - proc proc ro\n");
    let before = tree.dump();
    let refused = apply(&tree, "--write");
    assert_eq!(refused.code, 2);
    assert!(refused.error.contains("read-only") && refused.error.contains("--emit docker"));
    assert_eq!(tree.dump(), before);
}

#[test]
fn after_apply_the_unit_is_what_counts() {
    let tree = Tree::of("cloud-8-cores-32g");
    tree.write("run/systemd/system/roost.service", "[Service]\nExecStart=/bin/roost serve\n");
    let goal = "--connections 1000000 --driver epoll";
    let stops = |run: &crate::support::Run| {
        let report = run.json();
        let findings = report["findings"].as_array().unwrap();
        let stops = findings.iter().filter(|f| f["state"] == "stops");
        stops.map(|f| f["setting"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let check = || tree.tune(&format!("check --json {goal}"));
    assert_eq!(stops(&check()), ["RLIMIT_NOFILE", "systemd.DefaultLimitNOFILE"]);
    assert_eq!(tree.tune(&format!("apply --write {goal}")).code, 0);
    let fits = check();
    assert_eq!((stops(&fits), fits.code), (Vec::new(), 0));
    // Of another unit nothing is known.
    let other = tree.tune(&format!("check --json {goal} --unit chat.service"));
    assert_eq!(other.code, 1);
    // A limit of memory in the unit bites though this shell has none.
    tree.write("etc/systemd/system/roost.service.d/50-site.conf", "[Service]\nMemoryMax=2G\n");
    assert_eq!(stops(&check()), ["cgroup.memory.max"]);
}

#[test]
fn a_network_namespace_gets_only_what_is_its_own() {
    let tree = Tree::of("two-cores-24g");
    fs::remove_file(tree.path("proc/sys/net/ipv4/tcp_mem")).unwrap();
    let before = tree.dump();
    let applied = apply(&tree, "--write");
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(
        applied.out.contains("not fs.file-max: holds for the whole machine"),
        "{}",
        applied.out
    );
    assert_eq!(tree.read(SOMAXCONN), "16384\n");
    assert_eq!(tree.read("proc/sys/fs/file-max").trim(), "2466165");
    // Files are the machine's.
    assert!(!tree.path("etc/sysctl.d").exists());
    assert_eq!(tree.tune("undo").code, 0);
    assert_eq!(tree.dump(), before);
}

#[test]
fn settings_can_be_left_alone_by_name() {
    let tree = Tree::of("two-cores-24g");
    let shown = apply(&tree, "--skip net.core.somaxconn");
    assert!(!shown.out.contains("/proc/sys/net/core/somaxconn:"), "{}", shown.out);
    assert!(shown.out.contains("not net.core.somaxconn: left out by --skip"));
    let wrong = apply(&tree, "--skip somaxconn");
    assert_eq!(wrong.code, 2);
    assert!(wrong.error.contains("did you mean net.core.somaxconn?"), "{}", wrong.error);
    let unit = apply(&tree, "--unit ../../evil.service");
    assert_eq!(unit.code, 2, "{unit:?}");
}

#[test]
fn an_archive_cannot_be_written_to() {
    let run = tune_machine("two-cores-24g", "apply --write");
    assert_eq!(run.code, 2, "{run:?}");
    let dry = tune_machine("two-cores-24g", "apply --connections 2000000 --loopback");
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.contains("/proc/sys/fs/file-max: 2466165 -> 4500000"), "{}", dry.out);
}
