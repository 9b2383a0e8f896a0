//! Connections that are no HTTP requests: to a judged address, over TLS where that is asked for.
//!
//! # Invariants
//! - The connection goes to an address that the egress policy allowed; TLS still checks the name that was asked for.

use std::sync::Arc;

use baton_execution::{Fault, fault_type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{egress::Refused, outgoing::Outgoing};

/// Both directions of a connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Name or address; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether to speak TLS, and the protocol to agree on (ALPN); an empty name asks for none.
    pub(crate) tls: Option<&'static str>,
}

impl Target {
    /// `host:port`, for people.
    pub(crate) fn shown(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Outgoing {
    /// Connects, within the time for connecting.
    pub(crate) async fn connect(&self, target: &Target) -> Result<Box<dyn Duplex>, Fault> {
        let shown = target.shown();
        tokio::time::timeout(self.connect_timeout, self.reach(target, &shown)).await.unwrap_or_else(|_| {
            Err(Fault::new(fault_type::TIMEOUT, 408, format!("connect to {shown}: no answer in time")))
        })
    }

    async fn reach(&self, target: &Target, shown: &str) -> Result<Box<dyn Duplex>, Fault> {
        let addresses = self.policy.resolve(&target.host, target.port).await.map_err(|error| {
            match error.downcast_ref::<Refused>() {
                Some(refused) => Fault::new(fault_type::AUTHORIZATION, 403, refused.to_string()).non_retryable(),
                None => unreachable(format!("resolve the host of {shown}: {error}")),
            }
        })?;
        let stream = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(|error| unreachable(format!("connect to {shown}: {error}")))?;
        // What is sent is small and waited for; where this cannot be set it is only slower.
        _ = stream.set_nodelay(true);
        let Some(protocol) = target.tls else { return Ok(Box::new(stream)) };
        let mut config = self.tls.clone();
        config.alpn_protocols = [protocol].into_iter().filter(|name| !name.is_empty()).map(Into::into).collect();
        let name = ServerName::try_from(target.host.clone()).map_err(|_| {
            Fault::new(fault_type::CONFIGURATION, 400, format!("'{}' is not the name of a host", target.host))
                .non_retryable()
        })?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| unreachable(format!("agree on TLS with {shown}: {error}")))?;
        Ok(Box::new(stream))
    }
}

fn unreachable(detail: String) -> Fault {
    Fault::new(fault_type::COMMUNICATION, 503, detail)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    };

    use super::*;
    use crate::ActivitiesOptions;

    /// A server that is `localhost`, says what protocol was agreed on, and ends; and a client that trusts it.
    async fn server() -> (u16, Outgoing) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key"),
            )
            .expect("a server's configuration");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let agreed = stream.get_ref().1.alpn_protocol().unwrap_or(b"none").to_vec();
                _ = stream.write_all(&agreed).await;
                _ = stream.shutdown().await;
            }
        });
        let mut outgoing = Outgoing::new(&ActivitiesOptions::default()).expect("a client");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        outgoing.tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (port, outgoing)
    }

    #[tokio::test]
    async fn tls_checks_the_name_and_agrees_on_a_protocol() {
        let (port, outgoing) = server().await;
        for (protocol, agreed) in [("h2", "h2"), ("", "none")] {
            let target = Target { host: "localhost".to_owned(), port, tls: Some(protocol) };
            let mut connection = outgoing.connect(&target).await.expect("a connection");
            let mut said = String::new();
            connection.read_to_string(&mut said).await.expect("what it says");
            assert_eq!(said, agreed);
        }
        let target = Target { host: "127.0.0.1".to_owned(), port, tls: Some("h2") };
        let fault = outgoing.connect(&target).await.err().expect("the certificate is of another name");
        assert_eq!((fault.kind.as_str(), fault.status), (fault_type::COMMUNICATION, 503));
        assert!(fault.to_string().contains("agree on TLS with 127.0.0.1"), "{fault}");
    }
}
