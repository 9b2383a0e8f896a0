//! Where the database is and how sessions there are set up.
//!
//! A URL as libpq takes it. `sslmode` and `sslrootcert` are read here, the rest by the client library, which refuses what it
//! does not know. Settings of a session go along with the connection, after those that the URL gives in `options`.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{chain, tls};
use crate::error::StoreError;
use crate::options::StoreOptions;

/// For the first answer of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From connecting to a session that can be used.
pub(super) const GREETING_MAX: Duration = Duration::from_secs(10);
/// After so long without an answer a connection is dead; the server is told the same, so that the locks of a lost one go.
const SILENCE: Duration = Duration::from_secs(15);
/// A session that stands still in a transaction holds up all other servers, so the database ends it.
const STANDSTILL_MS: u64 = 10_000;

/// What bytes go through once it is settled whether they are encrypted.
pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
    Tail,
}

/// Identity that the server has to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// None: whatever the certificate says.
    None,
    /// A certificate for the host's name, from an authority of this file or of the system.
    Full(Option<PathBuf>),
}

pub(super) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
    /// Without password.
    text: String,
    read_budget_ms: u64,
    patience_ms: u64,
}

impl Address {
    pub(super) fn parse(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let (mut config, proof) = parse(url)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_application_name().is_none() {
            config.application_name("baton");
        }
        config.keepalives_idle(SILENCE / 3).keepalives_interval(SILENCE / 3).keepalives_retries(2);
        // Of several hosts the one that can write, also after they have changed places.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let text = place(&config);
        let (read_budget_ms, patience_ms) = (options.read_budget_ms, options.outage_patience_ms);
        Ok(Self { tls: tls::connector(&proof)?, config, text, read_budget_ms, patience_ms })
    }

    /// Where it is, without password.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// How to connect for a purpose.
    pub(super) fn config(&self, role: Role) -> Config {
        let silence_s = SILENCE.as_secs();
        // Statistics of a young table are missing or wrong, and no statement here should ever read a whole table.
        let common = format!(
            "-c search_path=baton -c jit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off \
             -c tcp_keepalives_idle={} -c tcp_keepalives_interval={} -c tcp_keepalives_count=2 -c tcp_user_timeout={}",
            silence_s / 3,
            silence_s / 3,
            silence_s * 1_000
        );
        let own = match role {
            Role::Writer => format!(
                "-c plan_cache_mode=force_generic_plan -c idle_in_transaction_session_timeout={STANDSTILL_MS} \
                 -c lock_timeout={}",
                self.patience_ms.max(1)
            ),
            Role::Reader => {
                let budget_ms = self.read_budget_ms.max(1);
                format!("-c enable_bitmapscan=off -c enable_sort=off -c statement_timeout={budget_ms}")
            }
            Role::Tail => String::new(),
        };
        let mut config = self.config.clone();
        let given = config.get_options().map(str::to_owned);
        config.options(given.into_iter().chain([common, own]).collect::<Vec<_>>().join(" "));
        config
    }

    /// Connects, and gives up on a server that takes the connection and says nothing.
    pub(super) async fn connect(&self, role: Role) -> Result<(Client, Connection<Socket, TlsStream>), StoreError> {
        match tokio::time::timeout(GREETING_MAX, self.config(role).connect(self.tls())).await {
            Ok(connected) => connected.map_err(|error| self.unreachable(error)),
            Err(_) => Err(self.unreachable("the server does not answer")),
        }
    }

    pub(super) fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Unreachable { address: self.text.clone(), source: source.into() }
    }
}

fn unusable(detail: impl Into<String>) -> StoreError {
    StoreError::Address { detail: detail.into() }
}

/// Takes out what the client library does not know.
fn parse(url: &str) -> Result<(Config, Proof), StoreError> {
    if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
        return Err(unusable("it must begin with 'postgresql://'"));
    }
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (mut rest, mut mode, mut authorities) = (Vec::new(), SslMode::Prefer, None);
    let mut full = false;
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| unusable(format!("{name} is not UTF-8")))?;
        match (name, value.as_ref()) {
            ("sslmode", "disable") => mode = SslMode::Disable,
            ("sslmode", "prefer") => mode = SslMode::Prefer,
            ("sslmode", "require") => mode = SslMode::Require,
            ("sslmode", "verify-full") => (mode, full) = (SslMode::Require, true),
            ("sslmode", other) => {
                let allowed = "'disable', 'prefer', 'require' or 'verify-full'";
                return Err(unusable(format!("sslmode is '{other}', it must be {allowed}")));
            }
            ("sslrootcert", "system") => authorities = None,
            ("sslrootcert", path) => authorities = Some(PathBuf::from(path)),
            _ => rest.push(parameter),
        }
    }
    if authorities.is_some() && !full {
        return Err(unusable("sslrootcert is of use only with sslmode=verify-full"));
    }
    let plain = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
    let mut config: Config = plain.parse().map_err(|failed: tokio_postgres::Error| unusable(chain(&failed)))?;
    config.ssl_mode(mode);
    if config.get_hosts().is_empty() {
        return Err(unusable("it names no host"));
    }
    // Otherwise the end of a password would pass for a host, and be told to everybody.
    if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err(unusable("in user and password an '@' is written as '%40'"));
    }
    Ok((config, if full { Proof::Full(authorities) } else { Proof::None }))
}

/// Hosts and database as a URL.
fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            };
            match ports.get(index).or(ports.first()) {
                Some(port) => format!("{name}:{port}"),
                None => name,
            }
        })
        .collect();
    format!("postgresql://{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = "postgresql://me:se%40cret@db.example:5433/baton?sslmode=verify-full&sslrootcert=%2Fca.pem&connect_timeout=3";
        let (config, proof) = parse(url).unwrap();
        assert_eq!((config.get_user(), config.get_dbname()), (Some("me"), Some("baton")));
        assert_eq!(config.get_password(), Some(b"se@cret".as_slice()));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!((config.get_ssl_mode(), proof), (SslMode::Require, Proof::Full(Some("/ca.pem".into()))));
        assert_eq!(place(&config), "postgresql://db.example:5433/baton");
        for (mode, expected) in
            [("disable", SslMode::Disable), ("prefer", SslMode::Prefer), ("require", SslMode::Require)]
        {
            let (config, proof) = parse(&format!("postgres://h/d?sslmode={mode}")).unwrap();
            assert_eq!((config.get_ssl_mode(), proof), (expected, Proof::None));
        }
        let (config, proof) = parse("postgres://%2Frun%2Fpg/d?sslmode=verify-full&sslrootcert=system").unwrap();
        assert_eq!((place(&config), proof), ("postgresql:///run/pg:5432/d".to_owned(), Proof::Full(None)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_the_password() {
        for (url, says) in [
            ("mysql://me:secret@h/d", "must begin with 'postgresql://'"),
            ("host=h password=secret", "must begin with 'postgresql://'"),
            ("postgresql://me:secret@h/d?sslmode=yes", "sslmode is 'yes'"),
            ("postgresql://me:secret@h/d?sslrootcert=x", "only with sslmode=verify-full"),
            ("postgresql://me:secret@h/d?colour=red", "unknown option `colour`"),
            ("postgresql://me:secret@h:port/d", "port"),
            ("postgresql://me:p@secret@h/d", "is written as '%40'"),
            ("postgresql:///d", "names no host"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn settings_of_a_session_follow_those_of_the_url() {
        let url = "postgresql://h/d?options=-c%20geqo%3Doff";
        let address = Address::parse(url, &StoreOptions::default()).unwrap();
        let options = address.config(Role::Writer).get_options().unwrap().to_owned();
        assert!(options.starts_with("-c geqo=off -c search_path=baton "), "{options}");
        assert!(options.ends_with("-c lock_timeout=30000"), "{options}");
        assert_eq!(address.text(), "postgresql://h:5432/d");
    }
}
