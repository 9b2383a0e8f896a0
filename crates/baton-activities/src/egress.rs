//! The one place where it is judged whom executions may call.
//!
//! # Invariants
//! - A name is resolved once, every address is judged, and the connection goes to a judged address: a name
//!   that answers differently the second time gains nothing.
//! - Addresses that stand for other addresses (mapped, translated, tunnelled) are judged as what they stand for.
//! - Link-local and metadata addresses, where clouds keep credentials, are refused whatever the options say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Whom executions may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Whether loopback and private networks may be called.
    pub allow_private: bool,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self { allow_private: true }
    }
}

/// A target that must not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{target}' must not be called: {why}")]
pub struct Refused {
    /// Host or address.
    pub target: String,
    /// The rule.
    pub why: &'static str,
}

impl EgressPolicy {
    /// Judges a URL: its scheme, that it holds no credentials, and its host where that is an address.
    ///
    /// # Errors
    /// The rule that forbids it. Never holds more of the URL than scheme and host.
    pub fn check_url(self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let refused = |why| Err(Refused { target: host.to_owned(), why });
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused { target: url.scheme().to_owned(), why: "only 'http' and 'https' are allowed" });
        }
        if host.is_empty() {
            return refused("the URL must name a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("the URL must not hold a user name or password; use 'authentication'");
        }
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => self.check_address(address),
            Err(_) => Ok(()),
        }
    }

    /// Judges an address.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check_address(self, address: IpAddr) -> Result<(), Refused> {
        let refused = |why| Err(Refused { target: address.to_string(), why });
        match judge(address) {
            Class::Public => Ok(()),
            Class::Private if self.allow_private => Ok(()),
            Class::Private => refused("private and loopback addresses are not allowed by this server"),
            Class::Never(why) => refused(why),
        }
    }

    /// Resolves a host, a name or an address, to those addresses that may be called; there is at least one.
    ///
    /// # Errors
    /// A [`Refused`] if all of them are refused, otherwise what the resolver says.
    pub(crate) async fn resolve(
        self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let mut refusal = None;
        let mut allowed = Vec::new();
        for address in tokio::net::lookup_host((host, port)).await? {
            match self.check_address(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(refused) => {
                    refusal = Some(Refused { target: format!("{host} ({})", refused.target), why: refused.why });
                }
            }
        }
        match refusal {
            Some(refused) if allowed.is_empty() => Err(refused.into()),
            Some(_) | None if allowed.is_empty() => Err("the name has no address".into()),
            Some(_) | None => Ok(allowed),
        }
    }
}

enum Class {
    Public,
    Private,
    Never(&'static str),
}

fn judge(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => judge_v6(address),
    }
}

fn judge_v4(address: Ipv4Addr) -> Class {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (169, 254, _) => Class::Never("link-local and metadata addresses are never allowed"),
        // The metadata address of one provider lies in the shared range.
        _ if address == Ipv4Addr::new(100, 100, 100, 200) => Class::Never("metadata addresses are never allowed"),
        (0, ..) => Class::Never("'this network' is not an address of a server"),
        (224..=255, ..) => Class::Never("multicast, reserved and broadcast addresses are never allowed"),
        (10 | 127, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (192, 0, 0) | (198, 18 | 19, _) => {
            Class::Private
        }
        _ => Class::Public,
    }
}

fn judge_v6(address: Ipv6Addr) -> Class {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        judge_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Never("the unspecified address is not an address of a server"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Private,
        // Mapped, compatible, translated (NAT64, well-known and local) and 6to4 forms of IPv4 addresses.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Class::Never("metadata addresses are never allowed"),
        [0xfe80..=0xfebf, ..] => Class::Never("link-local and metadata addresses are never allowed"),
        [0xff00..=0xffff, ..] => Class::Never("multicast addresses are never allowed"),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x2001, 0, ..] => Class::Private,
        _ => Class::Public,
    }
}

/// Resolves names for the HTTP client and leaves out what the policy refuses.
pub(crate) struct GuardedResolver(pub(crate) EgressPolicy);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move { Ok(Box::new(policy.resolve(name.as_str(), 0).await?.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_addresses_by_what_they_stand_for() {
        let (open, closed) = (EgressPolicy { allow_private: true }, EgressPolicy { allow_private: false });
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "ff02::1",
            "100.100.100.200",
        ] {
            assert!(open.check_address(never.parse().unwrap()).is_err(), "{never}");
        }
        for private in
            ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd12::1", "::ffff:10.0.0.1"]
        {
            open.check_address(private.parse().unwrap()).unwrap();
            assert!(closed.check_address(private.parse().unwrap()).is_err(), "{private}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "2606:4700::1111"] {
            closed.check_address(public.parse().unwrap()).unwrap();
        }
    }

    #[test]
    fn judges_urls_without_telling_their_secrets() {
        let policy = EgressPolicy::default();
        for (url, says) in [
            ("ftp://example.com/", "only 'http' and 'https'"),
            ("file:///etc/passwd", "only 'http' and 'https'"),
            ("http://user:hunter2@example.com/", "must not hold"),
            ("http://0xa9fea9fe/latest", "never allowed"),
            ("http://[::ffff:169.254.169.254]/", "never allowed"),
        ] {
            let refusal = policy.check_url(&url.parse().unwrap()).unwrap_err().to_string();
            assert!(refusal.contains(says) && !refusal.contains("hunter2"), "{url}: {refusal}");
        }
        policy.check_url(&"https://example.com/a?b=c".parse().unwrap()).unwrap();
    }
}
