//! A comparison as a page: each figure with its interval.

use super::page::STYLE;
use super::plot::escape;
use crate::compare::{Compared, Comparison, Overall, Verdict};
use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const ROW: f64 = 40.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 90.0;

/// A comparison as a page.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let class = if comparison.overall == Overall::Worse { "bad" } else { "good" };
    let title = format!("{}: change or noise?", escape(&comparison.scenario));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title} - roost-bench</title><style>{STYLE}</style></head><body><main>\
         <h1>{title}</h1><p class=\"soft\">{} and {}</p><p class=\"verdict {class}\">{}</p>\
         <section class=\"card\"><h2>Relative change</h2><p class=\"soft\">The mark is the \
         difference of the means, the bar its interval; what holds zero is noise.</p>",
        escape(&comparison.dates[0]),
        escape(&comparison.dates[1]),
        comparison.overall.words()
    );
    page.push_str(&forest(&comparison.figures));
    page.push_str("</section><section class=\"card scroll\"><table>");
    for figure in &comparison.figures {
        write!(
            page,
            "<tr><th>{}</th><td>{}</td></tr>",
            figure.verdict.words(),
            escape(&figure.text())
        )
        .expect("a text grows as needed");
    }
    for warning in &comparison.warnings {
        write!(page, "<tr><th class=\"bad\">beware</th><td>{}</td></tr>", escape(warning))
            .expect("a text grows as needed");
    }
    page.push_str("</table></section></main></body></html>\n");
    page
}

fn forest(figures: &[Compared]) -> String {
    let ends = figures.iter().flat_map(|figure| {
        let [low, high] = figure.interval_percent.unwrap_or([figure.change_percent; 2]);
        [low.abs(), high.abs()]
    });
    let most = ends.fold(5.0_f64, f64::max).min(100.0);
    let place = |percent: f64| {
        LEFT + (percent.clamp(-most, most) + most) / (2.0 * most) * (WIDTH - LEFT - RIGHT)
    };
    let height = ROW * f64::from(u32::try_from(figures.len()).unwrap_or(u32::MAX)) + 24.0;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>intervals</title>");
    for percent in [-most, 0.0, most] {
        let x = place(percent);
        write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.1}\"/>\
             <text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{percent:+.0} %</text>",
            height - 20.0,
            height - 4.0
        )
        .expect("a text grows as needed");
    }
    let mut y = ROW / 2.0;
    for figure in figures {
        row(&mut svg, figure, y, place);
        y += ROW;
    }
    svg.push_str("</svg>");
    svg
}

fn row(svg: &mut String, figure: &Compared, y: f64, place: impl Fn(f64) -> f64) {
    let colour = match figure.verdict {
        Verdict::Worse => "s1",
        Verdict::Better => "s2",
        Verdict::NoChange | Verdict::CannotTell => "s5",
    };
    let [low, high] = figure.interval_percent.unwrap_or([figure.change_percent; 2]);
    let (from, to, at) = (place(low), place(high), place(figure.change_percent));
    write!(
        svg,
        "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"bar {colour}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"6\" \
         rx=\"3\" opacity=\".45\"/>\
         <circle class=\"bar {colour}\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"5\"/>\
         <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{:+.1} %</text>",
        LEFT - 12.0,
        y + 4.0,
        escape(figure.name),
        y - 3.0,
        (to - from).max(1.0),
        WIDTH - RIGHT + 14.0,
        y + 4.0,
        figure.change_percent
    )
    .expect("a text grows as needed");
}
