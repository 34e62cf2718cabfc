//! The name of the limit behind an error.

use rustix::io::Errno;

/// What a process of the probe could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What it did before that.
    pub(super) after: u64,
    pub(super) call: String,
    /// 0: there is no process any more; -1: it did not answer in time.
    pub(super) errno: i32,
}

impl Failure {
    /// The process ended.
    pub(super) fn gone() -> Self {
        Self { after: 0, call: "process".to_owned(), errno: 0 }
    }

    /// It did not answer.
    pub(super) fn late() -> Self {
        Self { after: 0, call: "process".to_owned(), errno: -1 }
    }

    pub(super) fn is_gone(&self) -> bool {
        *self == Self::gone()
    }

    /// What was seen, in words.
    pub(super) fn words(&self) -> String {
        match (self.call.as_str(), self.errno) {
            ("process", 0) => {
                "a process of the probe was ended (by whom, the kernel's log says)".to_owned()
            }
            ("process", _) => "a process of the probe did not answer in time".to_owned(),
            (call, errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                format!("{} from {call}(): {error}", name(errno))
            }
        }
    }

    /// The limit, as in the table of `check`. `grouped`: the probe is in a control group of its
    /// own.
    pub(super) fn limit(&self, grouped: bool) -> &'static str {
        let memory = if grouped { "cgroup.memory.max" } else { "memory" };
        if self.call == "process" {
            return if self.errno == 0 { memory } else { "unknown" };
        }
        match (self.call.as_str(), Errno::from_raw_os_error(self.errno)) {
            (_, Errno::MFILE) => "RLIMIT_NOFILE",
            (_, Errno::NFILE) => "fs.file-max",
            ("setrlimit", Errno::PERM) => "fs.nr_open",
            (_, Errno::ADDRNOTAVAIL) => "net.ipv4.ip_local_port_range",
            ("epoll_ctl", Errno::NOSPC) => "fs.epoll.max_user_watches",
            (_, Errno::NOMEM | Errno::NOBUFS) => memory,
            // A SYN that nobody answers: the accept queue is full, or a table of tracked ones.
            ("connect", Errno::INPROGRESS | Errno::AGAIN | Errno::TIMEDOUT) => "net.core.somaxconn",
            _ => "unknown",
        }
    }
}

fn name(errno: i32) -> String {
    let known = [
        (Errno::MFILE, "EMFILE"),
        (Errno::NFILE, "ENFILE"),
        (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::NOBUFS, "ENOBUFS"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::INPROGRESS, "EINPROGRESS"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::PERM, "EPERM"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::CONNRESET, "ECONNRESET"),
    ];
    let found = known.iter().find(|(known, _)| known.raw_os_error() == errno);
    found.map_or_else(|| format!("error {errno}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    #[test]
    fn errors_name_settings_of_the_table() {
        let of = |call: &str, errno: Errno| Failure {
            after: 0,
            call: call.to_owned(),
            errno: errno.raw_os_error(),
        };
        let all = [
            of("accept", Errno::MFILE),
            of("socket", Errno::NFILE),
            of("connect", Errno::ADDRNOTAVAIL),
            of("epoll_ctl", Errno::NOSPC),
            of("socket", Errno::NOBUFS),
            of("connect", Errno::INPROGRESS),
            of("setrlimit", Errno::PERM),
            Failure::gone(),
        ];
        for failure in all {
            for grouped in [false, true] {
                let limit = failure.limit(grouped);
                assert!(settings::find(limit).is_some(), "{limit}");
            }
        }
        let words = of("connect", Errno::ADDRNOTAVAIL).words();
        assert!(words.starts_with("EADDRNOTAVAIL from connect()"), "{words}");
    }
}
