//! What runs out, live: two looks at the machine, a row for each thing that has a limit.

mod rows;
mod sample;
mod screen;

pub(crate) use sample::{counter, descriptors, softirq_share};

use crate::args::WatchArgs;
use crate::clock::{now_ms, wait_ms};
use crate::error::Error;
use crate::root::Root;
use rows::View;
use sample::Sample;
use std::io::{self, IsTerminal, Write};

/// Runs until somebody ends it; with `--once` one table.
pub(crate) fn run(args: &WatchArgs, out: &mut dyn Write) -> Result<(), Error> {
    let root = Root::new(&args.root);
    if let Some(pid) = args.pid {
        let path = format!("/proc/{pid}");
        if !root.exists(&path) {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::Process { pid, source });
        }
    }
    let mut looks = Looks { root, pid: args.pid, before: None };
    looks.look();
    if !args.once && !args.json {
        if !io::stdout().is_terminal() {
            let source = io::Error::other("standard output is no terminal");
            return Err(Error::Terminal(source));
        }
        return screen::run(&mut looks, args.interval * 1_000);
    }
    loop {
        wait_ms(args.interval * 1_000);
        let view = looks.look();
        if args.json {
            let line = serde_json::to_string(&view).map_err(io::Error::other)?;
            writeln!(out, "{line}")?;
            out.flush()?;
        } else {
            out.write_all(view.text().as_bytes())?;
        }
        if args.once {
            return Ok(());
        }
    }
}

/// The looks at one machine.
struct Looks {
    root: Root,
    pid: Option<u32>,
    before: Option<Sample>,
}

impl Looks {
    /// Looks once more: totals, and what changed since the last time.
    fn look(&mut self) -> View {
        let now = Sample::read(&self.root, self.pid, now_ms());
        let view = View::between(self.before.as_ref().unwrap_or(&now), &now);
        self.before = Some(now);
        view
    }
}
