//! Where the state of a device is kept when nobody says.

use super::state_file::StateError;
use crate::args::ChatArgs;
use aws_lc_rs::digest::{SHA256, digest};
use std::env;
use std::path::PathBuf;

/// Names of files are at most 255 bytes; some are left for endings.
const NAME_MAX_BYTES: usize = 200;

/// The file of `--state`, else one under the data folder, else one in the user's state folder.
pub(super) fn path(args: &ChatArgs, device: &str) -> Result<PathBuf, StateError> {
    if let Some(path) = &args.state {
        return Ok(path.clone());
    }
    let folder = match &args.data {
        Some(data) => data.join("chat"),
        None => state_folder().ok_or(StateError::NoFolder)?,
    };
    Ok(folder.join(name(&args.server, args.user.as_str(), device)))
}

fn state_folder() -> Option<PathBuf> {
    let named = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")))?;
    Some(state.join("roost"))
}

/// `<server>-<user>-<device>.state`; the device is left out when it has no name. Different devices
/// have different names: what is no letter, digit, `.` or `_` is written as `%` and two digits.
fn name(server: &str, user: &str, device: &str) -> String {
    let mut parts = vec![escape(server), escape(user)];
    if !device.is_empty() {
        parts.push(escape(device));
    }
    let full = parts.join("-");
    if full.len() <= NAME_MAX_BYTES {
        return format!("{full}.state");
    }
    let hash = digest(&SHA256, full.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}.state", escape(user).chars().take(100).collect::<String>())
}

fn escape(part: &str) -> String {
    let mut name = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_own_file() {
        assert_eq!(name("localhost:4000", "ann", ""), "localhost%3a4000-ann.state");
        assert_eq!(name("[::1]:40", "ann", "my-phone"), "%5b%3a%3a1%5d%3a40-ann-my%2dphone.state");
        assert_ne!(name("h:1", "a-b", "c"), name("h:1", "a", "b-c"));
        assert!(!name("h:1", "../../etc/x", "/").contains('/'));
        let long = "é".repeat(32);
        let one = name("h:1", &long, &long);
        assert!(one.len() < 250, "{one}");
        assert_ne!(one, name("h:2", &long, &long));
        assert_ne!(one, name("h:1", &long, ""));
    }
}
