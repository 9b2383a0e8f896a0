//! What is told of tests: for people, as JSON, and as the XML that CI systems read (JUnit).

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use baton_types::format_duration;
use serde_json::{Value, json};

use super::{
    play::{CaseResult, word},
    subject::Subject,
};

/// What became of a test file.
pub(crate) struct FileResult {
    pub(crate) file: String,
    pub(crate) subject_file: String,
    pub(crate) subject: Subject,
    pub(crate) cases: Vec<CaseResult>,
}

/// What was run of one workflow or agent, over all files that test it.
struct Coverage {
    file: String,
    kind: &'static str,
    name: String,
    /// What `parts` are: tasks or tools.
    word: &'static str,
    parts: usize,
    never: Vec<String>,
}

impl Coverage {
    fn percent(&self) -> usize {
        ((self.parts - self.never.len()) * 100).checked_div(self.parts).unwrap_or(100)
    }
}

fn coverage(files: &[FileResult]) -> Vec<Coverage> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    let mut all = Vec::new();
    for file in files {
        let key = (file.subject_file.as_str(), file.subject.name());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of_it = files.iter().filter(|other| (other.subject_file.as_str(), other.subject.name()) == key);
        let covered: BTreeSet<&String> = of_it.flat_map(|file| &file.cases).flat_map(|case| &case.covered).collect();
        let parts = file.subject.parts();
        all.push(Coverage {
            file: file.subject_file.clone(),
            kind: file.subject.kind(),
            name: file.subject.name().to_owned(),
            word: file.subject.parts_word(),
            parts: parts.len(),
            never: parts.into_iter().filter(|part| !covered.contains(part)).collect(),
        });
    }
    all
}

/// For people; with what was never run if that is asked for.
pub(crate) fn as_text(files: &[FileResult], with_coverage: bool) -> String {
    let mut text = String::new();
    for file in files {
        let _ = writeln!(text, "{}", file.file);
        for case in &file.cases {
            let calls = case.rehearsal.calls.len();
            let calls = if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") };
            let elapsed = format_duration(Duration::from_millis(case.rehearsal.elapsed_ms));
            let word = if case.failures.is_empty() { "ok  " } else { "FAIL" };
            let _ = writeln!(text, "  {word} {} ({calls}, {elapsed} of simulated time)", case.name);
            for line in case.failures.iter().flat_map(|failure| failure.lines()) {
                let _ = writeln!(text, "       {}", line.trim_end());
            }
        }
    }
    if with_coverage {
        text.push_str("coverage\n");
        for it in coverage(files) {
            let (ran, percent) = (it.parts - it.never.len(), it.percent());
            let _ = writeln!(text, "  {} ({}): {percent} %, {ran} of {} {}", it.name, it.file, it.parts, it.word);
            for pointer in &it.never {
                let _ = writeln!(text, "       never run: {pointer}");
            }
        }
    }
    let (passed, failed) = counts(files);
    let _ = writeln!(text, "{passed} passed, {failed} failed");
    text
}

/// How many cases passed, and how many did not.
pub(crate) fn counts(files: &[FileResult]) -> (usize, usize) {
    let all = files.iter().flat_map(|file| &file.cases);
    let (passed, failed): (Vec<_>, Vec<_>) = all.partition(|case| case.failures.is_empty());
    (passed.len(), failed.len())
}

pub(crate) fn as_json(files: &[FileResult]) -> Value {
    let (passed, failed) = counts(files);
    let case_json = |case: &CaseResult| {
        let ended = case.rehearsal.result.as_ref().ok().map(word);
        let tasks = case.rehearsal.tasks.iter().map(|task| {
            json!({"position": task.position, "name": task.name, "attempt": task.attempt, "state": task.state.as_str()})
        });
        let calls = case.rehearsal.calls.iter().map(|call| {
            json!({
                "task": call.task, "position": call.position, "attempt": call.attempt, "activity": call.activity,
                "input": call.input, "atMs": call.at_ms,
            })
        });
        json!({
            "name": case.name, "passed": case.failures.is_empty(), "failures": case.failures, "ended": ended,
            "elapsedMs": case.rehearsal.elapsed_ms, "tasks": tasks.collect::<Vec<_>>(), "calls": calls.collect::<Vec<_>>(),
        })
    };
    let files_json = files.iter().map(|file| {
        json!({
            "file": file.file, file.subject.kind(): file.subject.name(),
            format!("{}File", file.subject.kind()): file.subject_file,
            "cases": file.cases.iter().map(case_json).collect::<Vec<_>>(),
        })
    });
    let coverage = coverage(files).into_iter().map(|it| {
        json!({
            it.kind: it.name, format!("{}File", it.kind): it.file, it.word: it.parts, "percent": it.percent(),
            "neverRun": it.never,
        })
    });
    json!({
        "passed": passed, "failed": failed, "files": files_json.collect::<Vec<_>>(),
        "coverage": coverage.collect::<Vec<_>>(),
    })
}

/// A suite for each file; times are simulated ones, in seconds.
pub(crate) fn as_junit(files: &[FileResult]) -> String {
    let (passed, failed) = counts(files);
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{failed}\">\n",
        passed + failed
    );
    for file in files {
        let (passed, failed) = counts(std::slice::from_ref(file));
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\">",
            escaped(&file.file),
            passed + failed
        );
        for case in &file.cases {
            let millis = case.rehearsal.elapsed_ms;
            let time = format!("{}.{:03}", millis / 1000, millis % 1000);
            let _ = write!(
                xml,
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{time}\"",
                escaped(file.subject.name()),
                escaped(&case.name)
            );
            if let Some(first) = case.failures.first() {
                let message = first.lines().next().unwrap_or_default();
                let _ = writeln!(
                    xml,
                    ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                    escaped(message),
                    escaped(&case.failures.join("\n"))
                );
            } else {
                xml.push_str("/>\n");
            }
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && c != '\n' => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
