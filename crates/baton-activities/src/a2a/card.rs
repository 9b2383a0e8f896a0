//! Agent cards: where an agent is reached by JSON-RPC, and in which version of the protocol.
//!
//! Cards of the versions 0.2 and 0.3 have `url`, `preferredTransport` and `additionalInterfaces`; those of 1.0 have
//! `supportedInterfaces`. A card may have both.

use serde_json::Value;

/// The versions of the protocol, as far as they differ on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 0.2 and 0.3, whose names of methods the workflow language has.
    Zero,
    /// 1.x, which has other names.
    One,
}

/// Where an agent is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) url: String,
    pub(super) version: Version,
    /// Whom the agent takes a request to be for, where it serves several; otherwise empty.
    pub(super) tenant: String,
}

/// The interface to use: one of `preferred` if there is one, otherwise the first.
pub(super) fn interface(card: &Value, preferred: Version) -> Option<Interface> {
    let mut found = interfaces(card);
    let index = found.iter().position(|interface| interface.version == preferred).unwrap_or(0);
    (index < found.len()).then(|| found.swap_remove(index))
}

/// Every interface that speaks JSON-RPC, in the order of the card.
fn interfaces(card: &Value) -> Vec<Interface> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |name: &str| card.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut found = Vec::new();
    let mut add = |url: String, transport: &str, version: &str, tenant: String| {
        if !url.is_empty() && transport.eq_ignore_ascii_case("JSONRPC") {
            let version = if version.starts_with("0.") { Version::Zero } else { Version::One };
            found.push(Interface { url, version, tenant });
        }
    };
    for interface in list("supportedInterfaces") {
        let (binding, version) = (text(interface, "protocolBinding"), text(interface, "protocolVersion"));
        add(text(interface, "url"), &binding, &version, text(interface, "tenant"));
    }
    // The top of a card of 0.x is an interface, which speaks JSON-RPC unless it says something else.
    let transport = card.get("preferredTransport").and_then(Value::as_str).unwrap_or("JSONRPC");
    add(text(card, "url"), transport, "0.3", String::new());
    for interface in list("additionalInterfaces") {
        add(text(interface, "url"), &text(interface, "transport"), "0.3", String::new());
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_the_interface_of_the_preferred_version() {
        assert_eq!(interface(&json!({"supportedInterfaces": [{"url": "http://a", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"}]}), Version::Zero).map(|it| it.tenant), Some("t".to_owned()));
        let both = json!({
            "url": "http://a/old", "preferredTransport": "JSONRPC", "protocolVersion": "0.3.0",
            "supportedInterfaces": [
                {"url": "grpc://a", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
                {"url": "http://a/new", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            ],
        });
        let interface = |card: &Value, preferred| interface(card, preferred).map(|it| (it.url, it.version));
        let at = |url: &str, version| Some((url.to_owned(), version));
        assert_eq!(interface(&both, Version::Zero), at("http://a/old", Version::Zero));
        assert_eq!(interface(&both, Version::One), at("http://a/new", Version::One));
        let old = json!({
            "url": "grpc://a", "preferredTransport": "GRPC",
            "additionalInterfaces": [{"url": "http://a/rpc", "transport": "JSONRPC"}],
        });
        assert_eq!(interface(&old, Version::One), at("http://a/rpc", Version::Zero));
        assert_eq!(interface(&json!({"url": "http://a"}), Version::Zero), at("http://a", Version::Zero));
        for none in [json!({}), json!([1]), json!({"url": 7}), json!({"url": "http://a", "preferredTransport": "GRPC"})]
        {
            assert_eq!(interface(&none, Version::Zero), None, "{none}");
        }
    }
}
