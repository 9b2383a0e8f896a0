//! The subresource of sessions: `export`.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use baton_proto::v1;
use bytes::Bytes;
use futures::StreamExt as _;

use super::{call::Call, refusal::Refusal, watch};

/// `GET …/export?after=`: the turns that have ended, one a line, oldest first.
pub(super) async fn export(call: Call) -> Result<Response, Refusal> {
    let after = call.query.read(|it| it.count("after", "numbers of turns, 0 or more"))?;
    let request = v1::ExportSessionRequest {
        namespace: call.namespace.clone(),
        name: call.name.clone(),
        after: after.unwrap_or_default(),
    };
    let turns = call.app().export_session(&request).await?;
    let lines = turns.map(|turn| match turn {
        Ok(turn) => Bytes::from(format!("{}\n", baton_proto::to_json(&turn))),
        Err(error) => watch::error_line(error.into()),
    });
    let stopping = call.stopping();
    let mut response = watch::lines(lines.take_until(stopping.cancelled_owned()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}
