//! `roost`: the server and the commands around it.

use clap::Parser;
use roost_gateway::args::{Args, Command};
use roost_gateway::commands;
use roost_gateway::commands::store::args::StoreArgs;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = Args::parse().into_command();
    if matches!(command, Command::Serve(_)) {
        log_to_stderr();
    }
    let outcome = match command {
        Command::Serve(args) => commands::serve::run(&args).map_err(|error| error.to_string()),
        Command::Token(args) => {
            commands::token::run(&args, roost_event_loop::now().wall, &mut std::io::stdout())
                .map_err(|error| error.to_string())
        }
        Command::Drain(args) => {
            commands::drain::run(&args).map(drop).map_err(|error| error.to_string())
        }
        Command::Chat(args) => commands::chat::run(&args).map_err(|error| error.to_string()),
        Command::Store(args) => return look_at_store(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// 0: whole. 1: damaged. 2: it could not be looked at.
fn look_at_store(args: &StoreArgs) -> ExitCode {
    match commands::store::run(args, &mut std::io::stdout().lock()) {
        Ok(commands::store::Finding::Whole) => ExitCode::SUCCESS,
        Ok(commands::store::Finding::Damaged) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("ROOST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

#[expect(clippy::print_stderr, reason = "the one place where a command says why it failed")]
fn complain(error: &str) {
    eprintln!("roost: {error}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_allocator_gives_back_what_a_burst_leaves() {
        // .cargo/config.toml sets it; a build that does not read that file keeps the memory.
        assert!(tikv_jemalloc_ctl::background_thread::read().unwrap());
    }

    #[test]
    fn the_allocator_takes_no_more_for_a_piece_than_its_size() {
        let settings = tikv_jemalloc_ctl::config::malloc_conf::read().unwrap();
        assert!(settings.contains("cache_oblivious:false"), "{settings}");
    }
}
