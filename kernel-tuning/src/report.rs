//! Findings and plans as people read them.

use crate::check::{Finding, Report};
use crate::cost::Bytes;
use crate::plan::Plan;
use crate::settings::{Page, Profile, SETTINGS, Setting, State, milli};
use crate::text::{bytes, count, percent, table, wrap};

const WIDTH: usize = 100;

/// The table of `check`, and below it what is to be known of each setting that does not just fit.
pub(crate) fn check(report: &Report, all: bool) -> String {
    let goal = &report.goal;
    let mut text = format!(
        "{}\ngoal: {} connections{}, heartbeat {} s, {} messages a second, {} connects a second{}; \
         profile {}\n\n",
        report.machine,
        count(goal.connections),
        if goal.tls { " with TLS" } else { "" },
        goal.heartbeat_s,
        count(goal.messages_per_s),
        count(goal.connects_per_s),
        if goal.loopback { ", both ends here" } else { "" },
        profile_name(goal.profile),
    );
    let head = ["", "setting", "now", "needed", "bites", "state"].map(str::to_owned).to_vec();
    let rows = report.findings.iter().enumerate().map(|(at, finding)| {
        vec![
            (at + 1).to_string(),
            finding.setting.to_owned(),
            finding.now.clone(),
            finding.needed.clone(),
            finding.bites.words(),
            finding.state.word().to_owned(),
        ]
    });
    text.push_str(&table(&[head].into_iter().chain(rows).collect::<Vec<_>>()));
    for (at, finding) in report.findings.iter().enumerate() {
        if all || finding.state != State::Fits || finding.managed.is_some() {
            text.push_str(&details(at + 1, finding));
        }
    }
    text.push('\n');
    for note in &report.notes {
        text.push_str(&wrap(&format!("note: {note}"), WIDTH, ""));
    }
    let verdict = match report.first {
        None => "fits: nothing stops it here".to_owned(),
        Some(first) => format!("does not fit: {first} stops it first"),
    };
    put_line!(text, "\n{verdict} ({} a session)", bytes(report.session_bytes));
    text
}

fn details(number: usize, finding: &Finding) -> String {
    let mut text = format!("\n{number}. {} ({})\n", finding.setting, finding.scope);
    let managed = finding.managed.clone().unwrap_or_default();
    let lines = [
        ("too low", finding.effect),
        ("costs", finding.cost),
        ("do", finding.remedy.as_str()),
        ("files", managed.as_str()),
        ("see", finding.reference),
    ];
    for (name, line) in lines.into_iter().filter(|(_, line)| !line.is_empty()) {
        text.push_str(&wrap(&format!("{name}: {line}"), WIDTH, "   "));
    }
    text
}

const fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Density => "density",
        Profile::Latency => "latency",
        Profile::Throughput => "throughput",
    }
}

fn rows(text: &mut String, rows: &Bytes, say: impl Fn(u64) -> String) {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|(name, value)| vec![format!("  {name}"), say(*value)]).collect();
    text.push_str(&table(&rows));
}

/// The budgets of `plan`.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = format!("{}\n\n", plan.machine);
    let session = &plan.session;
    put_line!(text, "one session: {} B in the kernel", count(session.kernel_bytes()));
    rows(&mut text, &session.kernel, count);
    put_line!(text, "one session: {} B in the process", count(session.process_bytes()));
    rows(&mut text, &session.process, count);
    text.push_str(&wrap(&format!("kernel: {}", session.source), WIDTH, ""));

    let (needed, room) = (plan.memory_needed_bytes, plan.memory_room_bytes);
    let of = format!("{} of {}", bytes(needed), bytes(room));
    put_line!(text, "\nmemory: {of}, {}", percent(needed, room));
    rows(&mut text, &plan.memory, bytes);
    text.push_str("  besides, at most, when traffic is heavy; by the limits of the gateway:\n");
    rows(&mut text, &plan.pools, bytes);

    let (needed, room) = (plan.processors_needed_milli, plan.processors_room_milli);
    put_line!(
        text,
        "\nprocessors: {} cores of {}, with {} % of each for storms",
        milli(needed),
        milli(room),
        100 - crate::settings::BUSY_PERCENT
    );
    rows(&mut text, &plan.processors, milli);
    let storm = format!("{} connects a second while they last", count(plan.goal.connects_per_s));
    rows(&mut text, &vec![(storm, plan.storm_milli)], milli);

    text.push_str("\ndescriptors\n");
    rows(&mut text, &plan.descriptors, count);
    put_line!(
        text,
        "\ndisk: {} a second to write, {} a day at rest (messages of 100 bytes)",
        bytes(plan.disk_bytes_per_s),
        bytes(plan.stored_bytes_per_day)
    );
    let largest = &plan.largest;
    put_line!(
        text,
        "\nthis machine holds {} such sessions at most, by {}",
        count(largest.connections),
        largest.by
    );
    put_line!(text, "  by memory {}", count(largest.by_memory));
    put_line!(text, "  by processors {}", count(largest.by_processors));
    if let Some(descriptors) = largest.by_descriptors {
        put_line!(
            text,
            "  by descriptors {} in one process; several processes go further",
            count(descriptors)
        );
    }
    let nodes = plan.nodes;
    put_line!(
        text,
        "{} such machine{} for {} connections; one more, so that one may be missing",
        count(nodes),
        if nodes == 1 { "" } else { "s" },
        count(plan.goal.connections)
    );
    let stops = plan.check.findings.iter().filter(|finding| finding.state == State::Stops);
    let stops: Vec<&str> = stops.map(|finding| finding.setting).collect();
    if stops.is_empty() {
        text.push_str("no setting stops it\n");
    } else {
        put_line!(text, "to change first: {}", stops.join(", "));
    }
    text
}

/// A page about one setting.
pub(crate) fn explain(setting: &Setting) -> String {
    let Page { what, when, high, measured } = setting.page;
    let mut text = format!("{} ({})\n\n", setting.key, setting.scope.words());
    let parts = [
        ("What it is", what),
        ("When it matters", when),
        ("Too low", setting.symptom),
        ("Too high", high),
        ("What more of it costs", setting.cost),
        ("How it is measured", measured),
        ("Reference", setting.reference),
    ];
    for (title, part) in parts {
        put_line!(text, "{title}");
        text.push_str(&wrap(part, WIDTH, "  "));
    }
    for wish in setting.wishes {
        put_line!(text, "Profile {}: {}", profile_name(wish.profile), wish.value);
        text.push_str(&wrap(wish.reason, WIDTH, "  "));
    }
    text
}

/// All names, a line each.
pub(crate) fn settings() -> String {
    let rows = SETTINGS
        .iter()
        .map(|setting| vec![setting.key.to_owned(), setting.scope.words().to_owned()]);
    table(&rows.collect::<Vec<_>>())
}

/// What differs between profiles, with reasons.
pub(crate) fn profiles() -> String {
    let about = [
        (
            Profile::Density,
            "most sessions for the memory: buffers have small bounds, nothing is paid for single \
             messages",
        ),
        (
            Profile::Latency,
            "short waits for each message: cores stay awake, nothing is gathered for long, idle \
             memory stays",
        ),
        (
            Profile::Throughput,
            "most bytes a second over long distances: windows and rings are large",
        ),
    ];
    let mut text = String::new();
    for (profile, what) in about {
        text.push_str(&wrap(&format!("{}: {what}", profile_name(profile)), WIDTH, ""));
        for setting in SETTINGS {
            for wish in setting.wishes.iter().filter(|wish| wish.profile == profile) {
                let line = format!("{} = {}: {}", setting.key, wish.value, wish.reason);
                text.push_str(&wrap(&line, WIDTH, "  "));
            }
        }
        let also = match profile {
            Profile::Density => continue,
            Profile::Latency => "nic.coalescing at most 25 us: an interrupt does not wait longer",
            Profile::Throughput => "nic.ring 4096 places: bursts of large messages fit",
        };
        text.push_str(&wrap(also, WIDTH, "  "));
    }
    text.push_str("All other settings are the same in each: they follow from the goal.\n");
    text
}
