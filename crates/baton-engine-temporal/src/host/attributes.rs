//! Search attributes, by which executions are found in Temporal's UI.

use std::{collections::HashMap, time::Duration};

use temporalio_client::{
    Client,
    tonic::{Code, Request, Status},
};
use temporalio_common::protos::temporal::api::{
    enums::v1::IndexedValueType,
    operatorservice::v1::{AddSearchAttributesRequest, ListSearchAttributesRequest},
};
use tokio::time::timeout;

use crate::rpc::clipped;

/// Longest that making them may take.
const REGISTER_TIME_MAX: Duration = Duration::from_secs(10);

/// Search attribute: the kind of the resource, such as `AgentExecution`.
pub const KIND_ATTRIBUTE: &str = "BatonKind";
/// Search attribute: the resource's namespace.
pub const NAMESPACE_ATTRIBUTE: &str = "BatonNamespace";
/// Search attribute: the resource's name.
pub const NAME_ATTRIBUTE: &str = "BatonName";
/// Search attribute: the resource's phase.
pub const PHASE_ATTRIBUTE: &str = "BatonPhase";

const ATTRIBUTES: [&str; 4] = [KIND_ATTRIBUTE, NAMESPACE_ATTRIBUTE, NAME_ATTRIBUTE, PHASE_ATTRIBUTE];

/// Makes the search attributes in a namespace. `false` if it does not have them all and does not let us make them; there is a
/// warning then that says why.
pub async fn register_search_attributes(client: &Client, namespace: &str) -> bool {
    match timeout(REGISTER_TIME_MAX, register(client, namespace)).await {
        Ok(Ok(())) => true,
        Ok(Err(status)) => {
            tracing::warn!(
                namespace,
                error = clipped(status.message()),
                "Temporal does not let us make search attributes; executions are found there by their memo only"
            );
            false
        }
        Err(_elapsed) => {
            tracing::warn!(namespace, "Temporal did not say in time which search attributes it has");
            false
        }
    }
}

async fn register(client: &Client, namespace: &str) -> Result<(), Status> {
    let mut service = client.connection().operator_service();
    let list = ListSearchAttributesRequest { namespace: namespace.to_owned() };
    let there = service.list_search_attributes(Request::new(list)).await?.into_inner().custom_attributes;
    let missing: HashMap<String, i32> = ATTRIBUTES
        .iter()
        .filter(|name| !there.contains_key(**name))
        .map(|name| ((*name).to_owned(), IndexedValueType::Keyword.into()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let add = AddSearchAttributesRequest { search_attributes: missing, namespace: namespace.to_owned() };
    match service.add_search_attributes(Request::new(add)).await {
        // Another server was faster.
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Whether a start was refused because the namespace does not know them.
pub(super) fn is_about_attributes(status: &Status) -> bool {
    status.code() == Code::InvalidArgument && status.message().to_lowercase().contains("search attribute")
}
