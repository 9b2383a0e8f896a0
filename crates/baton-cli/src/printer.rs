//! The only way to output: data to stdout, everything said about it to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// What may be shown, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Whether stderr may have colours.
    colour: bool,
    /// Whether stderr is a terminal, so that lines can be redrawn.
    interactive: bool,
    /// Whether messages are left out.
    quiet: bool,
}

impl Printer {
    /// A printer for this process. `no_colour` is whether `NO_COLOR` is set and not empty.
    pub(crate) fn new(quiet: bool, no_colour: bool) -> Self {
        let interactive = io::stderr().is_terminal();
        Self { colour: interactive && !no_colour, interactive, quiet }
    }

    /// Whether messages are left out.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether stderr is a terminal.
    pub(crate) fn is_interactive(self) -> bool {
        self.interactive
    }

    /// Whether stderr may have colours.
    pub(crate) fn has_colour(self) -> bool {
        self.colour
    }

    #[expect(clippy::unused_self, reason = "only who was handed a printer may output")]
    /// Writes data to stdout; a line end is added if there is none.
    pub(crate) fn data(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "only who was handed a printer may output")]
    /// Writes data to stdout as it is.
    pub(crate) fn bytes(self, data: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(data)?;
        out.flush()?;
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "only who was handed a printer may output")]
    /// Writes a part of a line of data to stdout, at once.
    pub(crate) fn piece(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "only who was handed a printer may output")]
    /// Whether stdout is a terminal.
    pub(crate) fn data_is_interactive(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Says something on stderr, unless it is to be quiet.
    pub(crate) fn message(self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Says something that even `--quiet` does not silence.
    pub(crate) fn say(self, text: &str) {
        self.raw(&format!("{text}\n"));
    }

    /// A warning on stderr.
    pub(crate) fn warning(self, text: &str) {
        self.say(&format!("{} {text}", self.paint("warning:", "33")));
    }

    /// A hint on stderr: the next command to try.
    pub(crate) fn hint(self, text: &str) {
        self.message(&format!("{} {text}", self.paint("hint:", "36")));
    }

    /// Tells a failure.
    pub(crate) fn failure(self, failure: &Failure) {
        for line in failure.shown(self.colour) {
            let line = match line.split_once(' ') {
                Some(("error:", rest)) => format!("{} {rest}", self.paint("error:", "1;31")),
                Some(("hint:", rest)) => format!("{} {rest}", self.paint("hint:", "36")),
                Some(("reason:", rest)) => format!("{} {rest}", self.paint("reason:", "2")),
                Some(_) | None => line,
            };
            self.say(&line);
        }
    }

    #[expect(clippy::unused_self, reason = "only who was handed a printer may output")]
    /// Writes to stderr as it is. A terminal that is gone cannot be told anything, so a failure is dropped.
    pub(crate) fn raw(self, text: &str) {
        let mut out = io::stderr().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Text in a colour (an ANSI code), if colours are wanted.
    pub(crate) fn paint(self, text: &str, code: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Asks on the terminal; `yes` answers it. Without a terminal the answer has to be given by `--yes`.
    pub(crate) fn confirm(self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !self.interactive {
            // A script means what it says; only a person is asked.
            return Ok(());
        }
        self.raw(&format!("{question} [y/N] "));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|error| Failure::environment("read the answer").because(&error))?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(Failure::refused("nothing was done").hint("add --yes to answer beforehand"))
    }
}

/// Text of somebody else for one line of a terminal: control characters are shown, not obeyed.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// At most `length_max` characters, the last one an ellipsis if something was left out.
pub(crate) fn shortened(text: &str, length_max: usize) -> String {
    if text.chars().count() <= length_max {
        return text.to_owned();
    }
    text.chars().take(length_max.saturating_sub(1)).chain(['…']).collect()
}
