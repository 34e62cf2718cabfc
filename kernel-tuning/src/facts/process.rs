//! What this process may: its limits, user and capabilities.

use crate::root::Root;
use serde::{Deserialize, Serialize};

/// A limit that is none.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// Numbers of capabilities, as in capabilities(7).
pub(crate) const CAP_NET_ADMIN: u32 = 12;
pub(crate) const CAP_SYS_ADMIN: u32 = 21;
pub(crate) const CAP_SYS_RESOURCE: u32 = 24;

/// Limits and rights.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "rights that are there or not")]
pub(crate) struct ProcessLimits {
    /// Descriptors of a process, and places of a ring's table.
    pub nofile_soft: u64,
    /// How far a process may raise that itself.
    pub nofile_hard: u64,
    /// Bytes of memory that may be locked.
    pub memlock_bytes: u64,
    pub user_id: u32,
    /// May raise hard limits (`CAP_SYS_RESOURCE`).
    pub may_raise_limits: bool,
    /// `CAP_SYS_ADMIN`.
    pub may_administer: bool,
    /// `CAP_NET_ADMIN`.
    pub may_administer_network: bool,
    /// A filter of system calls is on; it may forbid `io_uring`.
    pub is_filtered: bool,
}

impl ProcessLimits {
    pub(super) fn read(root: &Root) -> Self {
        let limits = root.text("/proc/self/limits").unwrap_or_default();
        let status = root.text("/proc/self/status").unwrap_or_default();
        let (nofile_soft, nofile_hard) = limit_of(&limits, "Max open files").unwrap_or((0, 0));
        let (memlock_bytes, _) = limit_of(&limits, "Max locked memory").unwrap_or((0, 0));
        let user_id = field(&status, "Uid:").and_then(|word| word.parse().ok()).unwrap_or(0);
        Self {
            nofile_soft,
            nofile_hard,
            memlock_bytes,
            user_id,
            may_raise_limits: capability(&status, CAP_SYS_RESOURCE),
            may_administer: capability(&status, CAP_SYS_ADMIN),
            may_administer_network: capability(&status, CAP_NET_ADMIN),
            is_filtered: field(&status, "Seccomp:").is_some_and(|word| word != "0"),
        }
    }
}

/// Soft and hard value of a line of `/proc/PID/limits`.
pub(crate) fn limit_of(limits: &str, name: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let number = |word: &str| if word == "unlimited" { Some(UNLIMITED) } else { word.parse().ok() };
    let mut words = line.split_whitespace();
    Some((number(words.next()?)?, number(words.next()?)?))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

/// Whether a capability is in effect, by `/proc/PID/status`.
pub(crate) fn capability(status: &str, number: u32) -> bool {
    let set = field(status, "CapEff:").and_then(|word| u64::from_str_radix(word, 16).ok());
    set.is_some_and(|set| set >> number & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_capabilities_are_read() {
        let limits = "Limit Soft Hard Units\nMax open files            20000                \
                      unlimited                files     \n";
        assert_eq!(limit_of(limits, "Max open files"), Some((20_000, UNLIMITED)));
        assert_eq!(limit_of(limits, "Max locked memory"), None);
        let status = "Uid:\t0\t0\t0\t0\nCapEff:\t000001fffeffffff\nSeccomp:\t0\n";
        assert!(!capability(status, CAP_SYS_RESOURCE) && capability(status, CAP_SYS_ADMIN));
    }
}
