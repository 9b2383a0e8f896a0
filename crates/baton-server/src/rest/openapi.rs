//! OpenAPI v3 of the resources, made from the descriptors of `proto/`, comments included.
//!
//! kubectl reads it before it writes: only if the patch operation of a kind lists `fieldValidation` does it leave
//! validation to the server. `kubectl explain` shows the rest.
//!
//! # Invariants
//! - A field is here under the name and the type that the JSON mapping has, because both are made from one descriptor.
//! - The document is made once; its text is the same in every server of one build.
//!
//! # Deliberately absent
//! Subresources and callbacks: clients of Kubernetes do not look for them here.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::{MethodRouter, get},
};
use baton_proto::{DESCRIPTORS, Resource, v1};
use baton_types::ApiError;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{ROOT, Rest, json as answer, refusal::GROUP};

/// Path of the document.
const DOCUMENT: &str = "/openapi/v3/apis/baton.dev/v1";

/// Query parameters of every operation.
const COMMON: [&str; 1] = ["pretty"];
/// And of those that write.
const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
/// And of those that read collections.
const COLLECTION: [&str; 8] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "timeoutSeconds",
    "watch",
];

/// The document, or why it cannot be made.
static TEXT: LazyLock<Result<Arc<str>, String>> = LazyLock::new(|| {
    let pool =
        DescriptorPool::decode(DESCRIPTORS).map_err(|error| format!("the descriptors cannot be read: {error}"))?;
    let mut document = Document::default();
    document.add::<v1::Workflow>(&pool)?;
    document.add::<v1::Agent>(&pool)?;
    document.add::<v1::Secret>(&pool)?;
    document.add::<v1::McpServer>(&pool)?;
    document.add::<v1::Skill>(&pool)?;
    document.add::<v1::Artifact>(&pool)?;
    document.add::<v1::WorkflowExecution>(&pool)?;
    document.add::<v1::AgentExecution>(&pool)?;
    document.add_readable::<v1::Approval>(&pool)?;
    document.add::<v1::Session>(&pool)?;
    Ok(document.finish().to_string().into())
});

/// Routes, each served with and without a slash at its end.
pub(super) fn routes() -> Vec<(&'static str, MethodRouter<Rest>)> {
    let index =
        async || answer(StatusCode::OK, &json!({"paths": {"apis/baton.dev/v1": {"serverRelativeURL": DOCUMENT}}}));
    let document = async || -> Result<Response, super::refusal::Refusal> {
        let text = TEXT.as_ref().map_err(|error| ApiError::internal(error.as_str()))?;
        let mut response = Response::new(text.to_string().into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    };
    vec![("/openapi/v3", get(index)), (DOCUMENT, get(document))]
}

#[derive(Default)]
struct Document {
    paths: Map<String, Value>,
    schemas: BTreeMap<String, Value>,
}

impl Document {
    /// A kind whose objects nobody writes through the API.
    fn add_readable<R: Resource>(&mut self, pool: &DescriptorPool) -> Result<(), String> {
        self.add::<R>(pool)?;
        for (_, item) in self.paths.iter_mut().filter(|(path, _)| path.contains(&format!("/{}", R::PLURAL))) {
            if let Some(operations) = item.as_object_mut() {
                operations.retain(|name, _| matches!(name.as_str(), "get" | "parameters"));
            }
        }
        Ok(())
    }

    fn add<R: Resource>(&mut self, pool: &DescriptorPool) -> Result<(), String> {
        let names = [format!("baton.v1.{}", R::KIND), format!("baton.v1.{}List", R::KIND)];
        for (name, kind) in names.iter().zip([R::KIND.to_owned(), format!("{}List", R::KIND)]) {
            let message = pool.get_message_by_name(name).ok_or_else(|| format!("no message '{name}'"))?;
            self.schema(&message);
            if let Some(schema) = self.schemas.get_mut(name) {
                schema["x-kubernetes-group-version-kind"] = json!([{"group": GROUP, "version": "v1", "kind": kind}]);
            }
        }
        let [one, list] = names;
        let operation = |action: &str, parameters: &[&str], body: Option<&str>, answer: &str| {
            operation::<R>(action, parameters, body, &one, answer)
        };
        let path = |rest: &str| format!("{ROOT}/namespaces/{{namespace}}/{}{rest}", R::PLURAL);
        let namespace = path_parameter("namespace");
        self.paths.insert(format!("{ROOT}/{}", R::PLURAL), json!({"get": operation("list", &COLLECTION, None, &list)}));
        let collection = json!({
            "parameters": [namespace],
            "get": operation("list", &COLLECTION, None, &list),
            "post": operation("post", &WRITE, Some("application/json"), &one),
        });
        self.paths.insert(path(""), collection);
        let single = json!({
            "parameters": [namespace, path_parameter("name")],
            "get": operation("get", &[], None, &one),
            "put": operation("put", &WRITE, Some("application/json"), &one),
            "patch": operation("patch", &[WRITE.as_slice(), &["force"]].concat(), Some(super::body::MERGE_PATCH), &one),
            "delete": operation("delete", &["dryRun", "propagationPolicy"], None, &one),
        });
        self.paths.insert(path("/{name}"), single);
        Ok(())
    }

    /// The schema of a message and of all that it holds.
    fn schema(&mut self, message: &MessageDescriptor) {
        if self.schemas.contains_key(message.full_name()) {
            return;
        }
        // Its place is taken first, so that messages that hold themselves come to an end.
        self.schemas.insert(message.full_name().to_owned(), Value::Null);
        let properties: Map<String, Value> =
            message.fields().map(|field| (field.json_name().to_owned(), self.property(&field))).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        describe(&mut schema, comment(message.parent_file().file_descriptor_proto(), message.path()));
        self.schemas.insert(message.full_name().to_owned(), schema);
    }

    fn property(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                json!({"type": "object", "additionalProperties": self.single(&entry.map_entry_value_field())})
            }
            _ if field.is_list() => json!({"type": "array", "items": self.single(field)}),
            _ => self.single(field),
        };
        describe(&mut schema, comment(field.parent_message().parent_file().file_descriptor_proto(), field.path()));
        schema
    }

    fn single(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(message) => match message.full_name() {
                "baton.v1.Json" => json!({"x-kubernetes-preserve-unknown-fields": true}),
                "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
                name => {
                    let reference = json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]});
                    self.schema(&message);
                    reference
                }
            },
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
                json!({"type": "integer", "format": "int32"})
            }
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            // The JSON of protobuf writes 64-bit integers as text.
            Kind::String
            | Kind::Enum(_)
            | Kind::Int64
            | Kind::Sint64
            | Kind::Sfixed64
            | Kind::Uint64
            | Kind::Fixed64 => json!({"type": "string"}),
        }
    }

    fn finish(self) -> Value {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Baton", "version": env!("CARGO_PKG_VERSION")},
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        })
    }
}

fn operation<R: Resource>(action: &str, parameters: &[&str], body: Option<&str>, object: &str, answer: &str) -> Value {
    let content = |media_type: &str, schema: &str| json!({media_type: {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    let query = |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": "v1", "kind": R::KIND},
        "parameters": COMMON.iter().chain(parameters).map(query).collect::<Vec<_>>(),
        "responses": {"200": {"description": "OK", "content": content("application/json", answer)}},
    });
    if let Some(media_type) = body {
        operation["requestBody"] = json!({"required": true, "content": content(media_type, object)});
    }
    operation
}

fn path_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn describe(schema: &mut Value, comment: Option<String>) {
    if let Some(comment) = comment {
        schema["description"] = comment.into();
    }
}

/// The comment before a declaration, in one line.
fn comment(file: &prost_reflect::prost_types::FileDescriptorProto, path: &[i32]) -> Option<String> {
    let locations = &file.source_code_info.as_ref()?.location;
    let text = locations.iter().find(|it| it.path == path)?.leading_comments();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_every_kind_whole() {
        let document: Value = serde_json::from_str(TEXT.as_ref().unwrap()).unwrap();
        let schemas = &document["components"]["schemas"];
        let spec = &schemas["baton.v1.WorkflowExecutionSpec"]["properties"];
        assert_eq!(spec["callbackToken"]["format"], "byte");
        assert_eq!(spec["input"]["x-kubernetes-preserve-unknown-fields"], true);
        assert!(spec["callbackToken"]["description"].as_str().unwrap().contains("return address"), "{spec}");
        assert_eq!(spec["env"]["additionalProperties"]["type"], "string");
        assert_eq!(schemas["baton.v1.AgentSpec"]["properties"]["tools"]["type"], "array");
        for reference in document.to_string().split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas[name].is_object(), "no schema '{name}'");
        }
    }

    #[test]
    fn leaves_validation_to_the_server() {
        let document: Value = serde_json::from_str(TEXT.as_ref().unwrap()).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        for (path, item) in paths.filter(|(path, item)| path.ends_with("{name}") && item.get("patch").is_some()) {
            let parameters = item["patch"]["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|it| it["name"] == "fieldValidation"), "{path}");
        }
    }
}
