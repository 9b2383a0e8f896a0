//! Authentication policies as data: from an activity's input, or from the keys of a secret.
//!
//! A secret has the properties of its scheme as keys: `username` and `password`; `token`; for OAuth 2 and OpenID
//! Connect the paths of the properties (`authority`, `grant`, `client.id`, `client.secret`, `endpoints.token`, …), lists
//! separated by spaces.

use std::collections::BTreeMap;

use baton_execution::Fault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::unusable;
use crate::{home::Home, options::Secret, redact::Secrets, secrets::no_secret};

/// Properties that are lists: in a secret they are texts, separated by spaces.
const LISTS: [&str; 3] = ["issuers", "scopes", "audiences"];
/// Properties, by the end of their path, that are no secret: a fault may well say `client_credentials`.
const OPEN: [&str; 8] = ["grant", "authentication", "encoding", "type", "authority", "username", "id", "introspection"];

/// How to say who calls.
pub(super) enum Policy {
    Basic(Password),
    Bearer(String),
    Digest(Password),
    OAuth2(Box<OAuth2>),
}

#[derive(Deserialize)]
pub(super) struct Password {
    pub(super) username: String,
    pub(super) password: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// How a token is got. The fields are those of the language.
#[derive(Deserialize, Serialize)]
pub(super) struct OAuth2 {
    pub(super) authority: String,
    pub(super) grant: String,
    #[serde(default)]
    pub(super) endpoints: Endpoints,
    #[serde(default)]
    pub(super) client: Option<Client>,
    #[serde(default)]
    pub(super) request: TokenRequest,
    #[serde(default)]
    pub(super) issuers: Vec<String>,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) subject: Option<SecurityToken>,
    pub(super) actor: Option<SecurityToken>,
    /// Whether the authority describes its endpoints itself (OpenID Connect Discovery).
    #[serde(skip_deserializing)]
    pub(super) discovered: bool,
}

#[derive(Default, Deserialize, Serialize)]
pub(super) struct Endpoints {
    pub(super) token: Option<String>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct Client {
    pub(super) id: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) assertion: Option<String>,
    pub(super) authentication: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
pub(super) struct TokenRequest {
    pub(super) encoding: Option<String>,
}

#[derive(Deserialize, Serialize)]
pub(super) struct SecurityToken {
    pub(super) token: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

impl Policy {
    /// Reads `{"<scheme>": {…}}`; `None` for `null`. What is secret goes into `secrets`, what comes from a secret
    /// into `hidden` as well.
    pub(super) async fn read(
        authentication: &Value,
        home: &dyn Home,
        namespace: &str,
        secrets: &mut Secrets,
        hidden: &mut Secrets,
    ) -> Result<Option<Self>, Fault> {
        if authentication.is_null() {
            return Ok(None);
        }
        let single = authentication.as_object().filter(|fields| fields.len() == 1);
        let Some((scheme, properties)) = single.and_then(|fields| fields.iter().next()) else {
            return Err(unusable("the authentication must be an object with one field, the name of its scheme"));
        };
        let from = properties.get("use").and_then(Value::as_str);
        let properties = match from {
            Some(name) => {
                let values = home.secret(namespace, name).await?.ok_or_else(|| no_secret(namespace, name))?;
                let properties = properties_of(&values);
                hide(&properties, "", hidden);
                properties
            }
            None => properties.clone(),
        };
        hide(&properties, "", secrets);
        Self::of(scheme, properties).map(Some).map_err(|why| {
            let whose = from.map_or_else(
                || format!("the authentication '{scheme}'"),
                |name| format!("the secret '{name}', used for the authentication '{scheme}',"),
            );
            unusable(format!("{whose} {why}"))
        })
    }

    fn of(scheme: &str, properties: Value) -> Result<Self, String> {
        match scheme {
            "basic" => {
                let password: Password = shaped(properties, &["username", "password"])?;
                // It ends at the first colon (RFC 7617).
                if password.username.contains(':') {
                    return Err("has a user name with ':' in it, which basic authentication cannot say".to_owned());
                }
                Ok(Self::Basic(password))
            }
            "digest" => shaped(properties, &["username", "password"]).map(Self::Digest),
            "bearer" => shaped(properties, &["token"]).map(|Token { token }| Self::Bearer(token)),
            "oauth2" | "oidc" => {
                let mut policy: OAuth2 = shaped(properties, &["authority", "grant"])?;
                policy.discovered = scheme == "oidc";
                Ok(Self::OAuth2(Box::new(policy)))
            }
            _ => Err("is not known; known are 'basic', 'bearer', 'digest', 'oauth2' and 'oidc'".to_owned()),
        }
    }
}

/// The properties in their shape. What serde says of a wrong one would show its value, so it is not told.
fn shaped<T: for<'de> Deserialize<'de>>(properties: Value, needed: &[&str]) -> Result<T, String> {
    if let Some(missing) = needed.iter().find(|name| properties.get(**name).and_then(Value::as_str).is_none()) {
        return Err(format!("has no '{missing}' that is a text"));
    }
    T::deserialize(properties).map_err(|_| "has a property of a type that it must not have".to_owned())
}

/// The keys of a secret as the properties of a scheme: a key is a path, parted by dots.
fn properties_of(values: &BTreeMap<String, Secret>) -> Value {
    let mut properties = Map::new();
    for (key, value) in values {
        let text = value.expose();
        let value = if LISTS.contains(&key.as_str()) {
            text.split_whitespace().map(|item| Value::String(item.to_owned())).collect()
        } else {
            Value::String(text.to_owned())
        };
        match key.split_once('.') {
            None => _ = properties.insert(key.clone(), value),
            Some((group, name)) => {
                let group = properties.entry(group).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(group) = group {
                    group.insert(name.to_owned(), value);
                }
            }
        }
    }
    Value::Object(properties)
}

/// Adds every text that is not known to be open.
fn hide(value: &Value, name: &str, into: &mut Secrets) {
    match value {
        Value::String(text) if !OPEN.contains(&name) => into.add(text),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| hide(field, name, into)),
        // Lists are scopes, audiences and issuers.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
    }
}
