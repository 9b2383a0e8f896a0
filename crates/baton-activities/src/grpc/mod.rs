//! The activity `grpc`: one call of a method, unary or streaming, of a service that a proto file describes.
//!
//! Input: `proto` (`uri`, `authentication`, or the `content` of a file), `service` (`name`, `host`, `port`, `tls`, `authentication`), `method`,
//! `arguments`. Authentication is as [`crate::auth`] has it.
//!
//! - `arguments` is an object; for a method that takes a stream, an array of objects, or one object.
//! - The output is an object; of a method that gives a stream, an array of objects, limited in number and bytes.
//! - Metadata: `idempotency-key`, the credentials, and the deadline (`grpc-timeout`).
//!
//! # Deliberately absent
//! Server reflection: the language wants a proto file. Compression: a small message could unfold to any size.
//!
//! # Failure
//! A status other than `OK` is a fault of the type that fits its code ([`status`]), with the code and details as data.

mod message;
mod proto;
mod status;

use std::{sync::Arc, time::Duration};

use baton_execution::{ActivityTask, Fault, fault_type};
use hyper_util::rt::TokioIo;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;
use serde_json::Value;
use tonic::{
    Code,
    client::Grpc as Client,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use crate::{
    Activity,
    auth::Authenticator,
    connection::Target,
    documents::{Kept, Resource},
    grpc::message::{DynamicCodec, from_json, to_json},
    outgoing::{Deadline, IDEMPOTENCY_KEY, Outgoing, header_text},
    redact::Secrets,
};

/// Messages that a stream may have, in each direction: what comes back becomes one array.
const MESSAGES_MAX: usize = 10_000;
/// How much before the deadline its end is noticed, for what is rounded on the way.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(10);

pub(crate) struct Grpc {
    outgoing: Arc<Outgoing>,
    authenticator: Arc<Authenticator>,
    kept: Kept<DescriptorPool>,
}

#[derive(Deserialize)]
struct Input {
    proto: Resource,
    service: Service,
    method: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct Service {
    name: String,
    host: String,
    port: u16,
    tls: bool,
    #[serde(default)]
    authentication: Value,
}

impl Grpc {
    pub(crate) fn new(outgoing: &Arc<Outgoing>, authenticator: &Arc<Authenticator>) -> Self {
        Self { outgoing: Arc::clone(outgoing), authenticator: Arc::clone(authenticator), kept: Kept::default() }
    }

    async fn pool(&self, proto: &Resource, task: &ActivityTask) -> Result<DescriptorPool, Fault> {
        if let Some(pool) = self.kept.get(proto) {
            return Ok(pool);
        }
        let (pool, bytes) = proto::load(&self.authenticator, proto, task).await?;
        self.kept.put(proto, bytes, &pool);
        Ok(pool)
    }

    async fn channel(&self, service: &Service) -> Result<Channel, Fault> {
        let tls = service.tls.then_some("h2");
        let target = Target { host: service.host.clone(), port: service.port, tls };
        let connection = self.outgoing.connect(&target).await?;
        let broken = |error: tonic::transport::Error| {
            Fault::new(fault_type::COMMUNICATION, 503, format!("connect to {}: {error}", target.shown()))
        };
        let scheme = if service.tls { "https" } else { "http" };
        let origin: tonic::transport::Uri = format!("{scheme}://{}", target.shown()).parse().map_err(|_| {
            wrong(format!("'{}' is not the name of a host", service.host.chars().take(80).collect::<String>()))
        })?;
        let agent = concat!("baton/", env!("CARGO_PKG_VERSION"));
        // The scheme is that of the requests; what is connected is connected, TLS and all.
        let endpoint = Endpoint::from(origin.clone()).user_agent(agent).map_err(broken)?.origin(origin);
        // One call, one connection: a second one is not asked for.
        let mut connection = Some(connection);
        let connector = tower::service_fn(move |_| {
            let connection = connection.take().map(TokioIo::new);
            std::future::ready(connection.ok_or_else(|| std::io::Error::other("the connection was closed")))
        });
        endpoint.connect_with_connector(connector).await.map_err(broken)
    }

    async fn call(&self, task: &ActivityTask, input: &Input, secrets: &mut Secrets) -> Result<Value, Fault> {
        let deadline = Deadline::of(task);
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, header_text(&task.idempotency_key));
        let credentials = self.authenticator.credentials(&input.service.authentication, task, secrets).await?;
        match credentials.authorization()? {
            Some(value) => _ = headers.insert(AUTHORIZATION, value),
            None if credentials.password().is_none() => {}
            None => return Err(wrong("'digest' cannot be used with gRPC: it answers a challenge of HTTP".to_owned())),
        }
        let pool = self.pool(&input.proto, task).await?;
        let method = find(&pool, input)?;
        let on = format!("{}/{}", method.parent_service().full_name(), method.name());
        let messages = arguments(&method, &input.arguments)?
            .into_iter()
            .map(|value| from_json(&method.input(), value))
            .collect::<Result<Vec<_>, _>>()?;
        let path = PathAndQuery::try_from(format!("/{on}")).map_err(|_| wrong(format!("'{on}' is not a method")))?;
        let mut client = Client::new(self.channel(&input.service).await?)
            .max_decoding_message_size(self.outgoing.response_bytes_max);
        let secrets = &*secrets;
        let failed = |status: tonic::Status| {
            // The client's own clock says it in these words.
            if status.code() == Code::Cancelled && deadline.left() < CLOCK_TOLERANCE {
                return late(input, deadline);
            }
            status::fault(&status, &on, &pool, secrets)
        };
        client.ready().await.map_err(|error| {
            Fault::new(fault_type::COMMUNICATION, 503, format!("connect to {}: {error}", input.service.host))
        })?;
        let mut request = tonic::Request::new(tokio_stream::iter(messages));
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        request.set_timeout(deadline.left());
        let codec = DynamicCodec { output: method.output() };
        let mut stream = client.streaming(request, path, codec).await.map_err(failed)?.into_inner();
        let mut left = self.outgoing.response_bytes_max;
        let mut found = Vec::new();
        while let Some(message) = stream.message().await.map_err(failed)? {
            if found.len() == MESSAGES_MAX {
                let detail = format!("{on} sends more than {MESSAGES_MAX} messages, which is the limit");
                return Err(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable());
            }
            found.push(credentials.hidden.redact_value(to_json(&message, &mut left)?));
        }
        if method.is_server_streaming() {
            return Ok(Value::Array(found));
        }
        match <[Value; 1]>::try_from(found) {
            Ok([message]) => Ok(message),
            Err(found) => Err(Fault::new(
                fault_type::COMMUNICATION,
                502,
                format!("{on} gives one message, and the server sent {}", found.len()),
            )),
        }
    }
}

#[async_trait::async_trait]
impl Activity for Grpc {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let input = Input::deserialize(&task.input)
            .map_err(|error| wrong(format!("the input of the activity 'grpc' cannot be used: {error}")))?;
        let deadline = Deadline::of(task);
        let mut secrets = Secrets::default();
        let call = self.call(task, &input, &mut secrets);
        tokio::time::timeout(deadline.left(), call).await.unwrap_or_else(|_| Err(late(&input, deadline)))
    }
}

fn late(input: &Input, deadline: Deadline) -> Fault {
    let detail = format!("{}/{} did not answer within {} ms", input.service.name, input.method, deadline.total_ms);
    Fault::new(fault_type::TIMEOUT, 408, detail)
}

/// The method that is meant.
fn find(pool: &DescriptorPool, input: &Input) -> Result<MethodDescriptor, Fault> {
    let name = &input.service.name;
    let service = pool.get_service_by_name(name).ok_or_else(|| {
        let known = quoted(pool.services().map(|service| service.full_name().to_owned()));
        wrong(format!("the proto file has no service '{}'; services are {known}", short(name)))
    })?;
    let found = service.methods().find(|method| method.name() == input.method);
    found.ok_or_else(|| {
        let known = quoted(service.methods().map(|method| method.name().to_owned()));
        wrong(format!("the service '{name}' has no method '{}'; methods are {known}", short(&input.method)))
    })
}

/// The messages to send.
fn arguments<'v>(method: &MethodDescriptor, arguments: &'v Value) -> Result<Vec<&'v Value>, Fault> {
    match arguments {
        Value::Null | Value::Object(_) => Ok(vec![arguments]),
        Value::Array(items) if method.is_client_streaming() && items.len() <= MESSAGES_MAX => {
            Ok(items.iter().collect())
        }
        Value::Array(items) if method.is_client_streaming() => {
            Err(wrong(format!("the arguments are {} messages; allowed are 0 to {MESSAGES_MAX}", items.len())))
        }
        _ if method.is_client_streaming() => {
            Err(wrong(format!("'{}' takes a stream: its arguments must be an array of objects", method.name())))
        }
        _ => Err(wrong(format!("'{}' takes one message: its arguments must be an object", method.name()))),
    }
}

fn wrong(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn quoted(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.take(16).map(|name| format!("'{name}'")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
