//! The benchmark program goes on working. Its figures are for no test: how fast something is depends on the machine.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

/// Figure of the one row whose name has all of these in it.
fn figure<'a>(table: &'a str, parts: &[&str]) -> &'a str {
    let mut rows = table.lines().filter(|line| line.starts_with("| ") && parts.iter().all(|part| line.contains(part)));
    let row = rows.next().unwrap_or_else(|| panic!("no row with {parts:?} in\n{table}"));
    assert_eq!(rows.next(), None, "another row with {parts:?}");
    row.split(" | ").nth(2).unwrap()
}

#[test]
fn on_temporal_every_row_is_measured_and_an_answer_takes_one_workflow_task() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_baton-bench"))
        .args(["--engine", "temporal", "--quick", "--seconds", "0.05", "--widths", "1,2", "--directory"])
        .arg(folder.path())
        .output()
        .unwrap();
    let (table, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(table.contains("in memory") && table.contains("Server 1.") && table.contains("fsync"), "{table}");
    for width in ["| 1 |", "| 2 |"] {
        for work in [
            "handshakes without Baton",
            "handshakes through Baton, embedded engine",
            "handshakes through Baton, engine temporal",
            "on Temporal: no-op",
            "on Temporal: executions of 10 no-op activities",
            "on Temporal: handshakes",
        ] {
            assert!(figure(&table, &[work, width]).parse::<f64>().unwrap() > 0.0, "{work}: {table}");
        }
    }
    for engine in ["embedded engine", "engine temporal"] {
        figure(&table, &["Baton's part of a handshake", engine, "p50"]).parse::<f64>().unwrap();
    }
    assert_eq!(figure(&table, &["one Temporal round trip:"]), "");
    assert_eq!(figure(&table, &["answer given to parent ended: without"]), "");
    assert_eq!(figure(&table, &["answer given to parent ended: Baton's own"]), "");
    assert_eq!(figure(&table, &["workflow tasks before the answer"]), "1");
}
