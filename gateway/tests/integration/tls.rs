//! The gateway's own TLS.

use std::fs;
use std::path::Path;

use gateway::config::{EdgeSettings, Settings};
use http::Method;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use runtime::secrets::SecretRef;
use runtime::tls::TlsSettings;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::{Door, Upstream, got};

const HSTS: &str = "strict-transport-security";

/// A certificate for this machine in a folder.
pub(crate) fn certificate(folder: &Path) -> TlsSettings {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert_path, key_path) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert_path, cert.pem()).unwrap();
    fs::write(&key_path, signing_key.serialize_pem()).unwrap();
    TlsSettings { cert: cert_path, key: SecretRef::File(key_path), client_ca: None }
}

#[tokio::test]
async fn only_tls_is_spoken_and_browsers_are_told_to_keep_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let with_tls = |settings: &mut Settings| {
        settings.edge =
            EdgeSettings { tls: Some(certificate(folder.path())), ..settings.edge.clone() };
    };
    let door = Door::before(Upstream::start().await, with_tls).await;
    let answer = got(door.clinic(Method::GET, "/patient/1")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header(HSTS), Some("max-age=31536000"));
    let refused = got(door.request(Method::GET, "/patient/1")).await;
    assert_eq!((refused.status, refused.header(HSTS)), (401, Some("max-age=31536000")));
    let plain = runtime::client::internal_client();
    assert!(plain.get(format!("http://{}/healthz", door.address)).send().await.is_err());
}

#[tokio::test]
async fn without_tls_nothing_is_promised_about_it() {
    let door = Door::open().await;
    assert_eq!(got(door.request(Method::GET, "/healthz")).await.header(HSTS), None);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_keeps_the_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let subscriptions = folder.path().join("subscriptions.toml");
    gateway::subscriptions::write_file(&subscriptions, &crate::harness::subscriptions()).unwrap();
    let upstream = || gateway::config::UpstreamSettings {
        url: "http://127.0.0.1:1".into(),
        key: gateway::config::ServiceKey::Fixed(runtime::secrets::Secret::new("key")),
    };
    let mut settings =
        Settings::new(upstream(), upstream(), subscriptions, crate::harness::pepper());
    let mut tls = certificate(folder.path());
    tls.key = SecretRef::File(certificate(tempfile::tempdir().unwrap().path()).cert);
    settings.edge.tls = Some(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = gateway::run(listener, settings, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, gateway::GatewayError::Tls(_)), "{error}");
}
