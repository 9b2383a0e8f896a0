//! The subresources of approvals: `approve`, `deny` and, for any decision, `decide`.

use axum::{http::StatusCode, response::Response};
use baton_execution::Choice;
use baton_proto::v1;
use baton_types::{ApiError, Violation};

use super::{call::Call, refusal::Refusal};

/// Who decides, in the word of Kubernetes' clients (`kubectl --as`).
const CALLER: &str = "impersonate-user";

/// `POST …/approve` with `{"argumentsDigest": …}`, perhaps with `arguments` and `reason`
pub(super) async fn approve(call: Call) -> Result<Response, Refusal> {
    decide_as(call, Some(Choice::Approve)).await
}

/// `POST …/deny`, perhaps with `{"reason": …}`
pub(super) async fn deny(call: Call) -> Result<Response, Refusal> {
    decide_as(call, Some(Choice::Deny)).await
}

/// `POST …/decide` with `{"decision": …}` and what that needs
pub(super) async fn decide(call: Call) -> Result<Response, Refusal> {
    decide_as(call, None).await
}

async fn decide_as(call: Call, choice: Option<Choice>) -> Result<Response, Refusal> {
    let (mut object, duplicates) = call.object(false)?;
    call.settle(&mut object, "")?;
    let mut request: v1::DecideRequest = call.message(object, duplicates)?.message;
    if let Some(choice) = choice {
        if !request.decision.is_empty() && request.decision != choice.as_str() {
            let message = format!("differs from '{}' in the path", choice.as_str());
            return Err(ApiError::violations(vec![Violation::new("decision", message)]).into());
        }
        choice.as_str().clone_into(&mut request.decision);
    }
    let caller = call.headers.get(CALLER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let approval = call.app().decide(request, caller.as_deref()).await?;
    call.answer(StatusCode::OK, &approval, &[])
}
