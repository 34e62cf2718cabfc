//! The plots of a result.

use super::plot::{Bar, Line, Lines, Scale, bars, short};
use crate::report::arithmetic::{mebibytes, whole};
use crate::result::{Document, Figures, Sample};

/// A line over time: its name, and its value in a second.
type Series = (&'static str, fn(&Sample) -> f64);

/// A title, what it shows, and the plot.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) says: &'static str,
    pub(super) svg: String,
}

/// All that there is something to show for.
pub(super) fn of(document: &Document) -> Vec<Plot> {
    let mut plots = Vec::new();
    if !document.results.is_empty() {
        plots.extend(comparison(document));
    }
    let samples = document.rounds.first().map(|round| round.samples.as_slice());
    let samples = samples.unwrap_or_default();
    let mut line_plot = |title, says, lines: Lines| {
        if !lines.is_empty() {
            plots.push(Plot { title, says, svg: lines.svg() });
        }
    };
    line_plot("Ramp", "Connected devices over time.", ramp(samples));
    let says = "Messages a second, each second. The measured phase is set off.";
    line_plot("Throughput", says, throughput(samples));
    let says = "Latency of each second, from when a message was due to its arrival.";
    line_plot("Latency over time", says, latency(samples));
    let says = "Share of messages that were faster than so many milliseconds.";
    line_plot("Percentiles", says, percentiles(document));
    let says = "Processors used by each side.";
    line_plot("Processor", says, processors(samples));
    let says = "Resident memory of the server.";
    line_plot("Memory over time", says, memory_over_time(samples));
    plots.extend(memory(&document.figures));
    plots
}

fn measured(samples: &[Sample]) -> Option<(f64, f64)> {
    let mut inside = samples.iter().filter(|sample| sample.measured).map(|sample| sample.at_s);
    let first = inside.next()?;
    Some(((first - 1.0).max(0.0), inside.next_back().unwrap_or(first)))
}

fn over_time(samples: &[Sample], y_title: &str, y_scale: Scale, of: &[Series]) -> Lines {
    let line = |(name, value): &Series| Line {
        name: (*name).to_owned(),
        points: samples.iter().map(|sample| (sample.at_s, value(sample))).collect(),
    };
    let is_used = |line: &Line| line.points.iter().any(|(_, y)| *y > 0.0);
    Lines {
        x_title: "seconds".to_owned(),
        y_title: y_title.to_owned(),
        y_scale,
        lines: of.iter().map(line).filter(is_used).collect(),
        x_marks: None,
        band: measured(samples),
    }
}

fn ramp(samples: &[Sample]) -> Lines {
    over_time(samples, "devices", Scale::Linear, &[("connected", |of| whole(of.connected))])
}

fn throughput(samples: &[Sample]) -> Lines {
    let of: [Series; 3] = [
        ("first ticks", |of| of.sent_per_s),
        ("delivered", |of| of.delivered_per_s),
        ("second ticks", |of| of.ticked_per_s),
    ];
    over_time(samples, "a second", Scale::Linear, &of)
}

fn latency(samples: &[Sample]) -> Lines {
    let of: [Series; 3] = [
        ("p50", |of| whole(of.p50_us) / 1e3),
        ("p99", |of| whole(of.p99_us) / 1e3),
        ("slowest", |of| whole(of.max_us) / 1e3),
    ];
    let messages: Vec<Sample> = samples.iter().filter(|of| of.max_us > 0).copied().collect();
    over_time(&messages, "milliseconds", Scale::Logarithmic, &of)
}

fn processors(samples: &[Sample]) -> Lines {
    let of: [Series; 2] =
        [("server", |of| of.server_cpu_share), ("generator", |of| of.generator_cpu_share)];
    over_time(samples, "processors", Scale::Linear, &of)
}

fn memory_over_time(samples: &[Sample]) -> Lines {
    let of: [Series; 1] = [("server", |of| mebibytes(of.server_rss_bytes))];
    over_time(samples, "MiB", Scale::Linear, &of)
}

/// The axis counts nines: 90 %, 99 %, 99.9 % are equally far apart.
fn percentiles(document: &Document) -> Lines {
    let place = |share: f64| -(1.0 - share.min(0.999_999)).log10();
    let line = |(name, curve): (&String, &Vec<(f64, u64)>)| Line {
        name: name.clone(),
        points: curve.iter().map(|(share, us)| (place(*share), whole(*us) / 1e3)).collect(),
    };
    let mark = |share: f64, text: &str| (place(share), text.to_owned());
    Lines {
        x_title: "share of messages".to_owned(),
        y_title: "milliseconds".to_owned(),
        y_scale: Scale::Logarithmic,
        lines: document.percentiles.iter().map(line).collect(),
        x_marks: Some(vec![
            mark(0.0, "0"),
            mark(0.5, "50 %"),
            mark(0.9, "90 %"),
            mark(0.99, "99 %"),
            mark(0.999, "99.9 %"),
            mark(0.9999, "99.99 %"),
            mark(0.99999, "99.999 %"),
        ]),
        band: None,
    }
}

/// Memory of one connection by part, where connections were held; else of the server.
fn memory(figures: &Figures) -> Option<Plot> {
    let server = figures.server.as_ref()?;
    let bar = |name: &str, bytes: f64, text: String| Bar {
        name: name.to_owned(),
        parts: vec![(name.to_owned(), bytes)],
        text,
    };
    if let Some(user) = server.user_bytes_per_connection {
        let mut all = vec![bar("server, user", user, format!("{user:.0} B"))];
        if let Some(kernel) = &figures.kernel {
            for (name, bytes) in [
                ("kernel, an end", kernel.bytes_per_connection),
                ("above the floor", kernel.bytes_per_connection_above_floor),
                ("bare pair", kernel.floor_bytes_per_pair),
            ] {
                all.extend(bytes.map(|bytes| bar(name, bytes, format!("{bytes:.0} B"))));
            }
        }
        let generator = figures.generator.as_ref().and_then(|of| of.bytes_per_connection);
        all.extend(generator.map(|bytes| bar("generator", bytes, format!("{bytes:.0} B"))));
        let says = "Bytes for each connection: the server, the kernel's end, the generator.";
        return Some(Plot { title: "Memory by part", says, svg: bars("memory", &all) });
    }
    let all: Vec<Bar> = [
        ("allocated", server.allocated_bytes),
        ("allocator resident", server.resident_bytes),
        ("PSS", server.pss_bytes),
        ("RSS", server.rss_bytes),
    ]
    .into_iter()
    .filter_map(|(name, bytes)| {
        let bytes = bytes?;
        Some(bar(name, whole(bytes), format!("{:.1} MiB", mebibytes(bytes))))
    })
    .collect();
    let says = "The server's memory at the end of measuring.";
    (!all.is_empty()).then(|| Plot { title: "Memory by part", says, svg: bars("memory", &all) })
}

/// Of several results, the same figure side by side.
fn comparison(document: &Document) -> Vec<Plot> {
    type Of = fn(&Figures) -> Option<f64>;
    let wanted: [(&str, &str, Of); 4] = [
        ("Delivered", "Deliveries a second; more is better.", |of| of.delivered_per_s),
        ("Acknowledged", "First ticks a second; more is better.", |of| of.sent_per_s),
        ("Latency", "Milliseconds to the arrival at p99; less is better.", |of| {
            of.latency_us.get("delivered").map(|latency| whole(latency.p99) / 1e3)
        }),
        ("Processor time", "The server's microseconds a delivery; less is better.", |of| {
            of.server.as_ref().and_then(|server| server.cpu_us_per_message)
        }),
    ];
    let mut plots = Vec::new();
    for (title, says, value) in wanted {
        let bar = |result: &Document| {
            let value = value(&result.figures)?;
            let parts = vec![(result.target.clone(), value)];
            let name = format!("{} {}", result.target, result.scenario);
            Some(Bar { name, parts, text: short(value) })
        };
        let all: Vec<Bar> = document.results.iter().filter_map(bar).collect();
        if all.len() > 1 {
            plots.push(Plot { title, says, svg: bars(title, &all) });
        }
    }
    plots
}
