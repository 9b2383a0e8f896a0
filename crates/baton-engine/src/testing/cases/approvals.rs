//! Questions to people.

use std::sync::Arc;

use baton_execution::{Choice, OperationId, Outcome, arguments_digest};
use baton_proto::{
    ExecutionResource, condition,
    v1::{Approval, ApprovalSpec, ApprovalStatus},
};
use baton_types::{ErrorKind, Phase};
use serde_json::{Value, json};

use crate::{
    Decide,
    effects::wait_token,
    testing::{Place, Site, output, uid},
};

fn asks() -> Value {
    json!([{"ask": {"arguments": {"b": 1, "a": 2}}}, {"echo": "paid"}])
}

fn decide(choice: Choice) -> Decide {
    Decide {
        choice,
        decided_by: "kim".to_owned(),
        reason: "because".to_owned(),
        arguments_digest: arguments_digest(&json!({"a": 2, "b": 1})),
        arguments: None,
        result: None,
    }
}

fn name(approval: &Approval) -> String {
    approval.metadata.clone().unwrap_or_default().name
}

fn spec(approval: &Approval) -> ApprovalSpec {
    approval.spec.clone().unwrap_or_default()
}

fn status(approval: &Approval) -> ApprovalStatus {
    approval.status.clone().unwrap_or_default()
}

fn status_of(resource: &ExecutionResource, kind: &str) -> String {
    let found = resource.conditions().into_iter().flatten().find(|it| it.r#type == kind);
    found.map(|it| format!("{} {}", it.status, it.reason)).unwrap_or_default()
}

/// A question is decided once and for what was asked.
pub async fn a_question_is_decided_once_and_for_what_was_asked(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", asks()).await;
    let approval = site.approval("job").await;
    let asked = spec(&approval);
    let execution = asked.execution.clone().unwrap_or_default();
    assert_eq!((execution.kind.as_str(), execution.name.as_str()), ("WorkflowExecution", "job"));
    assert_eq!(execution.uid, uid(&job).to_string());
    assert_eq!((asked.r#type.as_str(), asked.tool.as_str(), asked.why.as_str()), ("ToolCall", "pay", "it costs money"));
    assert_eq!(asked.arguments_digest, arguments_digest(&json!({"a": 2, "b": 1})));
    assert_eq!(asked.choices, ["approve", "deny"]);
    assert_eq!(status(&approval).phase, "Pending");
    assert_eq!(approval.metadata.clone().unwrap_or_default().owner_references[0].uid, uid(&job).to_string());
    assert_eq!(status_of(&site.get("job").unwrap(), condition::WAITING), "True Approval");

    let edited = Decide { arguments: Some(json!({"a": 3})), ..decide(Choice::Approve) };
    site.engine.decide(uid(&job), name(&approval), edited).await.unwrap();
    let decided = status(&site.stored_approval(&name(&approval)));
    assert_eq!(
        (decided.phase.as_str(), decided.decision.as_str(), decided.decided_by.as_str()),
        ("Approved", "approve", "kim")
    );
    assert_eq!(decided.arguments_digest, arguments_digest(&json!({"a": 3})));
    assert!(decided.decided_time.is_some());
    for choice in [Choice::Approve, Choice::Deny] {
        let refused = site.engine.decide(uid(&job), name(&approval), decide(choice)).await.unwrap_err();
        assert_eq!((refused.kind, refused.reason), (ErrorKind::Conflict, "APPROVAL_ALREADY_DECIDED"), "{refused}");
    }
    assert_eq!(output(&site.ended("job").await), json!("paid"));
    assert_eq!(site.world.runs_of("echo"), 1);
    let used = site.until_approval(&name(&approval), |it| status(it).consumed_time.is_some()).await;
    assert_eq!(
        ApprovalStatus { consumed_time: None, ..status(&used) },
        ApprovalStatus { consumed_time: None, ..decided }
    );
    assert_eq!(status_of(&site.get("job").unwrap(), condition::WAITING), "False NotWaiting");
}

/// A decision that cannot be taken changes nothing.
pub async fn a_decision_that_cannot_be_taken_changes_nothing(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", asks()).await;
    let approval = name(&site.approval("job").await);
    let good = || decide(Choice::Approve);
    for (wrong, kind, reason) in [
        (
            Decide { arguments_digest: arguments_digest(&json!({"a": 2, "b": 2})), ..good() },
            ErrorKind::Conflict,
            "APPROVAL_DIGEST_DIFFERS",
        ),
        (Decide { arguments_digest: String::new(), ..good() }, ErrorKind::InvalidArgument, "FIELD_INVALID"),
        (decide(Choice::Retry), ErrorKind::InvalidArgument, "FIELD_INVALID"),
        (Decide { result: Some(json!(1)), ..good() }, ErrorKind::InvalidArgument, "FIELD_INVALID"),
        (Decide { arguments: Some(json!(1)), ..decide(Choice::Deny) }, ErrorKind::InvalidArgument, "FIELD_INVALID"),
        (Decide { arguments: Some(json!("bad")), ..good() }, ErrorKind::Invalid, "FIELD_INVALID"),
    ] {
        let refused = site.engine.decide(uid(&job), approval.clone(), wrong.clone()).await.unwrap_err();
        assert_eq!((refused.kind, refused.reason), (kind, reason), "{wrong:?}: {refused}");
    }
    let refused = site.engine.decide(uid(&job), "no-such".to_owned(), good()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert_eq!(status(&site.stored_approval(&approval)).phase, "Pending");
    site.engine
        .decide(uid(&job), approval.clone(), Decide { arguments_digest: String::new(), ..decide(Choice::Deny) })
        .await
        .unwrap();
    assert_eq!(status(&site.stored_approval(&approval)).phase, "Denied");
    site.ended("job").await;
}

/// A question that nobody decides expires.
pub async fn a_question_that_nobody_decides_expires(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"ask": {"expiresMs": 1500}}])).await;
    assert_eq!(output(&site.ended("job").await), json!("nobody decided"));
    let approvals = site.store.list(&baton_store::ListQuery::new("Approval", 10)).unwrap().items;
    let [stored] = approvals.as_slice() else { panic!("one question is one approval: {approvals:?}") };
    assert_eq!(status(&site.stored_approval(&stored.key.name)).phase, "Expired");
    let refused = site.engine.decide(uid(&job), stored.key.name.clone(), decide(Choice::Approve)).await.unwrap_err();
    assert_eq!(refused.reason, "APPROVAL_ALREADY_DECIDED");
}

/// A question of an execution that ended takes no decision.
pub async fn a_question_of_an_execution_that_ended_takes_no_decision(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    for (how, terminated) in [("cancelled", false), ("terminated", true)] {
        let job = site.create(how, asks()).await;
        let approval = name(&site.approval(how).await);
        if terminated {
            site.engine.terminate(uid(&job), "enough".to_owned()).await.unwrap();
        } else {
            site.engine.cancel(uid(&job), "enough".to_owned()).await.unwrap();
        }
        assert_eq!(site.ended(how).await.phase(), Phase::Cancelled);
        assert_eq!(status(&site.stored_approval(&approval)).phase, "Cancelled", "{how}");
        let refused = site.engine.decide(uid(&job), approval, decide(Choice::Approve)).await.unwrap_err();
        assert_eq!(refused.reason, "APPROVAL_ALREADY_DECIDED");
    }
    assert_eq!(site.world.runs_of("echo"), 0);
}

/// A question waits over a restart and is answered once.
pub async fn a_question_waits_over_a_restart_and_is_answered_once(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", asks()).await;
    let approval = site.approval("job").await;
    let site = site.restart().await;
    assert_eq!(site.stored_approval(&name(&approval)), approval);
    site.engine.decide(uid(&job), name(&approval), decide(Choice::Approve)).await.unwrap();
    assert_eq!(output(&site.ended("job").await), json!("paid"));
    assert_eq!(site.world.runs_of("echo"), 1);
}

/// A decision that is durable is not lost with the engine.
pub async fn a_decision_that_is_durable_is_not_lost_with_the_engine(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", json!([{"ask": {"arguments": {"a": 2, "b": 1}}}])).await;
    let approval = name(&site.approval("job").await);
    site.engine.decide(uid(&job), approval.clone(), decide(Choice::Approve)).await.unwrap();
    // The engine stops as soon as the decision is durable, whether or not anything came of it.
    let site = site.restart().await;
    let refused = site.engine.decide(uid(&job), approval.clone(), decide(Choice::Deny)).await.unwrap_err();
    assert_eq!(refused.reason, "APPROVAL_ALREADY_DECIDED");
    assert_eq!(output(&site.ended("job").await)["choice"], "approve");
    assert_eq!(status(&site.stored_approval(&approval)).phase, "Approved");
}

/// A decision on a suspended execution counts when it is resumed.
pub async fn a_decision_on_a_suspended_execution_counts_when_it_is_resumed(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", asks()).await;
    let approval = name(&site.approval("job").await);
    let suspend = |suspend: bool| {
        let change = Box::new(move |resource: &mut ExecutionResource| {
            resource.set_suspend(suspend);
            Ok(())
        });
        let (engine, uid) = (site.engine.clone(), uid(&job));
        async move { engine.update(uid, change).await.unwrap() }
    };
    suspend(true).await;
    site.until("job", |job| job.phase() == Phase::Suspended).await;
    site.engine.decide(uid(&job), approval, decide(Choice::Approve)).await.unwrap();
    assert_eq!(site.world.runs_of("echo"), 0, "nothing starts while it is suspended");
    suspend(false).await;
    assert_eq!(output(&site.ended("job").await), json!("paid"));
}

/// A question is answered by a decision and by no token.
pub async fn a_question_is_answered_by_a_decision_and_by_no_token(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site.create("job", asks()).await;
    let approval = site.approval("job").await;
    assert_eq!(site.get("job").unwrap().waiting_for().unwrap()[0].fingerprint, "", "no token was handed out");
    let (shared, number) = (&site.engine.shared, site.engine.number_of(uid(&job)).unwrap());
    let id = OperationId::new("/steps/0", 1);
    let token = wait_token(shared, "default", number, uid(&job), &id, i64::MAX);
    let refused = site.engine.answer(token.as_bytes(), Outcome::Completed(json!("approve"))).await.unwrap_err();
    assert_eq!(refused.reason, "CALLBACK_TOKEN_UNKNOWN", "{refused}");
    assert_eq!(status(&site.stored_approval(&name(&approval))).phase, "Pending");
    site.engine.decide(uid(&job), name(&approval), decide(Choice::Deny)).await.unwrap();
    site.ended("job").await;
}

/// A call in doubt is shown.
pub async fn a_call_in_doubt_is_shown(place: Arc<dyn Place>) {
    let site = Site::new(place).await;
    let job = site
        .create("job", json!([{"ask": {"doubt": true, "arguments": {"a": 2, "b": 1}}}, {"wait": {"as": "it"}}]))
        .await;
    let approval = site.approval("job").await;
    assert_eq!(spec(&approval).choices, ["retry", "result", "fail"]);
    assert_eq!(status_of(&site.get("job").unwrap(), condition::IN_DOUBT), "True Asked");
    let refused = site.engine.decide(uid(&job), name(&approval), decide(Choice::Approve)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    let result = Decide { result: Some(json!(7)), ..decide(Choice::Result) };
    site.engine.decide(uid(&job), name(&approval), result).await.unwrap();
    let waits = site.until("job", |it| status_of(it, condition::IN_DOUBT) == "False Decided").await;
    assert!(!waits.phase().is_terminal());
    let token = site.world.token("it").await;
    site.engine.answer(token.as_bytes(), Outcome::Completed(json!(1))).await.unwrap();
    site.ended("job").await;
}
