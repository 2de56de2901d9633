//! Keys of an issuer that speaks TLS.

use std::fs;
use std::path::{Path, PathBuf};

use gateway::{GatewayError, IssuerClientError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use runtime::secrets::SecretRef;
use runtime::tls::TlsSettings;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{open_with, open_without_keys, read};
use crate::harness::logs;
use crate::issuer::{AUDIENCE, Issuer, SigningKey};

/// An authority, and a certificate of it for one host; the authority's file comes first.
fn authority(folder: &Path, name: &str, host: &str) -> (PathBuf, TlsSettings) {
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(path("ca"), params.self_signed(&ca_key).unwrap().pem()).unwrap();
    let ca = rcgen::Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    fs::write(path("cert"), cert.pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    let tls =
        TlsSettings { cert: path("cert"), key: SecretRef::File(path("key")), client_ca: None };
    (path("ca"), tls)
}

#[tokio::test]
async fn keys_are_fetched_over_tls_from_an_issuer_with_a_certificate_of_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, tls) = authority(folder.path(), "ours", "127.0.0.1");
    let key = SigningKey::ec("k");
    let issuer = Issuer::over_tls("127.0.0.1", tls, &[&key]).await;
    let door = open_with(&issuer, |oidc| oidc.ca = Some(ca)).await;
    assert_eq!(read(&door, &key.token(&issuer.claims())).await.status, 200);
    assert!(issuer.fetches() > 0);
}

#[tokio::test]
async fn an_issuer_with_any_other_certificate_gives_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (_, tls) = authority(folder.path(), "ours", "127.0.0.1");
    let (other, _) = authority(folder.path(), "other", "127.0.0.1");
    let (elsewhere, for_elsewhere) = authority(folder.path(), "elsewhere", "login.example");
    let key = SigningKey::ec("k");
    for (what, tls, ca) in [
        ("of another authority", tls.clone(), Some(other)),
        ("of no authority of the system", tls, None),
        ("for another host", for_elsewhere, Some(elsewhere)),
    ] {
        let issuer = Issuer::over_tls("127.0.0.1", tls, &[&key]).await;
        let door = open_without_keys(&issuer, |oidc| oidc.ca = ca).await;
        door.until_part("token-issuer", "no keys of the token issuer yet").await;
        assert_eq!(read(&door, &key.token(&issuer.claims())).await.status, 503, "{what}");
        assert_eq!(issuer.fetches(), 0, "{what}");
    }
    assert!(logs().contains("the configuration cannot be fetched"), "it is said");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_keep_the_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for ca in [folder.path().join("nowhere"), garbage] {
        let issuer = "https://login.example".parse().unwrap();
        let mut oidc = gateway::config::OidcSettings::new(issuer, vec![AUDIENCE.into()]);
        oidc.ca = Some(ca.clone());
        let mut settings = crate::starting::settings("subscriptions.toml");
        settings.oidc = Some(oidc);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = gateway::run(listener, settings, CancellationToken::new()).await.unwrap_err();
        let GatewayError::TokenIssuer(error) = error else { panic!("{error}") };
        let unreadable = matches!(error, IssuerClientError::Unreadable { .. });
        assert_eq!(unreadable, !ca.exists(), "{error}");
        assert!(error.to_string().contains("--oidc-ca"), "{error}");
    }
}
