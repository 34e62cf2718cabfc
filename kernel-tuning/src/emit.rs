//! The same changes for tools that set up machines. Pure: text out.

use crate::change::{Changes, drop_in};
use crate::facts::Facts;
use crate::goal::{Goal, OTHER_DESCRIPTORS};
use crate::settings::{Scope, find};
use crate::text::count;
use clap::ValueEnum;

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Ansible,
    Terraform,
    Kubernetes,
    Docker,
    Ami,
}

/// Sysctls of a pod that a kubelet allows without being told to, of those that we change.
const SAFE_IN_PODS: [&str; 4] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// Descriptors of a container whose server needs none of its own for sessions.
const NOFILE: u64 = 65_536;

/// What is to be set up.
pub(crate) struct Wanted<'a> {
    pub facts: &'a Facts,
    pub goal: &'a Goal,
    pub changes: &'a Changes,
    pub unit: &'a str,
}

impl Wanted<'_> {
    pub(crate) fn emit(&self, format: Format) -> String {
        match format {
            Format::Ansible => self.ansible(),
            Format::Terraform => self.terraform(),
            Format::Kubernetes => self.kubernetes(),
            Format::Docker => self.docker(),
            Format::Ami => self.ami(),
        }
    }

    fn head(&self) -> String {
        let goal = self.goal;
        format!(
            "# roost-tune, for {} connections{} on a machine like this one: {}\n",
            count(goal.connections),
            if goal.tls { " with TLS" } else { "" },
            crate::check::machine(self.facts),
        )
    }

    fn nofile(&self) -> u64 {
        self.changes.nofile.unwrap_or(NOFILE)
    }

    /// Sysctls by whether each network namespace has its own.
    fn by_scope(&self, own: bool) -> impl Iterator<Item = (&String, &String)> {
        self.changes.sysctls.iter().filter(move |(key, _)| {
            let scope = find(key).map_or(Scope::Machine, |setting| setting.scope);
            (scope == Scope::NetworkNamespace) == own
        })
    }

    fn ansible(&self) -> String {
        let mut text = self.head();
        text.push_str(
            "- name: Kernel settings for Roost\n  hosts: roost\n  become: true\n  tasks:\n",
        );
        for (key, value) in &self.changes.sysctls {
            put!(
                text,
                "    - name: {key}\n      ansible.posix.sysctl:\n        name: {key}\n        \
                 value: \"{value}\"\n        sysctl_file: {}\n        sysctl_set: true\n        \
                 state: present\n        reload: false\n",
                crate::check::SYSCTL_FILE
            );
        }
        for (path, value) in &self.changes.devices {
            put!(
                text,
                "    - name: {path}\n      ansible.builtin.copy:\n        dest: \
                 /etc/tmpfiles.d/90-roost-tune-{}.conf\n        content: \"w {path} - - - - \
                 {value}\\n\"\n        mode: \"0644\"\n",
                path.trim_start_matches('/').replace('/', "-")
            );
        }
        let folder = format!("/etc/systemd/system/{}.d", self.unit);
        put!(
            text,
            "    - name: folder of the drop-in\n      ansible.builtin.file:\n        path: \
             {folder}\n        state: directory\n        mode: \"0755\"\n    - name: descriptors \
             of {}\n      ansible.builtin.copy:\n        dest: \
             {folder}/90-roost-tune.conf\n        content: |\n{}        mode: \"0644\"\n      \
             notify: reload systemd\n",
            self.unit,
            indent(&drop_in(self.nofile()), 10)
        );
        for parameter in &self.changes.boot {
            put!(
                text,
                "    - name: {parameter}\n      ansible.builtin.copy:\n        dest: \
                 /etc/default/grub.d/90-roost-tune.cfg\n        content: \
                 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {parameter}\"'\n        mode: \
                 \"0644\"\n      notify: update grub\n"
            );
        }
        text.push_str(
            "  handlers:\n    - name: reload systemd\n      ansible.builtin.systemd_service:\n\
             \x20       daemon_reload: true\n",
        );
        if !self.changes.boot.is_empty() {
            text.push_str("    - name: update grub\n      ansible.builtin.command: update-grub\n");
        }
        text
    }

    /// The files of a machine that is to be tuned from its first start on: path and content.
    fn each_file(&self, mut file: impl FnMut(&str, &str)) {
        file(crate::check::SYSCTL_FILE, &self.sysctl_lines());
        file(&crate::change::unit_file(self.unit), &drop_in(self.nofile()));
        for (at, (path, value)) in self.changes.devices.iter().enumerate() {
            let name = format!("/etc/tmpfiles.d/90-roost-tune-{at}.conf");
            file(&name, &format!("w {path} - - - - {value}\n"));
        }
        for parameter in &self.changes.boot {
            file(
                "/etc/default/grub.d/90-roost-tune.cfg",
                &format!("GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {parameter}\"\n"),
            );
        }
    }

    /// Files and commands for cloud-init.
    fn cloud_config(&self) -> String {
        let mut text = "#cloud-config\nwrite_files:\n".to_owned();
        self.each_file(|path, content| {
            put!(text, "  - path: {path}\n    content: |\n{}", indent(content, 6));
        });
        text.push_str("runcmd:\n  - sysctl --system\n  - systemd-tmpfiles --create\n");
        text.push_str("  - systemctl daemon-reload\n");
        if !self.changes.boot.is_empty() {
            text.push_str("  - update-grub\n");
            text.push_str(
                "power_state:\n  mode: reboot\n  message: for the kernel's command line\n",
            );
        }
        text
    }

    fn sysctl_lines(&self) -> String {
        let lines = self.changes.sysctls.iter().map(|(key, value)| format!("{key} = {value}\n"));
        lines.collect()
    }

    fn terraform(&self) -> String {
        let mut text = self.head();
        text.push_str(
            "# In the machine's resource: user_data = local.roost_tune_user_data\nlocals {\n  \
             roost_tune_user_data = <<-EOT\n",
        );
        // Terraform would take these for its own.
        let config = self.cloud_config().replace("${", "$${").replace("%{", "%%{");
        text.push_str(&indent(&config, 4));
        text.push_str("  EOT\n}\n");
        text
    }

    fn kubernetes(&self) -> String {
        let mut text = self.head();
        let (safe, refused): (Vec<_>, Vec<_>) =
            self.by_scope(true).partition(|(key, _)| SAFE_IN_PODS.contains(&key.as_str()));
        let memory = self.goal.connections.saturating_mul(self.session_bytes());
        text.push_str("# Merge this into the pod's template.\nspec:\n");
        if !safe.is_empty() || !refused.is_empty() {
            text.push_str("  securityContext:\n    sysctls:\n");
        }
        let row = |text: &mut String, (key, value): &(&String, &String)| {
            put!(text, "      - name: {key}\n        value: \"{value}\"\n");
        };
        safe.iter().for_each(|pair| row(&mut text, pair));
        if !refused.is_empty() {
            let names: Vec<&str> = refused.iter().map(|(key, _)| key.as_str()).collect();
            put_line!(
                text,
                "      # The kubelet refuses these unless it is started with\n      # \
                 --allowed-unsafe-sysctls={}",
                names.join(",")
            );
            refused.iter().for_each(|pair| row(&mut text, pair));
        }
        put!(
            text,
            "  containers:\n    - name: roost\n      resources:\n        limits:\n          # The \
             kernel's part of every session counts in it.\n          memory: {}Mi\n",
            self.memory_mib(memory)
        );
        text.push_str(&self.daemon_set());
        for parameter in &self.changes.boot {
            put_line!(text, "# On the node, in the kernel's command line: {parameter}");
        }
        text
    }

    /// Settings of the node: some of them only show in its first network namespace, so a container
    /// of the pod itself could not set them.
    fn daemon_set(&self) -> String {
        let values: Vec<_> = self.by_scope(false).collect();
        if values.is_empty() {
            return String::new();
        }
        let mut text = "---\n\
            # Settings of the nodes, for all of their pods: a privileged container on the node's \
            own\n\
            # network sets them once. Where that may not be, they belong into the nodes' set-up.\n\
            apiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  name: roost-tune\nspec:\n  \
            selector:\n    matchLabels: {app: roost-tune}\n  template:\n    metadata:\n      \
            labels: {app: roost-tune}\n    spec:\n      hostNetwork: true\n      \
            initContainers:\n        - name: set\n          image: debian:13-slim\n          \
            securityContext: {privileged: true}\n          command:\n            - sh\n            \
            - -ec\n            - |\n"
            .to_owned();
        for (key, value) in values {
            let path = key.replace('.', "/");
            put_line!(text, "              echo '{value}' > /proc/sys/{path}");
        }
        text.push_str(
            "      containers:\n        - name: wait\n          image: debian:13-slim\n\
             \x20         command: [sleep, infinity]\n",
        );
        text
    }

    fn session_bytes(&self) -> u64 {
        let layout = self.goal.layout(self.facts);
        crate::cost::SessionCost::of(self.facts, self.goal, &layout).bytes()
    }

    /// With a fifth more, and what a server and its pages of files need.
    fn memory_mib(&self, sessions_bytes: u64) -> u64 {
        (sessions_bytes / 5 * 6 + (1 << 30)) >> 20
    }

    fn docker(&self) -> String {
        let mut text = self.head();
        let memory = self.goal.connections.saturating_mul(self.session_bytes());
        // Docker's own filter forbids io_uring, and then each session is a descriptor.
        let nofile = self.nofile().max(self.goal.connections + OTHER_DESCRIPTORS);
        text.push_str("docker run \\\n");
        for (key, value) in self.by_scope(true) {
            put_line!(text, "  --sysctl '{key}={value}' \\");
        }
        put!(
            text,
            "  --ulimit nofile={nofile}:{nofile} \\\n  --memory {}m \\\n",
            self.memory_mib(memory)
        );
        text.push_str(
            "  --publish 4443:4443 roost\n# Docker's own filter of system calls forbids io_uring: \
             Roost takes epoll. With a filter that\n# also allows io_uring_setup, io_uring_enter \
             and io_uring_register (--security-opt seccomp=FILE)\n# 65,536 descriptors are \
             enough.\n# With --publish the host tracks every session (nf_conntrack_max); --network \
             host does not, and\n# then the host's sysctls hold instead of --sysctl.\n",
        );
        text.push_str("# On the host, since a container has no such value of its own:\n");
        for (key, value) in self.by_scope(false) {
            put_line!(text, "sysctl -w '{key}={value}'");
        }
        for parameter in &self.changes.boot {
            put_line!(text, "# and in the host's kernel command line: {parameter}");
        }
        text
    }

    fn ami(&self) -> String {
        let mut text = self.head();
        text.push_str(
            "# What to bake into an image (Packer's shell provisioner, as root). Values that \
             follow\n\
             # from memory are for this size; run roost-tune check at the first start of another \
             one.\nset -eu\n",
        );
        self.each_file(|path, content| {
            let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
            put!(text, "install -d {folder}\ncat > {path} <<'END'\n{content}END\n");
        });
        if !self.changes.boot.is_empty() {
            text.push_str("update-grub\n");
        }
        text.push_str(
            "# Network: choose a type with ENA and as many queues as cores; raise the ring: \
             ethtool -G.\n# Security groups of AWS track connections, too, and each type has its \
             own bound: allow the\n# server's port from 0.0.0.0/0 and ::/0 in both directions, \
             then it is not tracked.\n",
        );
        text
    }
}

fn indent(text: &str, columns: usize) -> String {
    let blanks = " ".repeat(columns);
    text.lines().map(|line| format!("{blanks}{line}\n")).collect()
}
