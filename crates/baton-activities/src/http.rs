//! The activity `http`: one request, as the workflow language's `call: http` describes it.
//!
//! Input: `method`, `endpoint`, `headers`, `query`, `body`, `output` (`content`, `raw`, `response`),
//! `redirect`, `authentication` (as [`crate::auth`] has it). What comes back is described at [`crate::exchange`],
//! how a body is sent at [`crate::body`].

use std::sync::Arc;

use baton_execution::{ActivityTask, Fault};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Activity,
    auth::Authenticator,
    body,
    exchange::{Call, Output, exchange, headers, refused, text_of},
    redact::Secrets,
};

pub(crate) struct Http {
    authenticator: Arc<Authenticator>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    method: String,
    endpoint: String,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    query: Option<Map<String, Value>>,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    output: Option<Output>,
    #[serde(default)]
    redirect: Option<bool>,
}

impl Http {
    pub(crate) fn new(authenticator: &Arc<Authenticator>) -> Self {
        Self { authenticator: Arc::clone(authenticator) }
    }
}

#[async_trait::async_trait]
impl Activity for Http {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let mut secrets = Secrets::default();
        let authentication = task.input.get("authentication").unwrap_or(&Value::Null);
        let mut credentials = self.authenticator.credentials(authentication, task, &mut secrets).await?;
        let input = Input::deserialize(credentials.fill(&task.input).as_ref())
            .map_err(|error| refused(format!("the input of the activity 'http' cannot be used: {error}")))?;
        let call = build(&input, task)?;
        exchange(&self.authenticator, call, &mut credentials, &mut secrets, task).await
    }
}

fn build(input: &Input, task: &ActivityTask) -> Result<Call, Fault> {
    let method = Method::from_bytes(input.method.to_ascii_uppercase().as_bytes()).map_err(|_| {
        refused(format!("'{}' is not an HTTP method", input.method.chars().take(32).collect::<String>()))
    })?;
    let mut url = Url::parse(&input.endpoint)
        .map_err(|error| refused(format!("the endpoint is not an absolute URL: {error}")))?;
    if let Some(query) = input.query.as_ref().filter(|query| !query.is_empty()) {
        let mut pairs = url.query_pairs_mut();
        for (name, value) in query {
            match value {
                Value::Null => {}
                Value::Array(items) => items.iter().for_each(|item| _ = pairs.append_pair(name, &text_of(item))),
                other => _ = pairs.append_pair(name, &text_of(other)),
            }
        }
    }
    let mut headers = headers(task, input.headers.iter().flatten())?;
    let body = body::encode(&input.body, &mut headers, &task.idempotency_key);
    Ok(Call {
        method,
        url,
        headers,
        body,
        output: input.output.unwrap_or_default(),
        redirect: input.redirect.unwrap_or(false),
    })
}
