//! The live view on a terminal.

use super::Looks;
use super::rows::View;
use crate::error::Error;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};
use std::time::Duration;

const BAR: usize = 20;

/// Shows it until q, Esc or Ctrl-C.
pub(super) fn run(looks: &mut Looks, interval_ms: u64) -> Result<(), Error> {
    let mut terminal = ratatui::try_init().map_err(Error::Terminal)?;
    let shown = (|| {
        loop {
            let view = looks.look();
            terminal.draw(|frame| draw(frame, &view))?;
            if wants_to_leave(interval_ms)? {
                return Ok(());
            }
        }
    })();
    ratatui::try_restore().map_err(Error::Terminal)?;
    shown.map_err(Error::Terminal)
}

/// Waits for the next look; a key may end it earlier.
fn wants_to_leave(interval_ms: u64) -> std::io::Result<bool> {
    let until_ms = crate::clock::now_ms() + interval_ms;
    loop {
        let left = until_ms.saturating_sub(crate::clock::now_ms());
        if left == 0 || !event::poll(Duration::from_millis(left))? {
            return Ok(false);
        }
        let Event::Key(KeyEvent { code, modifiers, .. }) = event::read()? else { continue };
        let interrupts = code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL);
        if interrupts || code == KeyCode::Char('q') || code == KeyCode::Esc {
            return Ok(true);
        }
    }
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let areas = Layout::vertical([Constraint::Min(3), Constraint::Length(2)]).split(frame.area());
    let head = ["", "now", "limit", "used", "", "a second", "connections left"];
    let rows = view.rows.iter().map(|row| {
        let mut cells = View::cells(row);
        cells.insert(3, bar(row.used_permille()));
        let style = if row.is_bad() {
            Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        };
        Row::new(cells).style(style)
    });
    let widths = [34, 14, 14, 22, 9, 12, 18].map(Constraint::Length);
    let head = Row::new(head).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(head), areas[0]);
    let foot = vec![Line::from(view.verdict()), Line::from("q ends it")];
    frame.render_widget(ratatui::widgets::Paragraph::new(foot), areas[1]);
}

fn bar(used: Option<u64>) -> String {
    let Some(used) = used else { return String::new() };
    let full = usize::try_from(used).unwrap_or(usize::MAX).min(1_000) * BAR / 1_000;
    format!("{}{}", "█".repeat(full), "·".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn bars_end_at_their_limit() {
        assert_eq!(bar(None), "");
        assert_eq!(bar(Some(500)).matches('█').count(), 10);
        assert_eq!(bar(Some(9_999)).chars().count(), BAR);
    }

    #[test]
    fn a_small_terminal_shows_what_fits() {
        let sample = super::super::Sample::default();
        let view = View::between(&sample, &sample);
        for (width, height) in [(120, 40), (20, 4), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &view)).unwrap();
        }
        let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
        terminal.draw(|frame| draw(frame, &view)).unwrap();
        let cells = terminal.backend().buffer().content();
        let shown: String = cells.iter().map(|cell| cell.symbol()).collect();
        assert!(shown.contains("open files") && shown.contains("q ends it"));
    }
}
