//! Whether this machine has an `io_uring` that can do what we need, found by doing it.

use super::ring::Ring;
use crate::backend::ProbeError;
use io_uring::opcode;
use std::io;

/// What a kernel must know, newest last. `BIND` came with Linux 6.11.
const NEEDED: [(u8, &str); 10] = [
    (opcode::PollAdd::CODE, "poll"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::Accept::CODE, "accept"),
    (opcode::Recv::CODE, "receive"),
    (opcode::Send::CODE, "send"),
    (opcode::Shutdown::CODE, "shutdown"),
    (opcode::Fsync::CODE, "sync"),
    (opcode::Socket::CODE, "socket"),
    (opcode::SetSockOpt::CODE, "socket options"),
    (opcode::Bind::CODE, "bind (Linux 6.11)"),
];

/// Makes a ring with a small table and does nothing with it.
pub(crate) fn probe() -> Result<(), ProbeError> {
    let failed = |missing: &str| {
        let missing = missing.to_owned();
        move |source: io::Error| ProbeError { missing, source }
    };
    let mut ring = Ring::new(16, None).map_err(failed(
        "a ring cannot be made (container runtimes and kernel.io_uring_disabled may forbid it)",
    ))?;
    let mut known = io_uring::Probe::new();
    let submitter = ring.inner().submitter();
    submitter.register_probe(&mut known).map_err(failed("it does not say what it knows"))?;
    for (code, name) in NEEDED {
        if !known.is_supported(code) {
            return Err(failed(name)(io::ErrorKind::Unsupported.into()));
        }
    }
    let mut completions = Vec::new();
    ring.push_plain(&opcode::Nop::new().build()).map_err(failed("a ring does not take work"))?;
    ring.enter().map_err(failed("a ring cannot be entered"))?;
    ring.take(&mut completions);
    if completions.len() == 1 {
        Ok(())
    } else {
        Err(failed("a ring does not answer")(io::ErrorKind::TimedOut.into()))
    }
}
