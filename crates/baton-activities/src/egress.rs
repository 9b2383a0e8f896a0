//! The one place where it is judged whom executions may call.
//!
//! # Invariants
//! - A name is resolved once, every address is judged, and the connection goes to a judged address: a name
//!   that answers differently the second time gains nothing.
//! - Addresses that stand for other addresses (mapped, translated, tunnelled) are judged as what they stand for.
//! - Link-local and metadata addresses, where clouds keep credentials, are refused whatever the options say.
//! - The API of the installation itself is refused unless the options say otherwise: it asks nobody who they are, and what an
//!   execution calls may come from anybody.
//!
//! # Deliberately absent
//! Other servers of the same store, and what forwards to the API: only a network that does not reach them keeps them safe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Whom executions may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Whether loopback and private networks may be called.
    pub allow_private: bool,
    /// Those of them that may be called in any case.
    pub allowed: Vec<IpNet>,
    /// Where the API of the installation is, which must not be called.
    pub own: Vec<SocketAddr>,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self { allow_private: true, allowed: Vec::new(), own: Vec::new() }
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
    /// An address, or a network such as `10.1.0.0/16`, as it can stand in [`Self::allowed`].
    pub fn network(text: &str) -> Option<IpNet> {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }

    /// Judges a URL: its scheme, that it holds no credentials, and its host where that is an address.
    ///
    /// # Errors
    /// The rule that forbids it. Never holds more of the URL than scheme and host.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
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
            Ok(address) => self.check_socket(SocketAddr::new(address, url.port_or_known_default().unwrap_or_default())),
            Err(_) => Ok(()),
        }
    }

    /// Judges an address and a port.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check_socket(&self, address: SocketAddr) -> Result<(), Refused> {
        if self.own.iter().any(|own| own.port() == address.port() && is_same_host(own.ip(), address.ip())) {
            let why = "it is the API of this installation; the setting egress.allow-own-api allows it";
            return Err(Refused { target: address.to_string(), why });
        }
        self.check_address(address.ip())
    }

    /// Whether a port is one of the API's: a name that is called with it is resolved by [`Self::of_own_port`].
    pub(crate) fn is_own_port(&self, port: u16) -> bool {
        self.own.iter().any(|own| own.port() == port)
    }

    /// The same policy for connections to a port of the API, where only the address is known: none to a host of the API.
    pub(crate) fn of_own_port(&self) -> Self {
        Self { own: self.own.iter().map(|own| SocketAddr::new(own.ip(), 0)).collect(), ..self.clone() }
    }

    /// Judges an address.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        let refused = |why| Err(Refused { target: address.to_string(), why });
        match judge(address) {
            Class::Public => Ok(()),
            Class::Private
                if self.allow_private || self.allowed.iter().any(|net| net.contains(&address.to_canonical())) =>
            {
                Ok(())
            }
            Class::Private => refused("private and loopback addresses are not allowed by this server"),
            Class::Never(why) => refused(why),
        }
    }

    /// Resolves a host, a name or an address, to those addresses that may be called; there is at least one.
    ///
    /// # Errors
    /// A [`Refused`] if all of them are refused, otherwise what the resolver says.
    pub(crate) async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let mut refusal = None;
        let mut allowed = Vec::new();
        for address in tokio::net::lookup_host((host, port)).await? {
            match self.check_socket(address) {
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

/// Whether both are the one host as far as an address tells: a server that listens everywhere is on every loopback address.
fn is_same_host(own: IpAddr, called: IpAddr) -> bool {
    let (own, called) = (own.to_canonical(), called.to_canonical());
    own == called || (own.is_unspecified() && called.is_loopback())
}

enum Class {
    Public,
    Private,
    Never(&'static str),
}

/// Metadata addresses beside the link-local ones: of Alibaba, in the shared range; of Oracle; of Azure, in public space.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

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
        _ if METADATA_V4.contains(&address) => Class::Never("metadata addresses are never allowed"),
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
        // Of AWS and of Google.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
            Class::Never("metadata addresses are never allowed")
        }
        [0xfe80..=0xfebf, ..] => Class::Never("link-local and metadata addresses are never allowed"),
        [0xff00..=0xffff, ..] => Class::Never("multicast addresses are never allowed"),
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x2001, 0, ..] => Class::Private,
        _ => Class::Public,
    }
}

/// Resolves names for the HTTP client and leaves out what the policy refuses.
pub(crate) struct GuardedResolver(pub(crate) std::sync::Arc<EgressPolicy>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = std::sync::Arc::clone(&self.0);
        // The client puts the port in its place; nobody listens on port 0.
        Box::pin(async move { Ok(Box::new(policy.resolve(name.as_str(), 0).await?.into_iter()) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_addresses_by_what_they_stand_for() {
        let open = EgressPolicy::default();
        let closed = EgressPolicy { allow_private: false, ..EgressPolicy::default() };
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
            "192.0.0.192",
            "168.63.129.16",
            "fd20:ce::254",
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
    fn some_private_addresses_can_be_allowed() {
        let allowed = ["10.1.0.0/16", "::1/128", "169.254.0.0/16"].map(|net| net.parse().unwrap()).to_vec();
        let policy = EgressPolicy { allow_private: false, allowed, own: Vec::new() };
        for (address, is_allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("::1", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(policy.check_address(address.parse().unwrap()).is_ok(), is_allowed, "{address}");
        }
    }

    #[tokio::test]
    async fn the_api_of_the_installation_is_not_called() {
        let policy = EgressPolicy { own: vec!["127.0.0.1:8377".parse().unwrap()], ..EgressPolicy::default() };
        for (url, is_allowed) in [
            ("http://127.0.0.1:8377/", false),
            ("http://[::ffff:127.0.0.1]:8377/", false),
            ("http://127.0.0.1:8378/", true),
            ("http://127.0.0.2:8377/", true),
        ] {
            assert_eq!(policy.check_url(&url.parse().unwrap()).is_ok(), is_allowed, "{url}");
        }
        assert!(policy.resolve("127.0.0.1", 8377).await.unwrap_err().is::<Refused>());
        assert!(policy.of_own_port().resolve("127.0.0.1", 0).await.unwrap_err().is::<Refused>());
        let everywhere = EgressPolicy { own: vec!["0.0.0.0:8377".parse().unwrap()], ..EgressPolicy::default() };
        assert!(everywhere.check_url(&"http://127.0.0.9:8377/".parse().unwrap()).is_err());
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
