//! The activity `grpc`, against servers whose methods are made while the test runs.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse as _};
use baton_activities::{ActivitiesOptions, EgressPolicy};
use baton_execution::{Activities as _, Fault, fault_type};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{
    Code, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use crate::support::{Server, run, task, told, world};

const PROTO: &str = r#"
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/any.proto";
import "shop/v1/item.proto";
service Shop {
  rpc Get(Key) returns (Item);
  rpc List(Key) returns (stream Item);
  rpc Add(stream Item) returns (Sum);
  rpc Talk(stream Key) returns (stream Item);
  rpc Wrap(Key) returns (google.protobuf.Any);
}
message Key { string id = 1; int64 big = 2; google.protobuf.Timestamp at = 3; }
message Sum { int64 total = 1; }
"#;
const ITEM: &str = r#"
syntax = "proto3";
package shop.v1;
message Item { string id = 1; uint64 price = 2; optional bool sold = 3; repeated string tags = 4; bytes raw = 5; Kind kind = 6; }
enum Kind { NONE = 0; NEW = 1; }
"#;

/// A server of files, as a project has them: the root of imports is two folders above the file.
async fn files() -> Server {
    Server::answering(|_, request| match request.uri.path() {
        "/protos/shop/v1/shop.proto" => PROTO.into_response(),
        "/protos/shop/v1/item.proto" => ITEM.into_response(),
        "/broken.proto" => "service {".into_response(),
        "/climbs.proto" => "syntax = \"proto3\"; import \"../../etc/passwd\";".into_response(),
        "/lost.proto" => "syntax = \"proto3\"; import \"nowhere.proto\";".into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await
}

fn pool() -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop/v1");
    std::fs::create_dir_all(&shop).unwrap();
    std::fs::write(shop.join("shop.proto"), PROTO).unwrap();
    std::fs::write(shop.join("item.proto"), ITEM).unwrap();
    let set = protox::compile(["shop/v1/shop.proto"], [folder.path()]).unwrap();
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

struct AnyCodec(MessageDescriptor);
struct Plain(MessageDescriptor);

impl Codec for AnyCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain(self.0.clone())
    }

    fn decoder(&mut self) -> Plain {
        Plain(self.0.clone())
    }
}

impl Encoder for Plain {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Plain {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), from).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

type Answer = Result<Vec<DynamicMessage>, Status>;

/// A server of the shop; `answer` gets the method, what was sent, and the pool to make messages from.
struct Shop {
    port: u16,
    metadata: Arc<Mutex<Vec<MetadataMap>>>,
}

impl Shop {
    async fn answering(
        answer: impl Fn(&str, Vec<Value>, &DescriptorPool) -> Answer + Clone + Send + Sync + 'static,
    ) -> Self {
        let (pool, metadata) = (pool(), Arc::new(Mutex::new(Vec::new())));
        let memory = Arc::clone(&metadata);
        let app = Router::new().fallback(move |request: Request| {
            let (answer, pool, memory) = (answer.clone(), pool.clone(), Arc::clone(&memory));
            async move {
                let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
                let service = pool.get_service_by_name("shop.v1.Shop").unwrap();
                let method = service.methods().find(|method| method.name() == name).unwrap();
                let handler = tower::service_fn(move |request: tonic::Request<Streaming<DynamicMessage>>| {
                    let (answer, pool, memory, name) =
                        (answer.clone(), pool.clone(), Arc::clone(&memory), name.clone());
                    async move {
                        memory.lock().unwrap().push(request.metadata().clone());
                        let mut stream = request.into_inner();
                        let mut found = Vec::new();
                        while let Some(message) = stream.message().await? {
                            let options = SerializeOptions::new().stringify_64_bit_integers(false);
                            found
                                .push(message.serialize_with_options(serde_json::value::Serializer, &options).unwrap());
                        }
                        let answers = answer(&name, found, &pool)?;
                        Ok::<_, Status>(tonic::Response::new(tokio_stream::iter(answers.into_iter().map(Ok))))
                    }
                });
                tonic::server::Grpc::new(AnyCodec(method.input())).streaming(handler, request.map(Body::new)).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { port, metadata }
    }

    fn call(&self, files: &Server, method: &str, arguments: Value) -> Value {
        json!({
            "proto": {"uri": files.url("/protos/shop/v1/shop.proto"), "authentication": null},
            "service": {"name": "shop.v1.Shop", "host": "127.0.0.1", "port": self.port, "tls": false, "authentication": null},
            "method": method, "arguments": arguments,
        })
    }
}

fn item(pool: &DescriptorPool, value: Value) -> DynamicMessage {
    DynamicMessage::deserialize(pool.get_message_by_name("shop.v1.Item").unwrap(), value).unwrap()
}

async fn grpc(input: Value) -> Result<Value, Fault> {
    run(ActivitiesOptions::default(), "grpc", input).await
}

#[tokio::test]
async fn a_proto_file_can_be_given_along() {
    let files = files().await;
    let shop = Shop::answering(|_, _, pool| Ok(vec![item(pool, json!({"id": "a"}))])).await;
    let one = format!("{}\n{}", PROTO.replace("import \"shop/v1/item.proto\";", ""), message_of(ITEM));
    let mut call = shop.call(&files, "Get", json!({"id": "a"}));
    call["proto"] = json!({"uri": "file://app/shop.proto", "content": one});
    assert_eq!(grpc(call.clone()).await.unwrap()["id"], "a");
    // Another workflow has another file of that name.
    call["proto"]["content"] = json!(one.replace("service Shop", "service Stall"));
    assert!(told(&grpc(call.clone()).await.unwrap_err()).contains("Stall"));
    call["proto"]["content"] = json!(PROTO);
    let detail = grpc(call).await.unwrap_err().detail.unwrap();
    assert!(detail.contains("the import \"shop/v1/item.proto\" of a file that is given along"), "{detail}");
    assert_eq!(files.seen().len(), 0);
}

#[tokio::test]
async fn options_within_options_have_a_limit() {
    let files = files().await;
    let shop = Shop::answering(|_, _, pool| Ok(vec![item(pool, json!({}))])).await;
    let deep = |levels: usize| {
        let option = format!("{}{}", "a{".repeat(levels), "}".repeat(levels));
        let head = "syntax = \"proto2\"; import \"google/protobuf/descriptor.proto\"; package shop.v1;";
        format!(
            "{head} message M {{ optional M a = 1; }} extend google.protobuf.FileOptions {{ optional M m = 50000; }} option (m) = {{{option}}}; service Shop {{ rpc Get(M) returns (M); }}"
        )
    };
    let mut call = shop.call(&files, "Get", json!({}));
    call["proto"] = json!({"uri": "file://app/shop.proto", "content": deep(20)});
    grpc(call.clone()).await.unwrap();
    for levels in [100, 100_000] {
        call["proto"]["content"] = deep(levels).into();
        let fault = grpc(call.clone()).await.unwrap_err();
        assert!(fault.non_retryable && told(&fault).contains("nested deeper than 64 levels"), "{levels}: {fault}");
    }
}

/// What stands behind the head of a proto file.
fn message_of(file: &str) -> String {
    let is_head = |line: &&str| !["syntax", "package", "import"].iter().any(|word| line.trim().starts_with(word));
    file.lines().filter(is_head).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn calls_methods_of_all_four_kinds() {
    let files = files().await;
    let shop = Shop::answering(|method, sent, pool| {
        let one = |id: &Value| item(pool, json!({"id": id, "price": u64::MAX.to_string(), "raw": "AAE="}));
        Ok(match method {
            "Get" => {
                assert_eq!(sent, [json!({"id": "a", "big": 9_007_199_254_740_993_i64, "at": "2026-01-02T03:04:05Z"})]);
                vec![one(&json!("a"))]
            }
            "List" => vec![one(&json!("a")), one(&json!("b"))],
            "Talk" => sent.iter().map(|key| one(&key["id"])).collect(),
            _ => {
                let sum = DynamicMessage::deserialize(
                    pool.get_message_by_name("shop.v1.Sum").unwrap(),
                    json!({"total": sent.len().to_string()}),
                );
                vec![sum.unwrap()]
            }
        })
    })
    .await;
    let whole = |id: &str| json!({"id": id, "price": u64::MAX, "tags": [], "raw": "AAE=", "kind": "NONE"});
    let key = json!({"id": "a", "big": 9_007_199_254_740_993_i64, "at": "2026-01-02T03:04:05Z"});
    assert_eq!(grpc(shop.call(&files, "Get", key)).await.unwrap(), whole("a"));
    assert_eq!(grpc(shop.call(&files, "List", json!({}))).await.unwrap(), json!([whole("a"), whole("b")]));
    let items = json!([{"id": "x", "kind": "NEW"}, {"id": "y"}, {}]);
    assert_eq!(grpc(shop.call(&files, "Add", items)).await.unwrap(), json!({"total": 3}));
    let keys = json!([{"id": "x"}, {"id": "y"}]);
    assert_eq!(grpc(shop.call(&files, "Talk", keys)).await.unwrap(), json!([whole("x"), whole("y")]));
}

#[tokio::test]
async fn says_who_it_is_and_how_long_it_waits() {
    let files = files().await;
    let shop = Shop::answering(|_, _, pool| Ok(vec![item(pool, json!({}))])).await;
    let mut input = shop.call(&files, "Get", Value::Null);
    input["service"]["authentication"] = json!({"bearer": {"token": "abc"}});
    grpc(input).await.unwrap();
    let metadata = shop.metadata.lock().unwrap().remove(0);
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(text("authorization"), "Bearer abc");
    assert_eq!(text("idempotency-key"), "uid/do/0/pr%C3%BCfen/1");
    assert!(text("user-agent").starts_with("baton/") && !text("grpc-timeout").is_empty());
}

#[tokio::test]
async fn a_status_is_a_fault_with_its_details() {
    let files = files().await;
    let details = tonic_types::Status {
        code: 5,
        message: "no".into(),
        details: vec![
            prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
                value: tonic_types::pb::ErrorInfo {
                    reason: "GONE".into(),
                    domain: "shop".into(),
                    ..Default::default()
                }
                .encode_to_vec(),
            },
            prost_types::Any { type_url: "example.com/unknown.Type".into(), value: vec![1, 2] },
        ],
    };
    let details = details.encode_to_vec();
    let shop = Shop::answering(move |_, sent, _| {
        let code = sent[0]["id"].as_str().unwrap().parse::<i32>().unwrap();
        Err(Status::with_details(Code::from_i32(code), "because of hunter2hunter2", details.clone().into()))
    })
    .await;
    let fails = async |code: i32| {
        let mut input = shop.call(&files, "Get", json!({"id": code.to_string()}));
        input["service"]["authentication"] = json!({"bearer": {"token": "hunter2hunter2"}});
        let fault = grpc(input).await.unwrap_err();
        assert!(!told(&fault).contains("hunter2"), "{fault}");
        fault
    };
    let fault = fails(5).await;
    assert_eq!(fault.detail.as_deref(), Some("shop.v1.Shop/Get answered NOT_FOUND: because of ***"));
    let known = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "GONE", "domain": "shop", "metadata": {}});
    let unknown = json!({"@type": "example.com/unknown.Type", "value": "AQI="});
    assert_eq!(fault.data, Some(json!({"code": "NOT_FOUND", "details": [known, unknown]})));
    let communication = fault_type::COMMUNICATION;
    for (code, kind, status, non_retryable) in [
        (3, fault_type::VALIDATION, 400, true),
        (4, fault_type::TIMEOUT, 408, false),
        (5, communication, 404, true),
        (7, fault_type::AUTHORIZATION, 403, true),
        (8, communication, 429, false),
        (10, communication, 409, false),
        (12, communication, 501, true),
        (13, communication, 500, false),
        (14, communication, 503, false),
        (16, fault_type::AUTHENTICATION, 401, true),
    ] {
        let fault = fails(code).await;
        assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (kind, status, non_retryable), "{code}");
    }
}

#[tokio::test]
async fn what_cannot_be_called_is_said() {
    let files = files().await;
    let shop = Shop::answering(|_, _, _| panic!("nothing is called")).await;
    let with = |change: fn(&mut Value)| {
        let mut input = shop.call(&files, "Get", json!({}));
        change(&mut input);
        input
    };
    let elsewhere = |path: &str| {
        let mut input = shop.call(&files, "Get", json!({}));
        input["proto"]["uri"] = json!(files.url(path));
        input
    };
    for (input, says) in [
        (with(|input| input["method"] = json!("Got")), "no method 'Got'; methods are 'Get', 'List'"),
        (with(|input| input["service"]["name"] = json!("Shop")), "no service 'Shop'; services are 'shop.v1.Shop'"),
        (with(|input| input["arguments"] = json!({"idd": "a"})), "no 'shop.v1.Key'"),
        (with(|input| input["arguments"] = json!([{}])), "takes one message"),
        (with(|input| input["proto"]["uri"] = json!("file:///etc/passwd")), "only 'http' and 'https' are allowed"),
        (elsewhere("/broken.proto"), "broken.proto:1:9: expected"),
        (elsewhere("/climbs.proto"), "climbs.proto:1:"),
        (elsewhere("/lost.proto"), "the import \"nowhere.proto\" is not below"),
        (elsewhere("/none.proto"), "404"),
    ] {
        let fault = grpc(input).await.unwrap_err();
        assert!(fault.non_retryable && told(&fault).contains(says.replace('"', "\\\"").as_str()), "{says}: {fault}");
    }
}

#[tokio::test]
async fn only_judged_addresses_are_called_and_nobody_answering_is_a_fault() {
    let files = files().await;
    let shop = Shop::answering(|_, _, pool| Ok(vec![item(pool, json!({}))])).await;
    let mut input = shop.call(&files, "Get", json!({}));
    input["service"]["host"] = json!("169.254.169.254");
    let fault = grpc(input).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::AUTHORIZATION, true), "{fault}");
    let closed = ActivitiesOptions {
        egress: EgressPolicy { allow_private: false, ..EgressPolicy::default() },
        ..ActivitiesOptions::default()
    };
    let fault = run(closed, "grpc", shop.call(&files, "Get", json!({}))).await.unwrap_err();
    assert_eq!(fault.kind, fault_type::AUTHORIZATION, "{fault}");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut input = shop.call(&files, "Get", json!({}));
    input["service"]["port"] = json!(free);
    let fault = grpc(input).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status, fault.non_retryable), (fault_type::COMMUNICATION, 503, false));
}

#[tokio::test]
async fn a_server_that_sends_without_end_or_never_is_stopped() {
    let files = files().await;
    let large = Shop::answering(|_, _, pool| Ok(vec![item(pool, json!({"id": "x".repeat(1000)})); 200])).await;
    let options = ActivitiesOptions { response_bytes_max: 64 * 1024, ..ActivitiesOptions::default() };
    let fault = run(options, "grpc", large.call(&files, "List", json!({}))).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::TOO_LARGE, true), "{fault}");
    let many = Shop::answering(|_, _, pool| Ok(vec![item(pool, json!({})); 10_001])).await;
    let fault = grpc(many.call(&files, "List", json!({}))).await.unwrap_err();
    assert!(told(&fault).contains("more than 10000 messages"), "{fault}");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut input = many.call(&files, "Get", json!({}));
    input["service"]["port"] = json!(silent.local_addr().unwrap().port());
    let fault = world(ActivitiesOptions::default()).run(task("grpc", input, 300)).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status), (fault_type::TIMEOUT, 408), "{fault}");
}

#[tokio::test]
async fn messages_within_messages_have_a_limit() {
    let files = files().await;
    let shop = Shop::answering(|_, sent, pool| {
        let levels = sent[0]["big"].as_u64().unwrap();
        let any = pool.get_message_by_name("google.protobuf.Any").unwrap();
        let mut inner = prost_types::Any {
            type_url: "type.googleapis.com/shop.v1.Sum".into(),
            value: prost_types::Any::default().encode_to_vec(),
        };
        for _ in 0..levels {
            inner = prost_types::Any {
                type_url: "type.googleapis.com/google.protobuf.Any".into(),
                value: inner.encode_to_vec(),
            };
        }
        Ok(vec![DynamicMessage::decode(any, inner.encode_to_vec().as_slice()).unwrap()])
    })
    .await;
    let shallow = grpc(shop.call(&files, "Wrap", json!({"big": 1}))).await.unwrap();
    assert_eq!(shallow["value"], json!({"@type": "type.googleapis.com/shop.v1.Sum", "total": 0}));
    let fault = grpc(shop.call(&files, "Wrap", json!({"big": 20_000}))).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.non_retryable), (fault_type::LIMIT, true), "{fault}");
}
