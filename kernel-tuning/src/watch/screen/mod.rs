//! The live view on a terminal.

#[cfg(test)]
mod tests;

use super::Looks;
use super::rows::{Row, View};
use crate::error::Error;
use ratatui::backend::Backend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Table};
use ratatui::{Frame, Terminal};
use std::io;
use std::time::Duration;

const BAR: usize = 20;
/// Lines that are no rows: the head, and the two below.
const OTHER_LINES: u16 = 3;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The interval is over.
    Look,
    /// The same once more: the terminal has another size.
    Draw,
    /// So many rows down, or up.
    Scroll(i16),
    Leave,
}

/// Shows it until q, Esc or Ctrl-C.
pub(super) fn run(looks: &mut Looks, interval_ms: u64) -> Result<(), Error> {
    let mut terminal = ratatui::try_init().map_err(Error::Terminal)?;
    let mut until_ms = crate::clock::now_ms() + interval_ms;
    let shown = show(&mut terminal, &mut || looks.look(), &mut || {
        let next = wait(until_ms)?;
        if next == Next::Look {
            until_ms = crate::clock::now_ms() + interval_ms;
        }
        Ok(next)
    });
    ratatui::try_restore().map_err(Error::Terminal)?;
    shown.map_err(Error::Terminal)
}

/// Looks, draws and does what comes next until that is to leave.
fn show<B: Backend>(
    terminal: &mut Terminal<B>,
    look: &mut dyn FnMut() -> View,
    next: &mut dyn FnMut() -> io::Result<Next>,
) -> io::Result<()>
where
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut view = look();
    let mut first_row = 0_u16;
    loop {
        let height = terminal.size().map_err(io::Error::other)?.height;
        first_row = first_row.min(last_first_row(&view, height));
        terminal.draw(|frame| draw(frame, &view, first_row)).map_err(io::Error::other)?;
        match next()? {
            Next::Leave => return Ok(()),
            Next::Draw => {}
            Next::Look => view = look(),
            Next::Scroll(rows) => first_row = first_row.saturating_add_signed(rows),
        }
    }
}

/// How far there is anything to scroll.
fn last_first_row(view: &View, height: u16) -> u16 {
    let rows = u16::try_from(view.rows.len()).unwrap_or(u16::MAX);
    rows.saturating_sub(height.saturating_sub(OTHER_LINES).max(1))
}

/// Waits for the next look; a key or another size may come earlier.
fn wait(until_ms: u64) -> io::Result<Next> {
    loop {
        let left = until_ms.saturating_sub(crate::clock::now_ms());
        if left == 0 || !event::poll(Duration::from_millis(left))? {
            return Ok(Next::Look);
        }
        if let Some(next) = meaning(&event::read()?) {
            return Ok(next);
        }
    }
}

/// What an event of the terminal asks for; none: nothing.
fn meaning(event: &Event) -> Option<Next> {
    let (code, modifiers) = match event {
        Event::Key(KeyEvent { code, modifiers, kind, .. }) if *kind != KeyEventKind::Release => {
            (code, modifiers)
        }
        Event::Resize(..) => return Some(Next::Draw),
        Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => return None,
    };
    if *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
        return Some(Next::Leave);
    }
    let keys = [
        (KeyCode::Char('q'), Next::Leave),
        (KeyCode::Esc, Next::Leave),
        (KeyCode::Char(' '), Next::Look),
        (KeyCode::Down, Next::Scroll(1)),
        (KeyCode::Up, Next::Scroll(-1)),
        (KeyCode::PageDown, Next::Scroll(10)),
        (KeyCode::PageUp, Next::Scroll(-10)),
    ];
    keys.into_iter().find(|(key, _)| key == code).map(|(_, next)| next)
}

/// A column: its head, its width, and the terminal's width from which it is there.
struct Column {
    head: &'static str,
    width: u16,
    from_width: u16,
    cell: fn(&Row) -> String,
}

/// Those of a narrow terminal are the ones that nobody can do without.
const COLUMNS: [Column; 7] = [
    Column { head: "", width: 34, from_width: 0, cell: |row| View::cells(row)[0].clone() },
    Column { head: "now", width: 11, from_width: 0, cell: |row| View::cells(row)[1].clone() },
    Column { head: "limit", width: 11, from_width: 96, cell: |row| View::cells(row)[2].clone() },
    Column { head: "", width: 20, from_width: 118, cell: |row| bar(row.used_permille()) },
    Column { head: "used", width: 7, from_width: 0, cell: |row| View::cells(row)[3].clone() },
    Column { head: "a second", width: 9, from_width: 64, cell: |row| View::cells(row)[4].clone() },
    Column { head: "left", width: 11, from_width: 76, cell: |row| View::cells(row)[5].clone() },
];

fn draw(frame: &mut Frame<'_>, view: &View, first_row: u16) {
    let area = frame.area();
    let areas = Layout::vertical([Constraint::Min(2), Constraint::Length(2)]).split(area);
    let columns = || COLUMNS.iter().filter(|column| area.width >= column.from_width);
    let rows = view.rows.iter().skip(usize::from(first_row)).map(|row| {
        let style = if row.is_bad() {
            Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        };
        let cells = columns().map(|column| (column.cell)(row)).collect::<Vec<_>>();
        ratatui::widgets::Row::new(cells).style(style)
    });
    let head = ratatui::widgets::Row::new(columns().map(|column| column.head).collect::<Vec<_>>());
    let head = head.style(Style::new().add_modifier(Modifier::BOLD));
    let widths = columns().map(|column| Constraint::Length(column.width));
    frame.render_widget(Table::new(rows, widths).header(head), areas[0]);
    let last = last_first_row(view, area.height);
    let keys = if last == 0 {
        "q ends it, space looks now".to_owned()
    } else {
        format!("q ends it, space looks now, arrows scroll: {} rows more", last - first_row)
    };
    let foot = vec![Line::from(view.verdict()), Line::from(keys)];
    frame.render_widget(Paragraph::new(foot), areas[1]);
}

fn bar(used: Option<u64>) -> String {
    let Some(used) = used else { return String::new() };
    let full = usize::try_from(used).unwrap_or(usize::MAX).min(1_000) * BAR / 1_000;
    format!("{}{}", "█".repeat(full), "·".repeat(BAR - full))
}
