//! `roost-tune`: one subcommand, one function; exit codes.

use std::process::ExitCode;

fn main() -> ExitCode {
    roost_tune::main()
}
