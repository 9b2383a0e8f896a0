//! `[egress]`: whom executions may call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::Uri;
use baton_activities::EgressPolicy;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Names, temporal::or_text};

/// `[egress]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EgressConfig {
    /// Whether loopback and private networks may be called.
    #[serde(deserialize_with = "or_text")]
    pub allow_private: bool,
    /// Addresses and networks of these that may be called in any case.
    pub allowed: Names,
    /// Whether the API of this installation may be called.
    #[serde(deserialize_with = "or_text")]
    pub allow_own_api: bool,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self { allow_private: true, allowed: Names::default(), allow_own_api: false }
    }
}

impl EgressConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.allowed.0.iter().find(|name| EgressPolicy::network(name).is_none()) {
            Some(name) => Err(ConfigError(format!(
                "egress.allowed has '{name}', allowed are addresses such as '10.1.2.3' and networks such as '10.1.0.0/16'"
            ))),
            None => Ok(()),
        }
    }

    /// The policy, with what stands for the API not known yet.
    pub(super) fn policy(&self) -> EgressPolicy {
        let allowed = self.allowed.0.iter().filter_map(|name| EgressPolicy::network(name)).collect();
        EgressPolicy { allow_private: self.allow_private, allowed, own: Vec::new() }
    }
}

/// Where the API is that URLs lead to, as far as they say it by themselves: by an address, or by the name of this machine.
pub(super) fn addresses(urls: &[String]) -> Vec<SocketAddr> {
    let of = |url: &String| {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let hosts: Vec<IpAddr> = match host.parse() {
            Ok(address) => vec![address],
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => Vec::new(),
        };
        Some(hosts.into_iter().map(move |host| SocketAddr::new(host, port)))
    };
    urls.iter().filter_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_where_its_urls_say() {
        let urls =
            ["http://127.0.0.1:8377", "http://[::1]:1/", "http://localhost", "http://baton.example:8377", "nonsense"];
        let found: Vec<String> = addresses(&urls.map(str::to_owned)).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1:8377", "[::1]:1", "127.0.0.1:80", "[::1]:80"]);
    }

    #[test]
    fn what_is_no_network_is_named() {
        let config = |text: &str| EgressConfig { allowed: Names(vec![text.to_owned()]), ..EgressConfig::default() };
        for good in ["10.1.2.3", "10.0.0.0/8", "::1", "fd00::/8"] {
            config(good).check().unwrap();
            assert_eq!(config(good).policy().allowed.len(), 1);
        }
        for bad in ["localhost", "10.0.0.0/33", "10.0.0.0/8:80"] {
            assert!(config(bad).check().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
