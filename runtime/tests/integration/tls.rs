//! TLS, its certificates and their replacement, with real handshakes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use runtime::crypto::install_tls_provider;
use runtime::secrets::SecretRef;
use runtime::serve::{Limits, Server as Serving};
use runtime::tls::{TlsAcceptor, TlsError, TlsSettings};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::serve::{PATIENCE, Server, start_as};

/// An authority, and files of what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, folder: tempfile::tempdir().unwrap() }
    }

    /// A certificate and its key, both PEM.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, cert: &str, key: &str) {
        fs::write(self.path("cert"), cert).unwrap();
        fs::write(self.path("key"), key).unwrap();
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            cert: self.path("cert"),
            key: SecretRef::File(self.path("key")),
            client_ca: None,
        }
    }

    /// Serves with a certificate of this authority.
    async fn serve(&self, limits: Limits) -> Server {
        let (cert, key) = self.sign();
        self.write(&cert, &key);
        serve(self.settings(), limits).await
    }

    fn client(&self) -> reqwest::ClientBuilder {
        install_tls_provider();
        let root = reqwest::Certificate::from_pem(self.pem.as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root])
    }

    /// The certificate that the listener shows now.
    async fn shown(&self, address: SocketAddr) -> Vec<u8> {
        install_tls_provider();
        let mut roots = RootCertStore::empty();
        roots
            .add(rustls::pki_types::CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::from(address.ip());
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        stream.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    async fn until_shown(&self, address: SocketAddr, wanted: impl Fn(&[u8]) -> bool) {
        let started = Instant::now();
        while !wanted(&self.shown(address).await) {
            assert!(started.elapsed() < PATIENCE, "the certificate was not read again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn serve(settings: TlsSettings, limits: Limits) -> Server {
    let tls = Some(TlsAcceptor::load(settings).unwrap());
    let app = Router::new().route("/", get(async || "hello"));
    start_as(app, Serving { limits, tls, ..Serving::default() }).await
}

fn der(pem: &str) -> Vec<u8> {
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn url(server: &Server) -> String {
    format!("https://{}/", server.address)
}

#[tokio::test]
async fn both_versions_of_http_and_of_tls_are_spoken() {
    let authority = Authority::new();
    let server = authority.serve(Limits::default()).await;
    let only = |version| {
        authority.client().min_tls_version(version).max_tls_version(version).build().unwrap()
    };
    for (client, version) in [
        (authority.client().build().unwrap(), Version::HTTP_2),
        (authority.client().http1_only().build().unwrap(), Version::HTTP_11),
        (only(reqwest::tls::Version::TLS_1_2), Version::HTTP_2),
        (only(reqwest::tls::Version::TLS_1_3), Version::HTTP_2),
    ] {
        let response = client.get(url(&server)).send().await.unwrap();
        assert_eq!(response.version(), version);
        assert_eq!(response.text().await.unwrap(), "hello");
    }
}

/// A `ClientHello` of TLS 1.1 with two ordinary suites.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    // Signature algorithms and groups, without which it would be refused for another reason.
    body.extend([0, 18, 0, 13, 0, 6, 0, 4, 4, 1, 4, 3, 0, 10, 0, 4, 0, 2, 0, 29]);
    let length = u8::try_from(body.len()).unwrap();
    let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    hello.extend(body);
    hello
}

#[tokio::test]
async fn plain_http_and_old_versions_get_an_alert() {
    let authority = Authority::new();
    let server = authority.serve(Limits::default()).await;
    let plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    // A fatal alert, with its reason where the peer would understand it.
    for (sent, reason) in [(plain, None), (hello_of_tls_1_1(), Some(70))] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer.first(), Some(&21), "{answer:?}");
        assert_eq!(answer[5], 2, "{answer:?}");
        assert!(reason.is_none_or(|reason| answer[6] == reason), "{answer:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_off() {
    let authority = Authority::new();
    let header_read_timeout = Duration::from_millis(200);
    let server = authority.serve(Limits { header_read_timeout, ..Limits::default() }).await;
    for partial in [&b""[..], &b"\x16"[..], &hello_of_tls_1_1()[..20]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let started = Instant::now();
        stream.write_all(partial).await.unwrap();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("cut off");
        assert!(started.elapsed() >= header_read_timeout / 2);
    }
}

#[tokio::test]
async fn a_pair_that_does_not_fit_leaves_the_last_good_one() {
    let authority = Authority::new();
    let server = authority.serve(Limits::default()).await;
    let first = authority.shown(server.address).await;
    let (second, second_key) = authority.sign();
    // The certificate is there before its key, as when files are copied one by one.
    fs::write(authority.path("cert"), &second).unwrap();
    tokio::time::sleep(2 * runtime::tls::RELOAD_INTERVAL).await;
    assert_eq!(authority.shown(server.address).await, first);
    fs::write(authority.path("key"), &second_key).unwrap();
    authority.until_shown(server.address, |shown| shown == der(&second)).await;
    fs::remove_file(authority.path("key")).unwrap();
    fs::write(authority.path("cert"), "nonsense").unwrap();
    tokio::time::sleep(2 * runtime::tls::RELOAD_INTERVAL).await;
    assert_eq!(authority.shown(server.address).await, der(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_the_certificate_under_load_fails_no_request() {
    let authority = Authority::new();
    let server = authority.serve(Limits::default()).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|i| {
            // Half of them shake hands for every request.
            let client = authority.client().pool_max_idle_per_host(i % 2).build().unwrap();
            let (url, stop, answered) = (url(&server), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let response = client.get(&url).send().await.unwrap();
                    assert_eq!(response.text().await.unwrap(), "hello");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let (cert, key) = authority.sign();
        authority.write(&cert, &key);
        authority.until_shown(server.address, |shown| shown == der(&cert)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 10);
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let (cert, key) = authority.sign();
    authority.write(&cert, &key);
    let ca = authority.path("ca");
    fs::write(&ca, &authority.pem).unwrap();
    let server =
        serve(TlsSettings { client_ca: Some(ca), ..authority.settings() }, Limits::default()).await;
    let known = |authority: &Authority, stranger: &Authority| {
        let (cert, key) = stranger.sign();
        let identity = reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes()).unwrap();
        authority.client().identity(identity).build().unwrap()
    };
    let good = known(&authority, &authority);
    assert_eq!(good.get(url(&server)).send().await.unwrap().status(), 200);
    for client in [authority.client().build().unwrap(), known(&authority, &Authority::new())] {
        assert!(client.get(url(&server)).send().await.is_err());
    }
}

#[test]
fn what_cannot_be_used_is_named_before_anything_is_served() {
    let authority = Authority::new();
    let (cert, key) = authority.sign();
    let other_key = authority.sign().1;
    let load = || TlsAcceptor::load(authority.settings()).unwrap_err();
    assert!(matches!(load(), TlsError::Unreadable { .. }));
    authority.write("nonsense", &key);
    assert!(matches!(load(), TlsError::NoCertificates(_)));
    authority.write(&cert, "nonsense");
    assert!(matches!(load(), TlsError::NoKey(_)));
    authority.write(&cert, &other_key);
    let error = load();
    assert!(matches!(error, TlsError::Unusable(_)));
    assert!(!format!("{error:?}").contains("PRIVATE KEY"));
}
