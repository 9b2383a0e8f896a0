//! What goes over the same connection as the other calls and is no gRPC: the one call that the API has in REST only, an import,
//! whose body is bytes as another system left them; and messages of MCP.

use std::future::poll_fn;

use baton_proto::v1;
use baton_types::{Violation, check_namespace};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::Value;
use tonic::{
    body::Body,
    codegen::{Bytes, Service as _, http},
};

use super::{ANSWER_BYTES_MAX, Client};
use crate::{failure::Failure, kind::Object};

impl Client {
    /// Posts to a path that is not of the API; the answer as it begins.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: http::HeaderMap,
        body: Vec<u8>,
    ) -> Result<http::Response<Body>, Failure> {
        let broken = |error: &(dyn std::error::Error + 'static)| {
            Failure::environment(format!("ask {}", self.address())).because(error)
        };
        let mut request = http::Request::post(path);
        if let Some(own) = request.headers_mut() {
            *own = headers;
        }
        let request = request.body(Body::new(Full::new(Bytes::from(body)))).map_err(|error| broken(&error))?;
        let mut channel = self.channel.clone();
        poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| broken(&error))?;
        channel.call(request).await.map_err(|error| broken(&error))
    }

    /// Takes over one serialized WorkflowExecution into a namespace; the object as it is stored.
    pub(crate) async fn import(&self, namespace: &str, execution: Vec<u8>) -> Result<Object, Failure> {
        // It becomes a part of the path, where it must not mean anything else.
        check_namespace(namespace)
            .map_err(|says| Failure::violations(vec![Violation::new("metadata.namespace", says)]))?;
        let path = format!("/apis/baton.dev/v1/namespaces/{namespace}/workflowexecutions:import");
        let broken = |error: &(dyn std::error::Error + 'static)| {
            Failure::environment(format!("ask {}", self.address())).because(error)
        };
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::new(Full::new(Bytes::from(execution))))
            .map_err(|error| broken(&error))?;
        let mut channel = self.channel.clone();
        poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| broken(&error))?;
        let response = channel.call(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = body.map_err(|error| broken(error.as_ref()))?.to_bytes();
        let answer: Value = serde_json::from_slice(&text)
            .map_err(|error| Failure::environment(format!("the server answered {status}")).because(&error))?;
        if !status.is_success() {
            return Err(Failure::of_status_object(status.as_u16(), &answer));
        }
        let imported: v1::WorkflowExecution = baton_proto::from_json_value(answer)
            .map_err(|error| Failure::environment("read what was imported").because(&error))?;
        Ok(imported.into())
    }
}
