//! `roost-sim`: searches seeds for broken promises, or replays one and prints its story.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

use clap::{Parser, ValueEnum};
use roost_simulator::{Sabotage, World, play, run_world};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Searches worlds for broken promises. Each seed is a world; the same seed, the same world.
#[derive(Debug, Parser)]
#[command(name = "roost-sim", version)]
struct Args {
    /// How many seeds to search.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Replays this seed and prints its story instead.
    #[arg(long)]
    seed: Option<u64>,
    /// Plays the story in this file instead.
    #[arg(long)]
    story: Option<std::path::PathBuf>,
    /// What kind of world the seeds are drawn for.
    #[arg(long, value_enum, default_value_t = Kind::Mixed)]
    world: Kind,
    /// Goes on after a failure and lists them all.
    #[arg(long)]
    keep_going: bool,
}

/// The kinds of worlds.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// People talk and read.
    Talk,
    /// They do everything.
    Mixed,
    /// 200 of them for 24 hours.
    Day,
}

impl Kind {
    /// Seeds from one line about how it goes to the next.
    const fn told_every(self) -> u64 {
        match self {
            Self::Talk | Self::Mixed => 500,
            Self::Day => 10,
        }
    }

    const fn world(self) -> World {
        match self {
            Self::Talk => World::Talk,
            Self::Mixed => World::Mixed,
            Self::Day => World::Day,
        }
    }
}

/// The seed that is running, for when a shard's own assertion ends it.
static RUNNING: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|info| {
        let seed = RUNNING.load(Ordering::Relaxed);
        tell_failure(seed, &info.to_string());
    }));
    match (args.seed, &args.story) {
        (Some(seed), _) => replay(args.world.world(), seed),
        (None, Some(path)) => tell_story(path),
        (None, None) => search(&args),
    }
}

fn tell_story(path: &std::path::Path) -> ExitCode {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            println!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let told = play(&text);
    for line in &told.story {
        println!("{line}");
    }
    match told.result {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            println!("{}: {broken}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn replay(world: World, seed: u64) -> ExitCode {
    RUNNING.store(seed, Ordering::Relaxed);
    let outcome = run_world(world, seed, true, Sabotage::Nothing);
    for line in &outcome.story {
        println!("{line}");
    }
    match outcome.result {
        Ok(()) => {
            println!("seed {seed} is clean, trace {:016x}", outcome.hash);
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("seed {seed} FAILED: {broken}");
            ExitCode::FAILURE
        }
    }
}

fn tell_failure(seed: u64, what: &str) {
    println!("seed {seed} FAILED: {what}");
    println!("replay it: roost-sim --seed {seed}, with the same --world");
}

fn search(args: &Args) -> ExitCode {
    let (mut failed, mut starts) = (0_u64, 0_u64);
    for (done, seed) in (1_u64..).zip(args.from..args.from.saturating_add(args.seeds)) {
        RUNNING.store(seed, Ordering::Relaxed);
        // Where a panic aborts, the hook has told the seed.
        let run = std::panic::catch_unwind(|| {
            run_world(args.world.world(), seed, false, Sabotage::Nothing)
        });
        let clean = run.is_ok_and(|outcome| {
            starts += u64::from(outcome.starts);
            outcome.result.inspect_err(|broken| tell_failure(seed, &broken.to_string())).is_ok()
        });
        if !clean {
            failed += 1;
            if !args.keep_going {
                return ExitCode::FAILURE;
            }
        }
        if done % args.world.told_every() == 0 {
            println!("{done} seeds, {failed} failed, the server was started {starts} times");
        }
    }
    println!("{} seeds, {failed} failed, the server was started {starts} times", args.seeds);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
