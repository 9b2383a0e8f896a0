//! Showing progress on stderr: redrawn in place on a terminal, line after line elsewhere.

use super::{
    model::{Effect, Progress},
    render::{Canvas, render},
};
use crate::{output::now_ms, printer::Printer};

/// Columns and rows where the terminal does not tell.
const COLUMNS: u16 = 100;
const ROWS: u16 = 40;

/// What is on the screen.
#[derive(Debug)]
pub(crate) struct View {
    printer: Printer,
    /// Lines of the picture that stand there now.
    drawn: usize,
}

impl View {
    /// Nothing drawn yet.
    pub(crate) fn new(printer: Printer) -> Self {
        Self { printer, drawn: 0 }
    }

    fn is_live(&self) -> bool {
        self.printer.is_interactive() && !self.printer.is_quiet()
    }

    /// Tells what an event meant, where lines only are added.
    pub(crate) fn tell(&self, effects: &[Effect]) {
        if self.is_live() {
            return;
        }
        for effect in effects {
            if let Effect::Line(line) = effect {
                self.printer.message(&crate::printer::one_line(line));
            }
        }
    }

    /// Draws the picture in place of the one before.
    pub(crate) fn draw(&mut self, progress: &Progress) {
        if !self.is_live() {
            return;
        }
        let (columns, rows) = terminal_size::terminal_size_of(std::io::stderr())
            .map_or((COLUMNS, ROWS), |(width, height)| (width.0, height.0));
        let canvas = Canvas {
            rows: usize::from(rows).saturating_sub(3).max(3),
            columns: usize::from(columns).saturating_sub(1).max(20),
            colour: self.printer.has_colour(),
            now_ms: now_ms(),
        };
        let lines = render(progress, canvas);
        let mut text = self.erasure();
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        self.printer.raw(&text);
    }

    /// Puts a line above the picture.
    pub(crate) fn above(&mut self, progress: &Progress, line: &str) {
        if self.is_live() {
            let text = format!("{}{}\n", self.erasure(), crate::printer::one_line(line));
            self.drawn = 0;
            self.printer.raw(&text);
            self.draw(progress);
        } else {
            self.printer.message(&crate::printer::one_line(line));
        }
    }

    /// What takes the picture away: up to its first line, then clear.
    fn erasure(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\u{1b}[{}A\r\u{1b}[0J", self.drawn) }
    }
}
