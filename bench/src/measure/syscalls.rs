//! System calls of the server while it is measured, counted by `perf stat`, which must be
//! installed and allowed. Counting makes every call of the machine a little slower, so it is done
//! only when it is asked for.

use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// All system calls, at their entry.
const EVENT: &str = "raw_syscalls:sys_enter";

/// A count that goes on. It ends with this.
#[derive(Debug)]
pub struct Counting {
    child: Result<Child, String>,
}

impl Counting {
    /// Begins to count those of a process.
    #[must_use]
    pub fn begin(pid: u32) -> Self {
        let mut command = Command::new("perf");
        command.args(["stat", "-x", ",", "-e", EVENT, "-p"]).arg(pid.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("perf cannot be started: {error}"));
        Self { child }
    }

    /// Ends it and gives the count.
    ///
    /// # Errors
    /// perf is not there, or may not count.
    pub fn end(mut self) -> Result<u64, String> {
        let child = self.child.as_mut().map_err(std::mem::take)?;
        // One that has ended already says why.
        let _result = kill_process(Pid::from_child(child), Signal::INT);
        let mut said = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut said).map_err(|error| error.to_string())?;
        }
        parse(&said)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Ok(child) = &mut self.child {
            // It may be gone already, which is the aim.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A line like `344028,,raw_syscalls:sys_enter,1000,100.00,,`; other lines say why there is none.
fn parse(said: &str) -> Result<u64, String> {
    let count = said.lines().find_map(|line| {
        let mut fields = line.split(',');
        let count = fields.next()?.parse().ok()?;
        fields.any(|field| field == EVENT).then_some(count)
    });
    count.ok_or_else(|| {
        let why = said.lines().map(str::trim).find(|line| !line.is_empty());
        format!("perf does not count them: {}", why.unwrap_or("it says nothing"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_told_from_a_complaint() {
        assert_eq!(parse("344,,raw_syscalls:sys_enter,28,100.00,,\n"), Ok(344));
        let none = parse("<not supported>,,raw_syscalls:sys_enter,0,0.00,,\n").unwrap_err();
        assert!(none.contains("not supported"), "{none}");
        let denied = parse("\nError:\nNo permission to enable raw_syscalls event.\n").unwrap_err();
        assert!(denied.contains("Error"), "{denied}");
        assert!(parse("").unwrap_err().contains("nothing"));
        assert!(parse("17,,cycles,28,100.00,,").is_err());
    }

    #[test]
    fn a_count_of_nobody_ends() {
        assert!(Counting::begin(u32::MAX).end().is_err());
    }
}
