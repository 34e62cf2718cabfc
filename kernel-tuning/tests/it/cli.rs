//! The other commands, and what is said when something is wrong.

use crate::support::{PROGRAM, Tree, run_command, tune, tune_machine};
use std::process::Command;

#[test]
fn every_setting_has_a_page() {
    let list = tune("explain");
    assert_eq!(list.code, 0);
    let names: Vec<&str> =
        list.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 35, "{names:?}");
    for name in names {
        let page = tune(&format!("explain {name}"));
        assert_eq!(page.code, 0, "{name}");
        for part in ["What it is", "When it matters", "Too low", "Too high", "How it is measured"] {
            assert!(page.out.contains(part), "{name} lacks {part}");
        }
    }
    let wrong = tune("explain net.ipv4.tcp_orphans");
    assert_eq!(wrong.code, 2);
    assert!(wrong.error.contains("did you mean"), "{}", wrong.error);
}

#[test]
fn profiles_differ_with_reasons() {
    let text = tune("profiles").out;
    for part in ["density:", "latency:", "throughput:", "net.ipv4.tcp_wmem = 4096 16384 262144:"] {
        assert!(text.contains(part), "{text}");
    }
    let latency = tune_machine("cloud-8-cores-32g", "apply --profile latency").out;
    assert!(latency.contains("tcp_slow_start_after_idle: 1 -> 0"), "{latency}");
    let density = tune_machine("cloud-8-cores-32g", "apply --profile density").out;
    assert!(!density.contains("tcp_slow_start_after_idle"), "{density}");
}

#[test]
fn absurd_goals_are_refused() {
    for goal in ["--connections 0", "--connections 99999999999999", "--heartbeat 0"] {
        let run = tune_machine("two-cores-24g", &format!("check {goal}"));
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.error.contains("choose a number from"), "{}", run.error);
    }
    assert_eq!(tune("check --connections many").code, 2);
    assert_eq!(tune("check --connections -5").code, 2);
}

#[test]
fn exit_codes_say_whether_it_fits() {
    let fits = tune_machine("cloud-8-cores-32g", "check --connections 900 --driver epoll");
    assert_eq!(fits.code, 1, "systemd's default of 1,024 does not do: {fits:?}");
    let fits = tune_machine("two-cores-24g", "check --connections 10000");
    assert_eq!(fits.code, 0, "{fits:?}");
    assert!(fits.out.contains("fits: nothing stops it here"), "{}", fits.out);
    let not = tune_machine("two-cores-24g", "check --connections 50000000");
    assert_eq!(not.code, 1);
    assert!(not.out.contains("does not fit: "), "{}", not.out);
}

#[test]
fn archives_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    let check = || tune(&format!("check --facts {}", path.display()));
    let missing = check();
    assert_eq!(missing.code, 2);
    assert!(missing.error.contains("cannot read"), "{}", missing.error);
    std::fs::write(&path, "not json").unwrap();
    assert!(check().error.contains("is not a file of roost-tune"));
    std::fs::write(&path, "{\"schema\": 7}").unwrap();
    assert!(check().error.contains("layout 7"));
}

#[test]
fn a_kernel_that_nobody_knows_is_said() {
    let tree = Tree::of("two-cores-24g");
    tree.write("proc/sys/kernel/osrelease", "experimental\n");
    let run = tree.tune("check --connections 1000");
    assert!(run.out.contains("no release that we know"), "{}", run.out);
    assert!(run.out.contains("unknown kernel experimental"), "{}", run.out);
    tree.write("proc/sys/kernel/osrelease", "4.19.0-27-amd64\n");
    let run = tree.tune("check --connections 1000");
    assert!(run.out.contains("older than 5.15"), "{}", run.out);
    let empty = tempfile::tempdir().unwrap();
    let run = tune(&format!("check --root {}", empty.path().display()));
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn facts_are_collected_and_judged_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facts.json");
    let run = tune(&format!("collect --out {}", path.display()));
    assert_eq!(run.code, 0, "{run:?}");
    // A goal that is far from any bound, so that memory that moves meanwhile does not matter.
    let settings = |arguments: &str| {
        let report = tune(arguments).json();
        let findings = report["findings"].as_array().unwrap().clone();
        let pair = |f: &serde_json::Value| format!("{} {}", f["setting"], f["state"]);
        let mut pairs: Vec<String> = findings.iter().map(pair).collect();
        pairs.sort();
        pairs
    };
    let live = settings("check --json --connections 100");
    let saved = settings(&format!("check --json --connections 100 --facts {}", path.display()));
    assert_eq!(live, saved);
    let nowhere = tune("collect --out /no/such/folder/facts.json");
    assert_eq!(nowhere.code, 2);
}

#[test]
fn every_format_has_the_values_where_they_belong() {
    let emit = |machine: &str, format: &str| {
        let goal = "--connections 2000000 --loopback --connects 20000 --driver epoll";
        let run = tune_machine(machine, &format!("apply {goal} --emit {format}"));
        assert_eq!(run.code, 0, "{run:?}");
        run.out
    };
    let ansible = emit("two-cores-24g", "ansible");
    assert!(ansible.contains("        name: net.core.somaxconn\n        value: \"16384\"\n"));
    assert!(ansible.contains("LimitNOFILE=2000200") && ansible.contains("thash_entries=2097152"));
    let terraform = emit("two-cores-24g", "terraform");
    assert!(terraform.contains("    #cloud-config\n") && terraform.ends_with("  EOT\n}\n"));
    assert!(terraform.contains("net.core.somaxconn = 16384"));
    let kubernetes = emit("two-cores-24g", "kubernetes");
    let (pod, node) = kubernetes.split_once("initContainers:").unwrap();
    assert!(pod.contains("- name: net.core.somaxconn\n        value: \"16384\"\n"));
    assert!(pod.contains("--allowed-unsafe-sysctls=") && !pod.contains("fs.file-max"));
    assert!(node.contains("> /proc/sys/fs/file-max") && pod.contains("memory: "));
    assert!(pod.contains("hostNetwork: true"), "tcp_mem shows in no other: {pod}");
    let docker = emit("two-cores-24g", "docker");
    assert!(docker.contains("--sysctl 'net.core.somaxconn=16384'"), "{docker}");
    assert!(docker.contains("sysctl -w 'fs.file-max="), "{docker}");
    assert!(docker.contains("--ulimit nofile=2000200:2000200"), "{docker}");
    let ami = emit("two-cores-24g", "ami");
    assert!(ami.contains("cat > /etc/sysctl.d/90-roost-tune.conf <<'END'"), "{ami}");
}

#[test]
fn the_shell_that_an_image_runs_is_valid() {
    let run = tune_machine("two-cores-24g", "apply --connections 2000000 --emit ami");
    let checked = run_command(Command::new("sh").args(["-n", "-c", &run.out]));
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn watch_shows_what_is_left() {
    let once = tune("watch --once");
    assert_eq!(once.code, 0, "{once:?}");
    assert!(once.out.contains("accept queue overflows") && once.out.contains("open files"));
    let json = tune("watch --once --json");
    let view = json.json();
    assert!(view["left"].as_u64().is_some() && view["rows"].as_array().unwrap().len() > 15);
    let no_terminal = tune("watch");
    assert_eq!(no_terminal.code, 2);
    assert!(no_terminal.error.contains("use watch --once"), "{}", no_terminal.error);
    let nobody = tune("watch --once --pid 4194304");
    assert_eq!(nobody.code, 2, "{nobody:?}");
}

#[test]
fn doctor_looks_at_a_process() {
    let me = std::process::id();
    let run = tune(&format!("doctor --pid {me} --interval 1 --json"));
    assert!(run.code <= 1, "{run:?}");
    let found = run.json();
    assert!(found["state"].as_array().unwrap().len() >= 4, "{found}");
    let nobody = tune("doctor --pid 4194304");
    assert_eq!(nobody.code, 2);
    assert!(nobody.error.contains("is it running"), "{}", nobody.error);
}

#[test]
fn doctor_names_a_full_table_of_descriptors() {
    let tree = Tree::of("two-cores-24g");
    tree.write("proc/9/status", "Name:\troost\nFDSize:\t20000\n");
    tree.write("proc/9/limits", "Max open files            20000                20000  files\n");
    let run = tree.tune("doctor --pid 9");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.out.contains("1. RLIMIT_NOFILE"), "{}", run.out);
}

#[test]
fn help_says_the_exit_codes() {
    let help = run_command(Command::new(PROGRAM).arg("--help"));
    assert!(help.out.contains("Exit codes: 0"), "{}", help.out);
}
