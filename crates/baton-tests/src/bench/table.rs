//! The table that a run prints.

use std::fmt;

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 5]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A rate with, where it is known, the median and 99th percentile of one piece of work in microseconds.
    pub(crate) fn rate(&mut self, work: &str, width: usize, per_second: f64, unit: &str, micros: Option<(u32, u32)>) {
        let latency = micros.map_or_else(String::new, latency);
        let digits = usize::from(per_second < 100.0);
        let figure = format!("{per_second:.digits$}");
        self.push([work.to_owned(), width.to_string(), figure, unit.to_owned(), latency]);
    }

    /// How long one piece of work takes: median and 99th percentile in microseconds.
    pub(crate) fn time(&mut self, work: &str, width: usize, micros: (u32, u32)) {
        self.push([work.to_owned(), width.to_string(), String::new(), String::new(), latency(micros)]);
    }

    /// Any other figure.
    pub(crate) fn figure(&mut self, work: &str, width: usize, figure: String, unit: &str) {
        self.push([work.to_owned(), width.to_string(), figure, unit.to_owned(), String::new()]);
    }

    fn push(&mut self, row: [String; 5]) {
        eprintln!("{}", row.join("  "));
        self.rows.push(row);
    }
}

fn latency((p50, p99): (u32, u32)) -> String {
    let millis = |micros: u32| format!("{:.2}", f64::from(micros) / 1000.0);
    format!("{} / {}", millis(p50), millis(p99))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| work | at a time | figure | unit | p50 / p99 ms |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
