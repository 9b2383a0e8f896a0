//! What a workflow refers to and is kept elsewhere: fetched once, pinned, and run.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::IntoResponse,
};
use baton_proto::v1::{Json, Workflow, WorkflowExecution};
use baton_types::ErrorKind;
use serde_json::{Value, json};

use crate::support::{DRY, REAL, Server, document, fields, read, run};

/// Files by their paths, and the requests for them.
#[derive(Default)]
struct Files {
    by_path: BTreeMap<String, String>,
    asked: Vec<(String, Option<String>)>,
}

struct Place {
    address: SocketAddr,
    files: Arc<Mutex<Files>>,
}

impl Place {
    async fn start() -> Self {
        let files: Arc<Mutex<Files>> = Arc::default();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&files));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, files }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn put(&self, path: &str, text: impl Into<String>) {
        self.files.lock().unwrap().by_path.insert(path.to_owned(), text.into());
    }

    /// What was asked for since the last time, in order.
    fn asked(&self) -> Vec<String> {
        let mut asked: Vec<_> =
            std::mem::take(&mut self.files.lock().unwrap().asked).into_iter().map(|(path, _)| path).collect();
        asked.sort();
        asked
    }
}

async fn serve(State(files): State<Arc<Mutex<Files>>>, uri: Uri, headers: HeaderMap) -> impl IntoResponse {
    let mut files = files.lock().unwrap();
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    files.asked.push((uri.path().to_owned(), authorization));
    match files.by_path.get(uri.path()) {
        Some(text) => (StatusCode::OK, text.clone()),
        None => (StatusCode::NOT_FOUND, "there is no such file".to_owned()),
    }
}

/// A workflow whose function, in YAML, calls one of a catalog, in JSON, which has a schema beside it.
fn shop(place: &Place) -> Value {
    place.put("/greet.yaml", "do:\n- shout: {call: 'shout:1.0.0@mine', with: {name: '${ .name }'}}\n");
    place.put(
        "/catalog/functions/shout/1.0.0/function.yaml",
        r#"{"input": {"schema": {"resource": {"endpoint": "input.json"}}}, "set": {"said": "${ .name | ascii_upcase }"}}"#,
    );
    place.put("/catalog/functions/shout/1.0.0/input.json", r#"{"required": ["name"]}"#);
    let mut definition =
        document("shop", &json!([{"greet": {"call": place.url("/greet.yaml"), "with": {"name": "${ .who }"}}}]));
    definition["use"] = json!({
        "authentications": {"me": {"basic": {"username": "ada", "password": "lovelace"}}},
        "catalogs": {"mine": {"endpoint": {"uri": place.url("/catalog"), "authentication": {"use": "me"}}}},
    });
    definition
}

fn workflow(definition: &Value) -> Value {
    json!({"metadata": {"name": "w"}, "spec": {"definition": definition}})
}

fn uris(resources: &BTreeMap<String, Json>) -> Vec<&str> {
    resources.keys().map(String::as_str).collect()
}

const ALL: [&str; 3] =
    ["/catalog/functions/shout/1.0.0/function.yaml", "/catalog/functions/shout/1.0.0/input.json", "/greet.yaml"];

#[tokio::test]
async fn functions_and_schemas_are_fetched_once_and_pinned() {
    let (server, place) = (Server::start().await, Place::start().await);
    let definition = shop(&place);
    let dry = server.app().create(read::<Workflow>(workflow(&definition)), DRY).await.unwrap();
    assert_eq!(place.asked(), ALL);
    let stored: Workflow = server.create(workflow(&definition)).await.unwrap();
    let authorized: Vec<bool> = {
        let files = place.files.lock().unwrap();
        let of = |path: &str| files.asked.iter().find(|(asked, _)| asked == path).unwrap().1.is_some();
        ALL.map(of).to_vec()
    };
    assert_eq!(authorized, [true, false, false], "the catalog's policy is for its functions");
    assert_eq!(place.asked(), ALL);
    let spec = stored.spec.clone().unwrap();
    assert_eq!(uris(&spec.resources), ALL.map(|path| place.url(path)));
    assert_eq!(spec, dry.object.spec.unwrap(), "a dry run says what would be stored");

    // Whatever becomes of the files, what was pinned runs; also after a restart, with nothing kept in memory.
    place.files.lock().unwrap().by_path.clear();
    let server = server.restart().await;
    let mut object = run("r", "w");
    object["spec"]["input"] = json!({"who": "world"});
    server.create::<WorkflowExecution>(object).await.unwrap();
    let ended: WorkflowExecution = server.ended("r").await;
    let status = ended.status.unwrap();
    assert_eq!(status.output.unwrap().to_value().unwrap(), json!({"said": "WORLD"}));
    assert_eq!(status.template.unwrap().digest, stored.status.clone().unwrap().digest);

    // What was given is not fetched: neither when the object is put as it was read, nor by a patch.
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = server.app().patch::<Workflow>("", "w", labels, REAL).await.unwrap().object;
    assert_eq!((patched.spec, patched.status), (stored.spec.clone(), stored.status.clone()));
    let changed = json!({"spec": {"definition": {"do": [{"x": {"set": {"y": 1}}}]}}});
    let patched = server.app().patch::<Workflow>("", "w", changed, REAL).await.unwrap().object;
    assert!(patched.spec.unwrap().resources.is_empty(), "what is not used is dropped");
    assert_eq!(place.asked(), [""; 0]);
    server.stop().await;
}

#[tokio::test]
async fn an_inline_definition_pins_what_it_refers_to() {
    let (server, place) = (Server::start().await, Place::start().await);
    let definition = shop(&place);
    let object = json!({"metadata": {"name": "r"}, "spec": {"definition": definition, "requestId": "1", "input": {"who": "you"}}});
    let created: WorkflowExecution = server.create(object.clone()).await.unwrap();
    assert_eq!(uris(&created.spec.clone().unwrap().resources), ALL.map(|path| place.url(path)));
    let ended: WorkflowExecution = server.ended("r").await;
    assert_eq!(ended.status.unwrap().output.unwrap().to_value().unwrap(), json!({"said": "YOU"}));

    // The repeat of a create is one, whatever has become of the files.
    place.put("/greet.yaml", "set: {other: true}");
    let again = server.app().create(read::<WorkflowExecution>(object.clone()), REAL).await.unwrap();
    assert!(!again.created);
    place.files.lock().unwrap().by_path.clear();
    let again = server.app().create(read::<WorkflowExecution>(object.clone()), REAL).await.unwrap();
    assert_eq!((again.created, again.object.spec.unwrap().resources), (false, created.spec.unwrap().resources));
    place.asked();

    // An update that leaves them out keeps them.
    let labels = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"resources": null}});
    let patched = server.app().patch::<WorkflowExecution>("", "r", labels, REAL).await.unwrap().object;
    assert_eq!(patched.spec.unwrap().resources.len(), 3);
    assert_eq!(place.asked(), [""; 0]);

    let misplaced =
        json!({"metadata": {"name": "m"}, "spec": {"workflow": "w", "resources": {"https://example.com": 1}}});
    let refused = server.create::<WorkflowExecution>(misplaced).await.unwrap_err();
    assert!(fields(&refused).contains(&"spec.resources".to_owned()), "{}", refused.message);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_said_at_its_place() {
    let (server, place) = (Server::start().await, Place::start().await);
    let mut definition = shop(&place);
    let (missing, page, large, other) =
        (place.url("/missing.yaml"), place.url("/page"), place.url("/large"), place.url("/other.yaml"));
    place.put("/page", "{unbalanced: [");
    place.put("/large", format!("x: {}", "y".repeat(1 << 20)));
    place.put("/other.yaml", "{nothing: 1}");
    definition["do"] = json!([
        {"a": {"call": missing}},
        {"b": {"call": page}},
        {"c": {"call": large}},
        {"d": {"call": "http://169.254.169.254/latest"}},
        {"e": {"call": "f:1.0.0@default"}},
        {"f": {"set": {"x": 1}, "input": {"schema": {"resource": {"endpoint": missing}}}}},
    ]);
    let refused = server.create::<Workflow>(workflow(&definition)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    for (field, says) in [
        ("do[0].a.call", "answered 404 Not Found"),
        ("do[1].b.call", "the file is not YAML"),
        ("do[2].c.call", "allowed are up to 1048576"),
        ("do[3].d.call", "metadata addresses are never allowed"),
        ("do[4].e.call", "this server has no default catalog"),
    ] {
        let field = format!("spec.definition.{field}");
        let found = refused.violations.iter().find(|it| it.field == field && it.message.contains(says));
        assert!(found.is_some(), "{field} should say '{says}': {}", refused.message);
    }
    assert_eq!(refused.violations.len(), 5, "each once: {}", refused.message);

    // It can be given instead; what is wrong with it is said where it was given.
    let mut object = workflow(&document("w", &json!([{"a": {"call": missing}}, {"b": {"call": other}}])));
    object["spec"]["resources"] = json!({missing.as_str(): {"set": {"x": "${ | }"}}, "https://example.com/unused": 7});
    let refused = server.create::<Workflow>(object.clone()).await.unwrap_err();
    let at = |uri: &str, rest: &str| format!("spec.resources.{uri}{rest}");
    assert_eq!(fields(&refused), [at(&missing, ".set.x"), at(&other, "")], "{}", refused.message);
    object["spec"]["resources"] = json!({missing.as_str(): {"set": {"x": 1}}, other.as_str(): {"set": {"x": 2}}, "https://example.com/unused": 7});
    place.asked();
    let stored: Workflow = server.create(object.clone()).await.unwrap();
    assert_eq!(uris(&stored.spec.unwrap().resources), [missing.as_str(), other.as_str()]);
    assert_eq!(place.asked(), [""; 0]);
    object["spec"]["definition"]["baton.dev/resources"] = json!({});
    let refused = server.create::<Workflow>(object).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.baton.dev/resources"]);
    server.stop().await;
}

#[tokio::test]
async fn the_default_catalog_is_the_servers() {
    let place = Place::start().await;
    place.put("/functions/one/1.0.0/function.yaml", "set: {one: 1}");
    let catalog = place.url("/");
    let server = Server::start_with(|options| options.default_catalog = Some(catalog)).await;
    let definition = document(
        "w",
        &json!([{"a": {"call": "one:1.0.0@default"}}, {"b": {"set": {"x": 1}, "then": "end"}}, {"c": {"set": {"x": 1}}}]),
    );
    let written = server.app().create(read::<Workflow>(workflow(&definition)), REAL).await.unwrap();
    assert_eq!(uris(&written.object.spec.unwrap().resources), ["catalog:default/functions/one/1.0.0/function.yaml"]);
    assert_eq!(written.warnings, ["spec.definition.do[2].c: is never reached: no task before it leads to it"]);
    server.stop().await;
}

#[tokio::test]
async fn files_are_given_along_and_never_read_by_the_server() {
    let server = Server::start().await;
    let with = json!({"proto": {"endpoint": "file://etc/hostname"}, "service": {"name": "a.B", "host": "localhost", "port": 1}, "method": "C"});
    let mut workflow = json!({"metadata": {"name": "calls"}, "spec": {"definition": document("calls", &json!([{"call": {"call": "grpc", "with": with}}]))}});
    let refused = server.create::<Workflow>(workflow.clone()).await.unwrap_err();
    assert_eq!(fields(&refused), ["spec.definition.do[0].call.with.proto.endpoint"]);
    assert!(refused.to_string().contains("no file of the server is read"), "{refused}");
    workflow["spec"]["resources"] = json!({"file://etc/hostname": 7});
    let refused = server.create::<Workflow>(workflow.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("must be the text of a file, found a number"), "{refused}");
    workflow["spec"]["resources"] = json!({"file://etc/hostname": "syntax = \"proto3\";"});
    server.create::<Workflow>(workflow).await.unwrap();
    server.create::<WorkflowExecution>(run("run", "calls")).await.unwrap();
    let error = server.ended::<WorkflowExecution>("run").await.status.unwrap().error.unwrap();
    assert!(error.detail.contains("the proto file has no service 'a.B'"), "{error:?}");
    server.stop().await;
}
