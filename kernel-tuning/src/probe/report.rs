//! What a probe says.

use super::{Order, Outcome};
use crate::text::{bytes, count, table, wrap};

const WIDTH: usize = 100;

/// The report for people.
pub(crate) fn report(outcome: &Outcome) -> String {
    let mut text = format!(
        "{} of {} pairs of sockets held by {} processes, opened in {}.{} s, Linux {}\n",
        count(outcome.reached),
        count(outcome.wanted),
        count(outcome.processes),
        outcome.open_ms / 1_000,
        outcome.open_ms % 1_000 / 100,
        outcome.kernel
    );
    if outcome.strikes.is_empty() {
        text.push_str("no limit was met\n");
    } else {
        text.push_str("\nlimits in the order in which they struck\n");
    }
    for (at, strike) in outcome.strikes.iter().enumerate() {
        put_line!(text, "{}. {} at {} pairs", at + 1, strike.limit, count(strike.at));
        text.push_str(&wrap(&strike.error, WIDTH, "   "));
        if !strike.raised.is_empty() {
            text.push_str(&wrap(&strike.raised, WIDTH, "   "));
        }
    }
    if let Some(order) = &outcome.order {
        text.push_str(&compared(order));
    }
    text.push_str(&memory(outcome));
    if outcome.left > 0 {
        let left = count(outcome.left);
        put_line!(text, "{left} sockets were not freed yet when it was over");
    }
    text
}

/// What `check` says beside what was seen.
fn compared(order: &Order) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), count);
    let head = ["", "check says", "struck at"].map(str::to_owned).to_vec();
    let rows = order.rows.iter();
    let rows = rows.map(|row| vec![row.limit.clone(), number(row.predicted), number(row.struck)]);
    let mut text = format!(
        "\nwhat check says of {} sessions with both ends here, and what happened\n{}",
        count(order.goal),
        table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
    );
    text.push_str(if order.as_predicted {
        "those that struck did so where check says, and in its order\n"
    } else {
        "NOT where check says, or in another order: what does check see that is not so?\n"
    });
    for row in order.rows.iter().filter(|row| row.struck.is_none()) {
        text.push_str(&wrap(&format!("not struck, {}: {}", row.limit, row.why), WIDTH, ""));
    }
    text
}

fn memory(outcome: &Outcome) -> String {
    if outcome.reached == 0 || outcome.grown.is_empty() {
        return String::new();
    }
    let is_predicted = outcome.predicted_from > 0;
    let mut head = vec!["kernel memory".to_owned(), "a pair".to_owned(), "all".to_owned()];
    if is_predicted {
        head.push(format!("predicted from {}", count(outcome.predicted_from)));
    }
    let row = |name: &str, all: u64, predicted: u64| {
        let mut row = vec![name.to_owned(), format!("{} B", all / outcome.reached), bytes(all)];
        if is_predicted {
            row.push(bytes(predicted));
        }
        row
    };
    let mut caches: Vec<(&String, &u64)> = outcome.grown.iter().collect();
    caches.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let mut rows = vec![head];
    let mut rest = (0, 0);
    for (name, all) in caches {
        let predicted = outcome.predicted.get(name).copied().unwrap_or(0);
        // Less than a hundredth of a per cent of a pair's memory is not worth a line.
        if all / outcome.reached == 0 && predicted / outcome.reached == 0 {
            rest = (rest.0 + all, rest.1 + predicted);
        } else {
            rows.push(row(name, *all, predicted));
        }
    }
    if rest != (0, 0) {
        rows.push(row("others, below 1 B", rest.0, rest.1));
    }
    rows.push(row("together", outcome.grown_bytes(), outcome.predicted_bytes()));
    let mut text = format!("\n{}", table(&rows));
    if let Some(error) = outcome.error_permille() {
        put_line!(text, "the prediction is off by {}.{} %", error / 10, error % 10);
    }
    if let Some(group) = outcome.group_bytes {
        let each = count(group / outcome.reached);
        put_line!(text, "the control group counted {} for it, {each} B a pair", bytes(group));
    }
    let fell = outcome.memory_fell_bytes / outcome.reached;
    let others = bytes(outcome.others_bytes);
    text.push_str(&wrap(
        &format!(
            "free memory and pages of files fell by {} B a pair, with the probe's own processes; \
             other programs, and whoever lists /proc/PID/fd, took {others} of slabs meanwhile",
            count(fell)
        ),
        WIDTH,
        "",
    ));
    text
}
