//! How noisy the machine is: a thread alone on a core only looks at the clock, and when it did not
//! for a while, somebody else had the core.

use super::{FloorFailure, Settings, clock, per_second, side};
use crate::report::arithmetic::{ratio, round};
use crate::server::pin;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;

/// Shorter pauses are interrupts.
const PAUSE: Duration = Duration::from_millis(1);

/// Both sides' first cores at the same time.
pub(super) fn measure(settings: &Settings) -> Result<Value, FloorFailure> {
    let cores = [&settings.server_cpus, &settings.cpus].map(|of| of.first().copied());
    let mut cores: Vec<usize> = cores.into_iter().flatten().collect();
    cores.dedup();
    let length = settings.length;
    let spinning: Result<Vec<_>, io::Error> = cores
        .into_iter()
        .map(|core| {
            let thread = side("spinning", move || pin(&[core]).is_ok().then(|| spin(length)));
            Ok((core, thread?))
        })
        .collect();
    let found = spinning?.into_iter().filter_map(|(core, thread)| {
        let found = thread.join().ok().flatten()?;
        Some((format!("core_{core}"), found))
    });
    Ok(Value::Object(found.collect()))
}

fn spin(length: Duration) -> Value {
    let started = clock();
    let (mut last, mut pauses, mut longest, mut lost) =
        (started, 0_u64, Duration::ZERO, Duration::ZERO);
    while last - started < length {
        let now = clock();
        let gap = now - last;
        if gap > PAUSE {
            pauses += 1;
            lost += gap;
            longest = longest.max(gap);
        }
        last = now;
    }
    let took = last - started;
    json!({
        "pauses_above_1_ms_per_s": per_second(pauses, took),
        "longest_pause_ms": round(longest.as_secs_f64() * 1e3),
        "lost_share": round(ratio(lost.as_secs_f64(), took.as_secs_f64())),
    })
}
