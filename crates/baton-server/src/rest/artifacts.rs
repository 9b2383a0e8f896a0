//! Contents of artifacts, as files to download.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use baton_proto::{to_json_value, v1};
use serde_json::json;

use super::{call::Call, json, refusal::Refusal};

/// `GET …/artifacts/{name}/content`
pub(super) async fn content(call: Call) -> Result<Response, Refusal> {
    let content = call.app().artifact_content(&call.namespace, &call.name).await?;
    Ok(file(content, &call.name))
}

/// `GET …/agentexecutions/{name}/artifacts`: the list; with `artifact=NAME`, the content of that one.
pub(super) async fn of_execution(call: Call) -> Result<Response, Refusal> {
    let artifact = call.query.text("artifact").to_owned();
    if artifact.is_empty() {
        let all = call.app().execution_artifacts(&call.namespace, &call.name).await?;
        return json(StatusCode::OK, &json!({"items": to_json_value(&all)}));
    }
    let request = v1::GetExecutionArtifactRequest {
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        artifact: artifact.clone(),
    };
    let content = call.app().execution_artifact(&request).await?;
    Ok(file(content, &artifact))
}

/// What somebody or some model made is not for a browser to run in the name of this server: it is saved, not shown.
fn file(content: v1::ArtifactContent, name: &str) -> Response {
    let media_type = HeaderValue::from_str(&content.media_type);
    let etag = HeaderValue::from_str(&format!("\"{}\"", content.digest));
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }).collect();
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\""));
    let mut response = Response::new(content.data.into());
    let headers = response.headers_mut();
    let fallback = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, media_type.unwrap_or(fallback));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.extend(
        [(header::ETAG, etag), (header::CONTENT_DISPOSITION, disposition)]
            .into_iter()
            .filter_map(|(name, value)| value.ok().map(|value| (name, value))),
    );
    response
}
