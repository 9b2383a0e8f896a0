//! The connection under TLS: a tunnel in front of the server does the server's part of it, and demands our certificate.

use std::sync::Arc;

use baton_engine_temporal::{Pem, TemporalOptions, TlsOptions, connect};
use baton_temporal_testing::TemporalServer;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

/// The name in the server's certificate.
const SERVER_NAME: &str = "temporal.test";

struct Tunnel {
    address: String,
    server: CertifiedKey<KeyPair>,
    client: CertifiedKey<KeyPair>,
}

/// Begins to pass what comes under TLS on to an address.
async fn tunnel(to: String) -> Tunnel {
    let server = generate_simple_self_signed([SERVER_NAME.to_owned()]).unwrap();
    let client = generate_simple_self_signed(["baton.test".to_owned()]).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(client.cert.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols.push(b"h2".to_vec());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                // Whoever is refused here is told by the handshake.
                let Ok(mut from) = acceptor.accept(stream).await else { return };
                let mut to = TcpStream::connect(to).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    Tunnel { address, server, client }
}

fn text(pem: &str) -> Pem {
    Pem::Text(pem.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_under_tls_is_known_by_its_authority_and_knows_us_by_our_certificate() {
    let tunnel = tunnel(TemporalServer::shared().address()).await;
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key.pem");
    std::fs::write(&key_file, tunnel.client.signing_key.serialize_pem()).unwrap();
    let tls = TlsOptions {
        enabled: None,
        ca: Some(text(&tunnel.server.cert.pem())),
        cert: Some(text(&tunnel.client.cert.pem())),
        key: Some(Pem::File(key_file)),
        server_name: Some(SERVER_NAME.to_owned()),
    };
    let with = |tls: TlsOptions| TemporalOptions { address: tunnel.address.clone(), tls, ..TemporalOptions::default() };
    let key = Some("an-api-key".into());
    let client = connect(&TemporalOptions { api_key: key, ..with(tls.clone()) }).await.unwrap();
    assert!(client.connection().capabilities().is_some(), "it is Temporal that answered");

    let another_authority = TlsOptions { ca: tls.cert.clone(), ..tls.clone() };
    let another_name = TlsOptions { server_name: Some("other.test".to_owned()), ..tls.clone() };
    let no_certificate = TlsOptions { cert: None, key: None, ..tls.clone() };
    let no_tls = TlsOptions { enabled: Some(false), ..tls.clone() };
    for (wrong, said) in [
        (another_authority, "invalid peer certificate"),
        (another_name, "certificate not valid for name \"other.test\""),
        // The server hangs up, and whether its reason comes through before is a matter of luck.
        (no_certificate, ""),
        (no_tls, ""),
    ] {
        let refused = connect(&with(wrong)).await.err().unwrap_or_else(|| panic!("taken, not: {said}")).to_string();
        assert!(refused.starts_with("connect to Temporal at 127.0.0.1:") && refused.contains(said), "{refused}");
    }
}
