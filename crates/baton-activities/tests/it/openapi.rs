//! The activity `openapi`, with documents of all versions.

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use baton_activities::{ActivitiesOptions, WorldActivities};
use baton_execution::{Activities as _, Fault, fault_type};
use serde_json::{Value, json};

use crate::support::{Seen, Server, TestHome, task, told};

const PETSTORE: &str = include_str!("../data/petstore-2.0.json");

/// A server that has a document at `/api` and answers all else with what it was asked.
async fn serving(document: impl Into<String>) -> Server {
    let document = document.into();
    Server::answering(move |_, seen| match seen.uri.path() {
        "/docs/api" => document.clone().into_response(),
        _ => echo(seen),
    })
    .await
}

fn echo(seen: &Seen) -> Response {
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    let asked = json!({
        "asked": format!("{} {}", seen.method, seen.uri), "type": seen.header("content-type"), "body": body,
        "key": seen.header("x-key"), "cookie": seen.header("cookie"), "authorization": seen.header("authorization"),
    });
    ([("content-type", "application/json")], asked.to_string()).into_response()
}

fn world() -> WorldActivities {
    let secrets = [("mine", [("token", "token-of-the-secret")].as_slice())];
    WorldActivities::new(ActivitiesOptions::default(), TestHome::with(&secrets)).unwrap()
}

async fn call(server: &Server, operation: &str, parameters: Value) -> Result<Value, Fault> {
    let input =
        json!({"document": {"uri": server.url("/docs/api")}, "operationId": operation, "parameters": parameters});
    world().run(task("openapi", input, 30_000)).await
}

async fn asked(server: &Server, operation: &str, parameters: Value) -> String {
    let output = call(server, operation, parameters.clone()).await;
    let output = output.unwrap_or_else(|fault| panic!("{operation} {parameters}: {fault}"));
    output["asked"].as_str().unwrap().to_owned()
}

/// A document of 3.x with one operation `op` at `/p` (or at the path that is given) with these parameters.
fn three(path: &str, parameters: Value) -> String {
    json!({"openapi": "3.1.0", "paths": {path: {"get": {"operationId": "op", "parameters": parameters}}}}).to_string()
}

#[tokio::test]
async fn the_petstore_of_2_0_is_called() {
    let server = Server::answering(|_, seen| match (seen.method.as_str(), seen.uri.path()) {
        ("GET", "/v2/swagger.json") => PETSTORE.replace("petstore.swagger.io", seen.header("host")).into_response(),
        ("GET", "/v2/pet/findByStatus") => axum::Json(json!([{"id": 1}, {"id": 2}])).into_response(),
        ("GET", "/v2/pet/1") => axum::Json(json!({"id": 1, "name": "Milou", "status": "available"})).into_response(),
        _ => echo(seen),
    })
    .await;
    let world = world();
    let call = async |operation: &str, parameters: Value, output: &str| {
        let input = json!({"document": {"uri": server.url("/v2/swagger.json")}, "operationId": operation, "parameters": parameters, "output": output});
        world.run(task("openapi", input, 30_000)).await.unwrap()
    };
    let pets = call("findPetsByStatus", json!({"status": ["available", "sold"]}), "content").await;
    assert_eq!(pets.as_array().unwrap().len(), 2);
    let pet = call("getPetById", json!({"petId": 1, "api_key": "k"}), "response").await;
    assert_eq!(
        (&pet["statusCode"], &pet["content"]["name"], &pet["request"]["method"]),
        (&json!(200), &json!("Milou"), &json!("GET"))
    );
    assert_eq!(pet["request"]["uri"], server.url("/v2/pet/1"));
    let added = call("addPet", json!({"body": {"name": "Rex"}}), "content").await;
    assert_eq!(
        (&added["asked"], &added["body"], &added["type"]),
        (&json!("POST /v2/pet"), &json!("{\"name\":\"Rex\"}"), &json!("application/json"))
    );
    let updated = call(
        "updatePetWithForm",
        json!({"petId": 7, "name": "a b", "status": null, "tags": ["x", "y"], "nicknames": ["m", "n"]}),
        "content",
    )
    .await;
    assert_eq!(
        (&updated["asked"], &updated["body"]),
        (&json!("POST /v2/pet/7"), &json!("name=a%20b&tags=x%2Cy&nicknames=m&nicknames=n"))
    );
    let sent = call("uploadFile", json!({"petId": 7, "additionalMetadata": "m", "file": "content"}), "content").await;
    let (kind, body) = (sent["type"].as_str().unwrap(), sent["body"].as_str().unwrap());
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
    assert!(
        body.contains("name=\"file\"\r\n\r\ncontent\r\n") && body.ends_with(&format!("--{boundary}--\r\n")),
        "{body}"
    );

    let seen = server.seen();
    assert_eq!(seen.iter().filter(|seen| seen.uri.path() == "/v2/swagger.json").count(), 1, "the document is kept");
    assert_eq!(seen[1].uri.to_string(), "/v2/pet/findByStatus?status=available&status=sold");
    assert_eq!((seen[2].header("api_key"), seen[2].header("idempotency-key")), ("k", "uid/do/0/pr%C3%BCfen/1"));
}

#[tokio::test]
async fn parameters_are_written_in_every_style() {
    let (list, map) = (json!(["a", "b c"]), json!({"r": 1, "g": "x"}));
    // The table of OpenAPI 3.1, "Style Examples".
    for (style, explode, value, expected) in [
        ("simple", false, json!("a/b"), "/p/a%2Fb"),
        ("simple", false, list.clone(), "/p/a,b%20c"),
        ("simple", false, map.clone(), "/p/r,1,g,x"),
        ("simple", true, map.clone(), "/p/r=1,g=x"),
        ("label", false, json!(7), "/p/.7"),
        ("label", false, list.clone(), "/p/.a,b%20c"),
        ("label", true, list.clone(), "/p/.a.b%20c"),
        ("label", true, map.clone(), "/p/.r=1.g=x"),
        ("matrix", false, json!("v"), "/p/;id=v"),
        ("matrix", false, list.clone(), "/p/;id=a,b%20c"),
        ("matrix", true, list.clone(), "/p/;id=a;id=b%20c"),
        ("matrix", true, map.clone(), "/p/;r=1;g=x"),
    ] {
        let parameter = json!([{"name": "id", "in": "path", "required": true, "style": style, "explode": explode}]);
        let server = serving(three("/p/{id}", parameter)).await;
        assert_eq!(asked(&server, "op", json!({"id": value})).await, format!("GET {expected}"), "{style} {explode}");
    }
    for (declared, value, expected) in [
        (json!({}), json!("a&b=ü"), "/p?id=a%26b%3D%C3%BC"),
        (json!({}), list.clone(), "/p?id=a&id=b%20c"),
        (json!({"explode": false}), list.clone(), "/p?id=a,b%20c"),
        (json!({}), map.clone(), "/p?r=1&g=x"),
        (json!({"explode": false}), map.clone(), "/p?id=r,1,g,x"),
        (json!({"style": "spaceDelimited", "explode": false}), list.clone(), "/p?id=a%20b%20c"),
        (json!({"style": "pipeDelimited", "explode": false}), list.clone(), "/p?id=a%7Cb%20c"),
        (json!({"style": "deepObject", "explode": true}), map.clone(), "/p?id%5Br%5D=1&id%5Bg%5D=x"),
        (json!({"content": {"application/json": {}}}), map.clone(), "/p?id=%7B%22r%22%3A1%2C%22g%22%3A%22x%22%7D"),
        (json!({"allowReserved": true}), json!("a/b?c&d"), "/p?id=a/b?c%26d"),
        (json!({}), Value::Null, "/p"),
        // Those of 2.0.
        (json!({"type": "array"}), list.clone(), "/p?id=a,b%20c"),
        (json!({"type": "array", "collectionFormat": "multi"}), list.clone(), "/p?id=a&id=b%20c"),
        (json!({"type": "array", "collectionFormat": "pipes"}), list.clone(), "/p?id=a%7Cb%20c"),
        (json!({"type": "array", "collectionFormat": "ssv"}), list.clone(), "/p?id=a%20b%20c"),
        (json!({"type": "array", "collectionFormat": "tsv"}), list.clone(), "/p?id=a%09b%20c"),
    ] {
        let mut parameter = json!({"name": "id", "in": "query"});
        for (name, value) in declared.as_object().unwrap() {
            parameter[name] = value.clone();
        }
        let server = serving(three("/p", json!([parameter]))).await;
        assert_eq!(asked(&server, "op", json!({"id": value})).await, format!("GET {expected}"), "{declared}");
    }
    let parameters =
        json!([{"name": "X-Key", "in": "header"}, {"name": "sid", "in": "cookie"}, {"name": "lang", "in": "cookie"}]);
    let server = serving(three("/p", parameters)).await;
    let output = call(&server, "op", json!({"X-Key": ["a", "b c"], "sid": "x;y", "lang": "de"})).await.unwrap();
    assert_eq!((&output["key"], &output["cookie"]), (&json!("a,b c"), &json!("sid=x%3By; lang=de")));
}

#[tokio::test]
async fn references_servers_and_bodies_of_3_x_in_yaml() {
    let document = r##"
openapi: 3.0.3
servers: [{url: "http://{host}/{base}", variables: {host: {default: "@"}, base: {default: root, enum: [root]}}}]
paths:
  /a/{id}:
    $ref: "#/components/pathItems/a~1b"
  /form:
    servers: [{url: ../other?x=1#y}]
    post:
      operationId: form
      requestBody: {content: {application/xml: {}, application/x-www-form-urlencoded: {}}}
  /text:
    post:
      operationId: text
      requestBody: {content: {text/csv: {}}}
components:
  pathItems:
    a/b:
      parameters:
        - {$ref: "#/components/parameters/id"}
        - {name: q, in: query, required: true}
      put:
        operationId: put
        parameters: [{name: q, in: query}]
        requestBody: {$ref: "#/components/requestBodies/r"}
  parameters:
    id: {$ref: "#/components/parameters/id%32"}
    id2: {name: id, in: path, required: true, schema: {type: string}}
  requestBodies:
    r: {required: true, content: {"application/vnd.pet+json": {}}}
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
"##;
    let server = Server::answering(move |_, seen| match seen.uri.path() {
        "/docs/api" => document.replace('@', seen.header("host")).into_response(),
        _ => echo(seen),
    })
    .await;
    let output = call(&server, "put", json!({"id": 1, "body": {"a": [1]}, "X-Key": "k"})).await.unwrap();
    assert_eq!(
        (&output["asked"], &output["type"], &output["body"], &output["key"]),
        (&json!("PUT /root/a/1"), &json!("application/vnd.pet+json"), &json!("{\"a\":[1]}"), &json!("k"))
    );
    let output = call(&server, "form", json!({"body": {"a": ["x y", 2], "b": null}})).await.unwrap();
    assert_eq!((&output["asked"], &output["body"]), (&json!("POST /other/form"), &json!("a=x%20y&a=2")));
    let output = call(&server, "text", json!({"body": "a;b"})).await.unwrap();
    assert_eq!(
        (&output["asked"], &output["type"], &output["body"]),
        (&json!("POST /root/text"), &json!("text/csv"), &json!("a;b"))
    );
    let output = call(&server, "text", json!({})).await.unwrap();
    let alias = json!({"openapi": "3.0.0", "paths": {"/b": {"get": {"operationId": "op"}}, "/a": {"get": {"operationId": "op"}}}});
    assert_eq!(asked(&serving(alias.to_string()).await, "op", json!({})).await, "GET /b", "the first");
    assert_eq!((&output["type"], &output["body"]), (&json!(""), &json!("")));
}

#[tokio::test]
async fn calls_that_do_not_fit_are_refused_before_anything_is_sent() {
    let server = serving(PETSTORE).await;
    for (operation, parameters, kind, says) in [
        ("getPetByld", json!({}), fault_type::CONFIGURATION, "the nearest are 'getPetById'"),
        (
            "getPetById",
            json!({}),
            fault_type::VALIDATION,
            "the operation 'getPetById' needs 'petId', which 'parameters' does not have",
        ),
        ("getPetById", json!({"petId": null}), fault_type::VALIDATION, "needs 'petId'"),
        ("getPetById", json!({"petId": ".."}), fault_type::VALIDATION, "'petId' must not be '..' in it"),
        ("getPetById", json!({"petId": ""}), fault_type::VALIDATION, "'petId' must not be '' in it"),
        (
            "findPetsByStatus",
            json!({"state": "x"}),
            fault_type::VALIDATION,
            "has no parameter 'state'; its parameters are 'status', 'api_key'",
        ),
        ("addPet", json!({}), fault_type::VALIDATION, "needs 'body'"),
        ("getPetById", json!({"petId": 1, "body": 1}), fault_type::VALIDATION, "has no parameter 'body'"),
    ] {
        let fault = call(&server, operation, parameters).await.unwrap_err();
        assert!(fault.kind == kind && fault.non_retryable && told(&fault).contains(says), "{fault}");
    }
    assert!(server.seen().iter().all(|seen| seen.uri.path() == "/docs/api"));
}

#[tokio::test]
async fn documents_that_cannot_be_used_say_why() {
    let looped = json!({"openapi": "3.0.0", "paths": {"/": {"$ref": "#/x"}}, "x": {"$ref": "#/x"}});
    let variable = json!({"openapi": "3.0.0", "servers": [{"url": "https://{x}"}], "paths": {"/": {"get": {"operationId": "op"}}}});
    for (document, says) in [
        ("{".to_owned(), "it is neither JSON nor YAML"),
        ("a: [".to_owned(), "it is neither JSON nor YAML"),
        (format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(1000)), "once its aliases are filled in"),
        ("[".repeat(1_000_000), "nested deeper than 128 levels"),
        ("[\"]\",".repeat(60_000), "60000 opening brackets; allowed are up to 50000; JSON has no such limit"),
        (json!({"openapi": "4.0"}).to_string(), "its version is '4.0'"),
        (json!({"swagger": 2.0}).to_string(), "its version is ''"),
        (json!({"openapi": "3.0.0"}).to_string(), "has no operation with the id 'op' among its 0"),
        (
            json!({"openapi": "3.0.0", "paths": {"/": {"$ref": "other.yaml#/x"}}}).to_string(),
            "refers to 'other.yaml#/x'",
        ),
        (looped.to_string(), "more than 16 references to references"),
        (variable.to_string(), "has a variable without a default"),
        (three("/p", json!([{"name": "a", "in": "heder"}])), "'a' is in 'heder'"),
        (three("/p", json!([{"name": "a", "in": "query", "style": "wild"}])), "the style 'wild'"),
        (three("/p", json!([{"in": "query"}])), "has no 'name'"),
        (three("/p/{b}", json!([])), "in which a name is no declared parameter"),
    ] {
        let server = serving(document.clone()).await;
        let fault = call(&server, "op", json!({})).await.unwrap_err();
        assert!(fault.non_retryable && told(&fault).contains(says), "{document}: {fault}");
    }
    let gone = Server::answering(|_, _| StatusCode::NOT_FOUND.into_response()).await;
    let fault = call(&gone, "op", json!({})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status), (fault_type::COMMUNICATION, 404));
    let large = serving(" ".repeat(8 * 1024 * 1024 + 1)).await;
    let fault = call(&large, "op", json!({})).await.unwrap_err();
    assert_eq!((fault.kind.as_str(), fault.status), (fault_type::TOO_LARGE, 413));
}

#[tokio::test]
async fn the_document_and_the_operation_have_their_own_credentials() {
    let document = three("/p", json!([]));
    let server = Server::answering(move |_, seen| match (seen.uri.path(), seen.header("authorization")) {
        ("/docs/api", "Bearer for-the-document") => document.clone().into_response(),
        ("/p", "Bearer token-of-the-secret") => echo(seen),
        _ => StatusCode::FORBIDDEN.into_response(),
    })
    .await;
    let world = world();
    for _ in 0..2 {
        let input = json!({
            "document": {"uri": server.url("/docs/api"), "authentication": {"bearer": {"token": "for-the-document"}}},
            "operationId": "op", "authentication": {"bearer": {"use": "mine"}},
        });
        let output = world.run(task("openapi", input, 30_000)).await.unwrap();
        assert_eq!(output["authorization"], "Bearer ***");
    }
    assert_eq!(server.seen().len(), 4, "what was got with credentials is not kept for others");
}

#[tokio::test]
async fn redirects_and_outputs_are_those_of_http() {
    let document = three("/p", json!([]));
    let server = Server::answering(move |_, seen| match seen.uri.path() {
        "/docs/api" => (StatusCode::FOUND, [("location", "/moved/api")]).into_response(),
        "/moved/api" => document.clone().into_response(),
        "/p" => (StatusCode::FOUND, [("location", "/q")]).into_response(),
        _ => "raw".into_response(),
    })
    .await;
    let world = world();
    for (redirect, expected) in [(true, Ok(json!("cmF3"))), (false, Err(302))] {
        let input = json!({"document": {"uri": server.url("/docs/api")}, "operationId": "op", "redirect": redirect, "output": "raw"});
        let output = world.run(task("openapi", input, 30_000)).await;
        assert_eq!(output.map_err(|fault| fault.status), expected);
    }
}

#[tokio::test]
async fn a_document_that_is_not_the_one_that_is_meant_is_not_used() {
    let text = three("/p", json!([]));
    let server = serving(text.clone()).await;
    let call = async |digest: String| {
        let document = json!({"uri": server.url("/docs/api"), "digest": digest});
        world().run(task("openapi", json!({"document": document, "operationId": "op"}), 30_000)).await
    };
    call(baton_types::Digest::of(text.as_bytes()).to_string()).await.unwrap();
    let fault = call(format!("sha256:{}", "0".repeat(64))).await.unwrap_err();
    assert!(fault.detail.unwrap().contains("the OpenAPI document has changed: its digest is sha256:"));
    assert_eq!(server.seen().iter().filter(|seen| seen.uri.path() == "/p").count(), 1);
}
