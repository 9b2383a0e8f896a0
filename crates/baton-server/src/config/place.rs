//! Where a server's store is and where the server itself is for others of the same store.

use std::fmt;

use axum::http::uri::Authority;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// URL of a store in PostgreSQL, as libpq takes it. Its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

/// What stands in place of a password.
const HIDDEN: &str = "***";

/// Parameters of a URL that are passwords.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];

impl StoreUrl {
    /// A URL; what is wrong with it is told when the store is opened.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL for the moment of its use, with its password.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// A URL as it may be shown. Of a text that is not one, nobody knows where its password is.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "postgresql" | "postgres"))
    else {
        return HIDDEN.to_owned();
    };
    let (place, parameters) = rest.split_once('?').map_or((rest, None), |(place, rest)| (place, Some(rest)));
    // A password may have an `@` or a `/` that should have been written as `%40` or `%2F`.
    let place = match place.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{HIDDEN}@{host}"),
            None => format!("{user}@{host}"),
        },
        None => place.to_owned(),
    };
    let parameter = |text: &str| match text.split_once('=') {
        Some((name, _)) if SECRET_PARAMETERS.contains(&name) => format!("{name}={HIDDEN}"),
        Some(_) | None => text.to_owned(),
    };
    match parameters {
        Some(all) => {
            format!("{scheme}://{place}?{}", all.split('&').map(parameter).collect::<Vec<_>>().join("&"))
        }
        None => format!("{scheme}://{place}"),
    }
}

/// The same as a setting: empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreUrlSetting(pub Option<StoreUrl>);

impl Serialize for StoreUrlSetting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.as_ref().map(ToString::to_string).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for StoreUrlSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgresql" | "postgres")) {
            // Not shown: it may hold a password.
            return Err(D::Error::custom(
                "it is not a URL of a store; allowed is postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or nothing for the \
                 embedded store",
            ));
        }
        Ok(Self(Some(StoreUrl(text))))
    }
}

/// Where other servers of the same store reach this one, HOST:PORT; empty for where it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Advertise(pub String);

impl<'de> Deserialize<'de> for Advertise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let whole = |it: &Authority| {
            !it.host().is_empty() && it.port_u16().is_some_and(|port| port > 0) && !it.as_str().contains('@')
        };
        if text.is_empty() || text.parse::<Authority>().ok().is_some_and(|it| whole(&it)) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!("'{text}' is not an address; allowed is HOST:PORT, such as 127.0.0.1:8377")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown_wherever_it_is() {
        for (url, shown) in [
            ("postgresql://me:secret@db:5432/baton", "postgresql://me:***@db:5432/baton"),
            ("postgres://me:se:c/r@et@db/baton?sslmode=require", "postgres://me:***@db/baton?sslmode=require"),
            ("postgresql://me@db/baton", "postgresql://me@db/baton"),
            (
                "postgresql:///baton?host=/run&password=secret&user=me",
                "postgresql:///baton?host=/run&password=***&user=me",
            ),
            ("host=db password=secret", "***"),
            ("mysql://me:secret@db/baton", "***"),
        ] {
            let url = StoreUrl::new(url);
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("secret"));
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for text in ["", "127.0.0.1:8377", "[::1]:1", "baton-1.local:80"] {
            assert_eq!(toml::Value::from(text).try_into::<Advertise>().unwrap().0, text);
        }
        for text in ["127.0.0.1", "http://127.0.0.1:1", ":80", "host:0", "host:99999", "a b:1", "me@host:1"] {
            let refused = toml::Value::from(text).try_into::<Advertise>().unwrap_err().to_string();
            assert!(refused.contains("allowed is HOST:PORT"), "{text}: {refused}");
        }
    }
}
