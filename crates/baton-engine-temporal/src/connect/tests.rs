use std::net::TcpListener;

use super::*;
use crate::options::TlsOptions;

fn options(address: &str) -> TemporalOptions {
    TemporalOptions { address: address.to_owned(), ..TemporalOptions::default() }
}

fn target(options: &TemporalOptions) -> Result<(String, bool), String> {
    Target::parse(options).map(|target| (target.url.to_string(), target.tls)).map_err(|error| error.to_string())
}

#[test]
fn addresses_are_taken_in_every_usual_form() {
    for (address, url, tls) in [
        ("127.0.0.1:7233", "http://127.0.0.1:7233/", false),
        ("temporal", "http://temporal:7233/", false),
        ("[::1]", "http://[::1]:7233/", false),
        ("[::1]:8000", "http://[::1]:8000/", false),
        ("http://temporal:81/", "http://temporal:81/", false),
        ("https://a.b.tmprl.cloud", "https://a.b.tmprl.cloud:7233/", true),
        ("https://a.b.tmprl.cloud:443", "https://a.b.tmprl.cloud/", true),
    ] {
        assert_eq!(target(&options(address)), Ok((url.to_owned(), tls)), "{address}");
    }
}

#[test]
fn other_addresses_are_refused_with_what_is_allowed() {
    for address in
        ["", "http://", "::1", "host:", "host:port", "host:70000", "grpc://host:1", "host/path", "u:p@host:1", "a b:1"]
    {
        let refused = target(&options(address)).unwrap_err();
        assert!(refused.starts_with(&format!("Temporal's address '{address}' ")), "{refused}");
    }
}

#[test]
fn tls_is_used_if_anything_asks_for_it_and_never_against_the_address() {
    let plain = options("host:1");
    let with = |tls: TlsOptions| TemporalOptions { tls, ..plain.clone() };
    let on = Some(true);
    assert!(!target(&plain).unwrap().1);
    assert!(target(&TemporalOptions { api_key: Some("k".into()), ..plain.clone() }).unwrap().1);
    assert!(target(&with(TlsOptions { enabled: on, ..TlsOptions::default() })).unwrap().1);
    assert!(target(&with(TlsOptions { server_name: Some("n".to_owned()), ..TlsOptions::default() })).unwrap().1);
    assert!(target(&with(TlsOptions { ca: Some(Pem::Text(Vec::new())), ..TlsOptions::default() })).unwrap().1);
    let off = TlsOptions { enabled: Some(false), ca: Some(Pem::Text(Vec::new())), ..TlsOptions::default() };
    assert!(!target(&with(off.clone())).unwrap().1);
    let refused = target(&TemporalOptions { tls: off, ..options("https://host:1") }).unwrap_err();
    assert!(refused.contains("TLS is switched off"), "{refused}");
    let forced = TlsOptions { enabled: on, ..TlsOptions::default() };
    let refused = target(&TemporalOptions { tls: forced, ..options("http://host:1") }).unwrap_err();
    assert!(refused.contains("TLS is switched on"), "{refused}");
}

#[tokio::test]
async fn what_waiting_does_not_cure_fails_at_once() {
    let refused = |tls: TlsOptions| {
        let options = TemporalOptions { tls, ..options("host:1") };
        Connection::start(options).unwrap_err().to_string()
    };
    let cert = Some(Pem::Text(b"c".to_vec()));
    assert_eq!(
        refused(TlsOptions { cert, ..TlsOptions::default() }),
        "tls-cert is set without tls-key; mutual TLS needs both"
    );
    let missing = Some(Pem::File("/nowhere/ca.pem".into()));
    assert_eq!(refused(TlsOptions { ca: missing, ..TlsOptions::default() }), "read tls-ca from /nowhere/ca.pem");
    let nameless = TemporalOptions { namespace: String::new(), ..options("host:1") };
    assert!(Connection::start(nameless).unwrap_err().to_string().contains("must be named"));
}

#[tokio::test]
async fn nobody_there_is_told_with_the_cause() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let error = connect(&options(&address)).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("connect to Temporal at {address}: ")), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn one_that_takes_connections_and_says_nothing_does_not_hold_us_up() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let options = TemporalOptions { connect_timeout: Duration::from_millis(50), ..options(&address) };
    let error = connect(&options).await.unwrap_err().to_string();
    assert!(error.contains("no answer within 50 ms"), "{error}");
}
