//! ejabberd, started without its script: that would become another user, register a node's name
//! with a service of its own, and stay in front of the process that is measured.

use crate::args::TargetArgs;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// Connections and the processes that serve them.
const PROCESSES_MAX: &str = "2000000";
const PORTS_MAX: &str = "1048576";

/// What starts it with this configuration, its spool and its log in a folder. `script`: Debian's
/// `ejabberdctl`, which says where everything is.
pub(super) fn command(script: &Path, file: &Path, folder: &Path) -> io::Result<Command> {
    let text = fs::read_to_string(script)?;
    let missing =
        |name: &str| io::Error::other(format!("{} does not say where {name} is", script.display()));
    let erlang = setting(&text, "ERL").ok_or_else(|| missing("ERL"))?;
    let libraries = setting(&text, "ERL_LIBS").ok_or_else(|| missing("ERL_LIBS"))?;
    let mut command = Command::new(erlang);
    command.args(["+K", "true", "+P", PROCESSES_MAX, "+Q", PORTS_MAX, "-noinput"]);
    // The value is one of Erlang, a text in quotes.
    command.args(["-mnesia", "dir"]).arg(format!("\"{}\"", folder.join("spool").display()));
    command.args(["-s", "ejabberd"]);
    command.env("ERL_LIBS", libraries).env("EJABBERD_CONFIG_PATH", file);
    command.env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"));
    command.env("ERL_CRASH_DUMP", folder.join("crash.dump"));
    Ok(command)
}

/// Its file: what a chat needs, without limits on what one connection may have waiting or how many
/// accounts are made; with an archive of all messages, if they are to be kept.
pub(super) fn configuration(args: &TargetArgs, port: u16) -> String {
    let domain = &args.xmpp_domain;
    let archive = if args.durable { "  mod_mam: {default: always}\n" } else { "" };
    format!(
        "hosts: [{domain}]\nloglevel: warning\nauth_method: internal\n\
         auth_password_format: plain\nregistration_timeout: infinity\nmax_fsm_queue: 1000000\n\
         listen:\n  - port: {port}\n    ip: \"127.0.0.1\"\n    module: ejabberd_c2s\n    \
         backlog: 4096\nmodules:\n  mod_register: {{}}\n  mod_ping: {{}}\n  mod_roster: {{}}\n  \
         mod_offline: {{}}\n  mod_stream_mgmt: {{max_ack_queue: infinity}}\n  mod_muc:\n    \
         max_users: 5000\n    history_size: 0\n    \
         default_room_options: {{max_users: 5000, presence_broadcast: []}}\n{archive}"
    )
}

/// What it is called and its version, as its folder says.
pub(super) fn version(script: &Path) -> Option<String> {
    let text = fs::read_to_string(script).ok()?;
    let entries = fs::read_dir(setting(&text, "ERL_LIBS")?).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("ejabberd-")).min()
}

/// A variable that a shell script sets, without its quotes.
fn setting<'a>(script: &'a str, name: &str) -> Option<&'a str> {
    let values = script.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.map(|value| value.trim_matches(['\'', '"'])).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_where_things_are() {
        let script = "ERLANG_NODE=a\nERL=\"/usr/bin/erl\"\nERL_LIBS='/usr/lib'\n";
        assert_eq!(setting(script, "ERL"), Some("/usr/bin/erl"));
        assert_eq!(setting(script, "ERL_LIBS"), Some("/usr/lib"));
        assert_eq!(setting(script, "EPMD"), None);
        let error = command(Path::new("/dev/null"), Path::new("f"), Path::new("d")).unwrap_err();
        assert!(error.to_string().contains("/dev/null does not say where ERL is"), "{error}");
    }
}
