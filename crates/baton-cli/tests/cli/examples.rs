//! The examples, end to end.

use serde_json::json;

use rustix::process::Signal;

use crate::support::Baton;

#[test]
fn incident_triage_works_offline() {
    let output = Baton::new().run(&["run", "-f", "examples/incident-triage"]);
    for said in [
        " review[0]/triage: started agent execution incident-triage-",
        " turn 1/runbook: completed in ",
        " review[0]/escalate: started workflow execution incident-triage-",
        " page: waits for callback ",
        "[desk] page for INC-1041 acknowledged",
        " report: started agent execution incident-triage-",
    ] {
        assert!(output.stderr.contains(said), "'{said}' is not in: {}", output.stderr);
    }
    assert!(!output.stderr.contains("warning"), "{}", output.stderr);
    assert!(!output.stderr.contains("baton1."), "a token was shown: {}", output.stderr);
    let answer = output.json();
    assert!(answer["report"].as_str().unwrap().starts_with("Two incidents were open."), "{answer}");
    let incidents = json!([
        {"id": "INC-1041", "severity": "critical", "action": "Roll back the last release of checkout.", "acknowledgedBy": "dana"},
        {"id": "INC-1042", "severity": "minor", "action": "Restart the indexer.", "acknowledgedBy": null},
    ]);
    assert_eq!(answer["incidents"], incidents);
}

#[test]
fn a_killed_run_with_its_service_goes_on() {
    let baton = Baton::new();
    let data = baton.folder().join("data").display().to_string();
    let args = ["run", "-f", "examples/incident-triage", "--data-dir", data.as_str()];
    let mut run = baton.start(&args);
    run.says("page: waits for callback");
    run.signal(Signal::KILL);
    run.end();
    let output = baton.run(&args);
    assert!(output.stderr.contains("taking up workflowexecution/incident-triage-"), "{}", output.stderr);
    assert_eq!(output.json()["incidents"][0]["acknowledgedBy"], "dana");
}
