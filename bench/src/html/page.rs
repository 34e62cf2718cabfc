//! The page around the plots: what was measured, the figures that matter, where, and all of it.

use super::plot::escape;
use super::plots;
use crate::report::arithmetic::{mebibytes, thousands, whole};
use crate::result::{Document, Figures, numbers};
use std::fmt::Write as _;

pub(super) const STYLE: &str = include_str!("style.css");

/// A result as a page.
#[must_use]
pub fn page(document: &Document) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let title = escape(&format!("{} of {}", document.scenario, target(document)));
    add(
        &mut page,
        &format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title} - roost-bench</title><style>{STYLE}</style></head><body><main>"
        ),
    );
    head(&mut page, document, &title);
    tiles(&mut page, &document.figures);
    notes(&mut page, document);
    page.push_str("<div class=\"plots\">");
    for plot in plots::of(document) {
        add(
            &mut page,
            &format!(
                "<section class=\"card\"><h2>{}</h2><p class=\"soft\">{}</p>{}</section>",
                plot.title, plot.says, plot.svg
            ),
        );
    }
    page.push_str("</div>");
    results(&mut page, document);
    latencies(&mut page, &document.figures);
    rounds(&mut page, document);
    environment(&mut page, document);
    page.push_str("</main></body></html>\n");
    page
}

fn add(page: &mut String, text: &str) {
    page.push_str(text);
}

fn target(document: &Document) -> &str {
    if document.target.is_empty() { "roost" } else { &document.target }
}

fn head(page: &mut String, document: &Document, title: &str) {
    let machine = &document.environment.machine;
    let where_it_ran = format!(
        "{}, {} x {}, Linux {}",
        document.date, machine.processors, machine.cpu, machine.kernel
    );
    let limited = document.figures.generator.as_ref().is_some_and(|of| of.limited);
    let (class, verdict) = match (document.is_good(), limited) {
        (false, _) => ("bad", "failed"),
        (true, true) => ("bad", "the generator was the limit: no result"),
        (true, false) if document.figures.lost.is_some() => {
            ("good", "nothing lost, nothing doubled, everything in order")
        }
        (true, false) => ("good", "every check held"),
    };
    write!(
        page,
        "<h1>{title}</h1><p class=\"soft\">{}</p><p class=\"soft\">{}</p>\
         <p class=\"verdict {class}\">{verdict}</p>",
        escape(&where_it_ran),
        escape(&document.environment.placement.text)
    )
    .expect("a text grows as needed");
}

fn tiles(page: &mut String, figures: &Figures) {
    let delivered =
        figures.latency_us.get("delivered").or_else(|| figures.latency_us.values().next());
    let server = figures.server.as_ref();
    let kernel = figures.kernel.as_ref();
    let all = [
        (figures.connections.map(|count| thousands(whole(count))), "connections"),
        (figures.connect_per_s.map(thousands), "connects a second"),
        (figures.sent_per_s.map(thousands), "first ticks a second"),
        (figures.delivered_per_s.map(thousands), "delivered a second"),
        (figures.ticked_per_s.map(thousands), "second ticks a second"),
        (delivered.map(|of| format!("{:.2} ms", whole(of.p50) / 1e3)), "latency, p50"),
        (delivered.map(|of| format!("{:.2} ms", whole(of.p99) / 1e3)), "latency, p99"),
        (
            server.and_then(|of| of.cpu_us_per_message).map(|us| format!("{us:.2} us")),
            "server time a message",
        ),
        (
            server.and_then(|of| of.user_bytes_per_connection).map(|bytes| format!("{bytes:.0} B")),
            "user memory a connection",
        ),
        (
            kernel.and_then(|of| of.bytes_per_connection).map(|bytes| format!("{bytes:.0} B")),
            "kernel memory a connection",
        ),
        (
            server.and_then(|of| of.rss_bytes).map(|of| format!("{:.1} MiB", mebibytes(of))),
            "resident memory of the server",
        ),
    ];
    page.push_str("<div class=\"tiles\">");
    for (value, name) in all.into_iter().filter_map(|(value, name)| Some((value?, name))) {
        add(page, &format!("<div class=\"card tile\"><b>{value}</b><span>{name}</span></div>"));
    }
    page.push_str("</div>");
}

fn notes(page: &mut String, document: &Document) {
    for (class, title, texts) in
        [("bad", "What must not be", &document.failures), ("", "Notes", &document.differences)]
    {
        if texts.is_empty() {
            continue;
        }
        add(page, &format!("<section class=\"card\"><h2 class=\"{class}\">{title}</h2>"));
        for text in texts {
            add(page, &format!("<p>{}</p>", escape(text)));
        }
        page.push_str("</section>");
    }
}

fn results(page: &mut String, document: &Document) {
    if document.results.is_empty() {
        return;
    }
    page.push_str(
        "<section class=\"card scroll\"><h2>Side by side</h2><table><tr><th>target</th>\
         <th>scenario</th><th>sent/s</th><th>delivered/s</th><th>p50 ms</th><th>p99 ms</th>\
         <th>server us/message</th><th>what differs</th></tr>",
    );
    for result in &document.results {
        let figures = &result.figures;
        let latency = figures.latency_us.get("delivered");
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&result.target),
            escape(&result.scenario),
            figures.sent_per_s.map_or_else(|| "-".to_owned(), thousands),
            figures.delivered_per_s.map_or_else(|| "-".to_owned(), thousands),
            number(latency.map(|of| whole(of.p50) / 1e3), 2),
            number(latency.map(|of| whole(of.p99) / 1e3), 2),
            number(figures.server.as_ref().and_then(|of| of.cpu_us_per_message), 2),
            escape(&result.differences.join("; "))
        )
        .expect("a text grows as needed");
    }
    page.push_str("</table></section>");
}

fn latencies(page: &mut String, figures: &Figures) {
    if figures.latency_us.is_empty() {
        return;
    }
    page.push_str(
        "<section class=\"card scroll\"><h2>Latency by stage</h2><table><tr><th>stage</th>\
         <th>p50 us</th><th>p99 us</th><th>p99.9 us</th><th>slowest us</th></tr>",
    );
    for (name, of) in &figures.latency_us {
        write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(name),
            of.p50,
            of.p99,
            of.p999,
            of.max
        )
        .expect("a text grows as needed");
    }
    page.push_str("</table></section>");
}

fn rounds(page: &mut String, document: &Document) {
    let several = document.rounds.len() > 1;
    let title = if several { "All figures, and their spread over rounds" } else { "All figures" };
    add(
        page,
        &format!("<section class=\"card scroll\"><details><summary>{title}</summary><table>"),
    );
    for (name, value) in numbers(&document.figures) {
        let spread = document.spread.get(&name).filter(|_| several);
        let spread = spread.map_or_else(String::new, |of| {
            format!("{:.3} to {:.3}, deviation {:.3}", of.min, of.max, of.deviation)
        });
        write!(
            page,
            "<tr><th>{}</th><td class=\"n\">{value}</td><td>{spread}</td></tr>",
            escape(&name)
        )
        .expect("a text grows as needed");
    }
    page.push_str("</table></details></section>");
}

fn environment(page: &mut String, document: &Document) {
    let environment = &document.environment;
    let mut rows: Vec<(String, String)> = vec![
        ("command".to_owned(), document.command.join(" ")),
        ("roost-bench".to_owned(), environment.versions.roost_bench.clone()),
    ];
    let optional = [
        ("target", environment.versions.target.clone()),
        ("driver", environment.versions.driver.clone()),
        ("shards", environment.versions.shards.map(|count| count.to_string())),
        ("open files", environment.limits.open_files.map(|count| count.to_string())),
        (
            "fdatasync before the run",
            document.fdatasync_us.map(|flush| {
                format!("p50 {} us, p99 {} us", flush.overwritten.p50, flush.overwritten.p99)
            }),
        ),
    ];
    for (name, value) in optional {
        rows.extend(value.map(|value| (name.to_owned(), value)));
    }
    for (name, value) in &document.settings {
        rows.push((name.clone(), value.to_string()));
    }
    for (name, value) in &environment.sysctls {
        rows.push((name.clone(), value.clone()));
    }
    page.push_str(
        "<section class=\"card scroll\"><details><summary>Where and how</summary><table>",
    );
    for (name, value) in rows {
        write!(page, "<tr><th>{}</th><td><code>{}</code></td></tr>", escape(&name), escape(&value))
            .expect("a text grows as needed");
    }
    page.push_str("</table></details></section>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Round, Sample};

    fn document() -> Document {
        let sample = |at: u32| Sample {
            at_s: at.into(),
            measured: at > 1,
            connected: 10,
            delivered_per_s: 5.0,
            p50_us: 100,
            p99_us: 900,
            max_us: 1_000,
            ..Sample::default()
        };
        let samples = (1..=4).map(sample).collect();
        Document {
            scenario: "pairs".to_owned(),
            target: "<b>roost</b>".to_owned(),
            rounds: vec![Round { samples, ..Round::default() }],
            percentiles: [("delivered".to_owned(), vec![(0.5, 100), (0.99, 900), (1.0, 1_000)])]
                .into(),
            ..Document::default()
        }
    }

    #[test]
    fn a_page_needs_nothing_else_and_says_what_was_measured() {
        let page = page(&document());
        for word in ["http://", "https://", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        for word in ["Ramp", "Throughput", "Latency over time", "Percentiles", "99.9 %"] {
            assert!(page.contains(word), "{word}");
        }
        assert!(page.contains("&lt;b&gt;roost") && !page.contains("<b>roost"));
    }

    #[test]
    fn a_failed_run_says_so_first() {
        let mut document = document();
        document.failures.push("3 messages < lost".to_owned());
        let page = page(&document);
        assert!(page.contains("verdict bad") && page.contains("3 messages &lt; lost"));
    }

    #[test]
    fn several_targets_have_bars() {
        let mut document = document();
        for (name, rate) in [("roost", 3.0), ("other", 2.0)] {
            let figures = Figures { delivered_per_s: Some(rate), ..Figures::default() };
            let result = Document { target: name.to_owned(), figures, ..Document::default() };
            document.results.push(result);
        }
        assert!(page(&document).contains("Side by side"));
        assert!(page(&document).contains("class=\"bar s0\""));
    }
}
