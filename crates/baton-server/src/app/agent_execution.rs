//! The kind `AgentExecution`.

use baton_agent::AgentDefinition;
use baton_engine::ParentRef;
use baton_execution::ProgramKind;
use baton_proto::{
    ExecutionResource, Resource as _,
    v1::{AgentExecution, AgentLimits},
};
use baton_store::StoredResource;
use baton_types::{ApiError, Digest, Violation, check_name};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    App, Change, DeletedObject, ExecutionKind, ServedResource, WriteOptions, Written,
    admission::{ExecutionStrategy, Inline, SpecParts},
    agent, execution, free_data, strategy,
};
use crate::programs::Compiled;

impl ServedResource for AgentExecution {
    const SELECTABLE_FIELDS: &'static [&'static str] =
        &["metadata.name", "metadata.namespace", "status.phase", "spec.agent"];

    fn field(&self, field: &str) -> Option<String> {
        match field {
            "status.phase" => Some(self.status.as_ref().map(|status| status.phase.clone()).unwrap_or_default()),
            "spec.agent" => Some(self.spec.as_ref().map(|spec| spec.agent.clone()).unwrap_or_default()),
            _ => strategy::common_field(self, field),
        }
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        execution::decode(body, revision)
    }

    async fn admit_new(app: &App, object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        Box::pin(execution::create(app, object, options)).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        execution::replace(app, &stored, change, options).await
    }

    async fn remove(app: &App, stored: StoredResource, expected: Option<u64>) -> Result<DeletedObject<Self>, ApiError> {
        execution::remove(app, stored, expected).await
    }
}

impl ExecutionKind for AgentExecution {
    const PROGRAM: ProgramKind = ProgramKind::Agent;

    fn into_execution(self) -> ExecutionResource {
        ExecutionResource::Agent(Box::new(self))
    }

    fn from_execution(execution: ExecutionResource) -> Option<Self> {
        match execution {
            ExecutionResource::Agent(it) => Some(*it),
            ExecutionResource::Workflow(_) => None,
        }
    }
}

impl ExecutionStrategy for AgentExecution {
    const TEMPLATE_FIELD: &'static str = "agent";
    const LEVELS_AROUND_INPUT: usize = 1;

    fn complete_settings(
        app: &App,
        settings: &mut Value,
        (digest, content): (&Digest, &[u8]),
        parent: Option<&ParentRef>,
    ) -> Result<(), ApiError> {
        let compiled = app.programs().get(ProgramKind::Agent, digest, content);
        match compiled.map_err(|fault| ApiError::internal(fault.to_string()))? {
            Compiled::Agent(agent) => add_prices(app, settings, &agent, parent),
            Compiled::Workflow(_) => {}
        }
        Ok(())
    }

    async fn complete(&mut self, app: &App) -> Result<(), ApiError> {
        let namespace = self.metadata_mut().namespace.clone();
        let spec = self.spec.get_or_insert_default();
        if spec.agent.is_empty() && spec.definition.is_none() && check_name(&spec.session).is_ok() {
            spec.agent = app.agent_of_session(&namespace, &spec.session).await?;
        }
        Ok(())
    }

    fn parts(&mut self, violations: &mut Vec<Violation>) -> SpecParts {
        let spec = self.spec.get_or_insert_default();
        let inline = match spec.definition.as_mut() {
            None => Inline::Absent,
            Some(definition) => agent::agent_content(definition, "spec.definition", violations)
                .map_or(Inline::Unreadable, Inline::Present),
        };
        let input =
            spec.input.as_mut().map_or(Value::Null, |input| free_data::read_kept(input, "spec.input", violations));
        let message = if spec.message.is_empty() { Value::Null } else { Value::from(spec.message.as_str()) };
        if !spec.session.is_empty()
            && let Err(message) = check_name(&spec.session)
        {
            violations.push(Violation::new("spec.session", message));
        }
        check_limits(spec.limits.as_ref(), violations);
        let settings = spec.limits.as_ref().map_or(Value::Null, baton_proto::to_json_value);
        let mut input = json!({"message": message, "input": input});
        if !spec.attachments.is_empty() {
            let attachments = baton_proto::to_json_value(&spec.attachments);
            if let Err(wrong) = baton_agent::check_attachments(&attachments) {
                violations.extend(
                    wrong.into_iter().map(|it| Violation::new(format!("spec.attachments{}", it.field), it.message)),
                );
            }
            input["attachments"] = attachments;
        }
        SpecParts { template: spec.agent.clone(), inline, input, settings }
    }
}

fn check_limits(limits: Option<&AgentLimits>, violations: &mut Vec<Violation>) {
    let Some(limits) = limits else { return };
    if let Err(wrong) = baton_agent::check_limits(&baton_proto::to_json_value(limits)) {
        violations.extend(wrong.into_iter().map(|it| it.under("spec.limits")));
    }
}

/// Where money is limited, the prices of its models as they are now: what a call may cost at most is worked out before it.
fn add_prices(app: &App, settings: &mut Value, agent: &AgentDefinition, parent: Option<&ParentRef>) {
    let own = baton_agent::check_limits(settings).unwrap_or_default();
    let is_granted =
        |parent: &ParentRef| parent.grant.as_ref().is_some_and(|grant| grant.amounts.cost_micros.is_some());
    let is_limited = agent.limits().overridden_by(own).tree.cost_micros.is_some() || parent.is_some_and(is_granted);
    let Some(prices) = app.prices().filter(|_| is_limited) else { return };
    let model = agent.model();
    let prices: Vec<_> = std::iter::once(model).chain(&model.fallbacks).map(|model| prices.known(model)).collect();
    if settings.is_null() {
        *settings = json!({});
    }
    settings["prices"] = json!(prices);
}
