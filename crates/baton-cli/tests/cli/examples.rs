//! The examples, end to end.

use serde_json::json;

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
