//! Authentication policies: how a call says who it is from.
//!
//! A policy becomes what activities take as `authentication`: `{"<scheme>": {…}}` with everything evaluated, in the
//! language's own field names, or `{"<scheme>": {"use": "<secret>"}}`, which the activity resolves. The schemes are
//! data ([`SCHEMES`]): the fields of each, what they hold, and which must be there.
//!
//! # Invariants
//! - No secret passes through here: a policy with `use` holds the name of a secret and nothing else.
//!
//! # Deliberately absent
//! The grant `authorization_code`: it needs a person at a browser.

use std::sync::Arc;

use baton_execution::{AUTHORIZATION_PLACEHOLDER, Fault};
use serde_json::{Map, Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, quoted, shown},
    interpreter::{FrameId, Run},
    task::{
        endpoint::Uri,
        values::{text, texts},
    },
    template::Template,
};

/// How a call says who it is from.
#[derive(Debug)]
pub(crate) struct Authentication {
    scheme: &'static str,
    properties: Part,
}

/// What a property of a policy is in one document.
#[derive(Debug)]
enum Part {
    Text(Template),
    Texts(Template),
    Uri(Uri),
    Object(Vec<(&'static Property, Part)>),
}

/// A property that a scheme has.
#[derive(Debug)]
struct Property {
    name: &'static str,
    shape: Shape,
    needed: bool,
}

#[derive(Debug)]
enum Shape {
    Text,
    Texts,
    Uri,
    Word(&'static [&'static str]),
    Object(&'static [Property]),
}

const fn needed(name: &'static str, shape: Shape) -> Property {
    Property { name, shape, needed: true }
}

const fn optional(name: &'static str, shape: Shape) -> Property {
    Property { name, shape, needed: false }
}

const PASSWORD: &[Property] = &[needed("username", Shape::Text), needed("password", Shape::Text)];
const TOKEN: &[Property] = &[needed("token", Shape::Text)];
const OAUTH2: &[Property] = &[
    needed("authority", Shape::Uri),
    needed("grant", Shape::Word(GRANTS)),
    optional("endpoints", Shape::Object(ENDPOINTS)),
    optional("client", Shape::Object(CLIENT)),
    optional("request", Shape::Object(REQUEST)),
    optional("issuers", Shape::Texts),
    optional("scopes", Shape::Texts),
    optional("audiences", Shape::Texts),
    optional("username", Shape::Text),
    optional("password", Shape::Text),
    optional("subject", Shape::Object(SECURITY_TOKEN)),
    optional("actor", Shape::Object(SECURITY_TOKEN)),
];
/// Everything of `OAUTH2` but `endpoints`, which are discovered.
const OIDC: &[Property] = &[
    needed("authority", Shape::Uri),
    needed("grant", Shape::Word(GRANTS)),
    optional("client", Shape::Object(CLIENT)),
    optional("request", Shape::Object(REQUEST)),
    optional("issuers", Shape::Texts),
    optional("scopes", Shape::Texts),
    optional("audiences", Shape::Texts),
    optional("username", Shape::Text),
    optional("password", Shape::Text),
    optional("subject", Shape::Object(SECURITY_TOKEN)),
    optional("actor", Shape::Object(SECURITY_TOKEN)),
];
const GRANTS: &[&str] = &["client_credentials", "password", "refresh_token", TOKEN_EXCHANGE, "authorization_code"];
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ENDPOINTS: &[Property] =
    &[optional("token", Shape::Text), optional("revocation", Shape::Text), optional("introspection", Shape::Text)];
const CLIENT: &[Property] = &[
    optional("id", Shape::Text),
    optional("secret", Shape::Text),
    optional("assertion", Shape::Text),
    optional(
        "authentication",
        Shape::Word(&["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "none"]),
    ),
];
const REQUEST: &[Property] =
    &[optional("encoding", Shape::Word(&["application/x-www-form-urlencoded", "application/json"]))];
const SECURITY_TOKEN: &[Property] = &[needed("token", Shape::Text), needed("type", Shape::Text)];

const DIGEST: &str = "Digest";

/// The schemes, with what each is configured by.
const SCHEMES: [(&str, &[Property]); 5] =
    [("basic", PASSWORD), ("bearer", TOKEN), ("digest", PASSWORD), ("oauth2", OAUTH2), ("oidc", OIDC)];

/// Reads `authentication`, if it is there: a policy, or the name of one in `use.authentications`.
pub(crate) fn read_field(builder: &mut Builder, parent: &mut Fields<'_>) -> Option<Arc<Authentication>> {
    let mut fields = parent.object("authentication", builder)?;
    let Some(name) = fields.text("use", builder) else { return read_policy(builder, fields) };
    let found = builder.reusable.authentications.get(name).cloned();
    if found.is_none() {
        let known = quoted(builder.reusable.authentications.keys().map(String::as_str));
        builder.violate(
            &fields.at("use"),
            format!("no authentication named '{}' in use.authentications; those there are {known}", shown(name)),
        );
    }
    fields.close(builder);
    found.flatten()
}

/// Reads a policy of `use.authentications`.
pub(crate) fn read_definition(builder: &mut Builder, value: &Value, path: &str) -> Option<Arc<Authentication>> {
    let fields = Fields::open(value, path, builder)?;
    read_policy(builder, fields)
}

fn read_policy(builder: &mut Builder, mut fields: Fields<'_>) -> Option<Arc<Authentication>> {
    let mut policy = None;
    let mut count = 0;
    for (scheme, properties) in SCHEMES {
        let Some(inner) = fields.object(scheme, builder) else { continue };
        count += 1;
        policy = Some(read_scheme(builder, inner, scheme, properties));
    }
    // A scheme that is no object is a violation already.
    if count > 1 || count == 0 && !SCHEMES.iter().any(|(scheme, _)| fields.has(scheme)) {
        let allowed = quoted(SCHEMES.iter().map(|(scheme, _)| *scheme));
        builder.violate(&fields.path, format!("must have exactly one of {allowed}; found {count}"));
    }
    fields.close(builder);
    policy.map(Arc::new)
}

fn read_scheme(
    builder: &mut Builder,
    mut fields: Fields<'_>,
    scheme: &'static str,
    properties: &'static [Property],
) -> Authentication {
    if let Some(secret) = fields.text("use", builder) {
        builder.need_secret(secret, &fields.at("use"));
        let name = Template::Literal(Value::String(secret.to_owned()));
        fields.close(builder);
        return Authentication { scheme, properties: Part::Object(vec![(&USE, Part::Text(name))]) };
    }
    let parts = read_properties(builder, &mut fields, properties);
    if matches!(scheme, "oauth2" | "oidc") {
        check_oauth2(builder, &mut fields);
    }
    fields.close(builder);
    let properties = Part::Object(parts);
    Authentication { scheme, properties }
}

/// The property that names a secret.
static USE: Property = needed("use", Shape::Text);

fn read_properties(
    builder: &mut Builder,
    fields: &mut Fields<'_>,
    properties: &'static [Property],
) -> Vec<(&'static Property, Part)> {
    let mut parts = Vec::new();
    for property in properties {
        let value = if property.needed { fields.need(property.name, builder) } else { fields.get(property.name) };
        let Some(value) = value else { continue };
        if let Some(part) = read_part(builder, value, &fields.at(property.name), &property.shape) {
            parts.push((property, part));
        }
    }
    parts
}

fn read_part(builder: &mut Builder, value: &Value, path: &str, shape: &'static Shape) -> Option<Part> {
    match shape {
        Shape::Text => {
            builder.text(value, path)?;
            Some(Part::Text(builder.template(value, path)))
        }
        Shape::Uri => {
            let text = builder.text(value, path)?;
            Uri::read(builder, text, path).map(Part::Uri)
        }
        Shape::Word(allowed) => {
            let text = builder.text(value, path)?;
            if !allowed.contains(&text) {
                let allowed = quoted(allowed.iter().copied());
                builder.violate(path, format!("is '{}', allowed are {allowed}", shown(text)));
            }
            Some(Part::Text(Template::Literal(value.clone())))
        }
        Shape::Texts => {
            match value {
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        builder.text(item, &format!("{path}[{index}]"));
                    }
                }
                Value::String(text) if enclosed(text).is_some() => {}
                other => builder.violate(path, format!("must be an array of strings, found {}", kind_of(other))),
            }
            Some(Part::Texts(builder.template(value, path)))
        }
        Shape::Object(properties) => {
            let mut fields = Fields::open(value, path, builder)?;
            let parts = read_properties(builder, &mut fields, properties);
            fields.close(builder);
            Some(Part::Object(parts))
        }
    }
}

/// What a grant and a way of client authentication need beside what every policy needs.
fn check_oauth2(builder: &mut Builder, fields: &mut Fields<'_>) {
    let grant = fields.get("grant").and_then(Value::as_str).unwrap_or_default();
    let needs: &[&'static str] = match grant {
        "authorization_code" => {
            builder.violate(
                &fields.at("grant"),
                "'authorization_code' needs a person at a browser; use 'refresh_token' with a token that was given to one",
            );
            &[]
        }
        "password" => &["username", "password"],
        "refresh_token" | TOKEN_EXCHANGE => &["subject"],
        _ => &[],
    };
    for &name in needs {
        if fields.get(name).is_none() {
            builder.violate(&fields.at(name), format!("is required by the grant '{}'", shown(grant)));
        }
    }
    let Some(client) = fields.get("client").and_then(Value::as_object) else { return };
    let method = client.get("authentication").and_then(Value::as_str).unwrap_or("client_secret_post");
    let needs: &[&'static str] = match method {
        "none" => &[],
        "private_key_jwt" => &["id", "assertion"],
        "client_secret_jwt" if !client.contains_key("assertion") => &["id", "secret"],
        _ => &["id"],
    };
    for &name in needs.iter().filter(|name| !client.contains_key(**name)) {
        builder.violate(
            &format!("{}.{name}", fields.at("client")),
            format!("is required by the client authentication '{}'", shown(method)),
        );
    }
}

impl Authentication {
    /// The scheme as the other side sees it; OAuth 2 and OpenID Connect give bearer tokens.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.scheme {
            "basic" => "Basic",
            "digest" => DIGEST,
            _ => "Bearer",
        }
    }

    /// What `$authorization.parameter` is: a placeholder that the activity replaces when it calls. A digest is made for
    /// each request anew, so there is none.
    pub(crate) fn parameter(&self) -> Option<&'static str> {
        (self.scheme() != DIGEST).then_some(AUTHORIZATION_PLACEHOLDER)
    }
}

/// What activities take as `authentication`: `{"<scheme>": {…}}`, or null.
pub(crate) fn evaluate(
    policy: Option<&Authentication>,
    run: &Run,
    frame: FrameId,
    dot: &Value,
) -> Result<Value, Fault> {
    let Some(policy) = policy else { return Ok(Value::Null) };
    Ok(json!({ policy.scheme: policy.properties.evaluate("authentication", run, frame, dot)? }))
}

impl Part {
    fn evaluate(&self, name: &str, run: &Run, frame: FrameId, dot: &Value) -> Result<Value, Fault> {
        let what = || format!("'{name}'");
        match self {
            Self::Text(template) => text(&what(), run.fill(frame, template, dot)?),
            Self::Texts(template) => texts(&what(), run.fill(frame, template, dot)?),
            Self::Uri(uri) => uri.evaluate(run, frame, dot).map(Value::String),
            Self::Object(parts) => {
                let mut map = Map::with_capacity(parts.len());
                for (property, part) in parts {
                    map.insert(property.name.to_owned(), part.evaluate(property.name, run, frame, dot)?);
                }
                Ok(Value::Object(map))
            }
        }
    }
}
