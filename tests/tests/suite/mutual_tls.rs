//! Services that know each other by certificates.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use audit_client::{AuditClient, Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use runtime::{
    client::ClientTlsArgs,
    secrets::{Secret, SecretRef, random_key_hex},
};
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    programs::{self, POLL_PAUSE, Program},
    system::free_address,
};

use super::ledger_processes::ledger_secret;

/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A folder with the certificates of two authorities, and what they sign.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for authority in ["ours", "other"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            desk.write(&format!("{authority}.ca"), &params.self_signed(&key).unwrap().pem());
            let issuer = Issuer::new(params, key);
            for name in ["server", "client"] {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
                let certificate = params.signed_by(&key, &issuer).unwrap();
                desk.write(&format!("{authority}.{name}.cert"), &certificate.pem());
                desk.write(&format!("{authority}.{name}.key"), &key.serialize_pem());
            }
        }
        for name in ["service.key", "auditor.key", "seal.key", "pepper.key", "kek.key"] {
            desk.write(name, &random_key_hex());
        }
        desk.write("ledger.key", &ledger_secret().to_text());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn secret(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }

    /// What a client is told of certificates: the authority that it believes, and whose it shows.
    fn client(&self, ca: &str, shows: Option<&str>) -> ClientTlsArgs {
        let file = |ending: &str| shows.map(|of| self.path(&format!("{of}.client.{ending}")));
        ClientTlsArgs {
            ca: Some(self.path(&format!("{ca}.ca"))),
            client_cert: file("cert"),
            client_key: file("key").map(SecretRef::File),
        }
    }

    fn client_options(&self) -> [String; 3] {
        [
            format!("--ca={}", self.path("ours.ca").display()),
            format!("--client-cert={}", self.path("ours.client.cert").display()),
            format!("--client-key={}", self.secret("ours.client.key")),
        ]
    }

    fn start(&self, program: &str, arguments: &[String]) -> Program {
        let log = self.path(&format!("{program}.log"));
        Program::start(&programs::built(program).unwrap(), arguments, "", &log).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_shows_a_certificate_of_the_authority_reaches_a_service() {
    let desk = Desk::new();
    let (listen, url) = free_address().unwrap();
    let https = url.replace("http:", "https:");
    let key = desk.secret("service.key");
    let mut audit = vec![
        "serve".to_owned(),
        format!("--listen={listen}"),
        format!("--store=sqlite:{}", desk.path("ledger.db").display()),
        format!("--checkpoint-file={}", desk.path("checkpoint").display()),
        format!("--signing-key={}", desk.secret("ledger.key")),
        format!("--seal-key={}", desk.secret("seal.key")),
        format!("--tls-cert={}", desk.path("ours.server.cert").display()),
        format!("--tls-key={}", desk.secret("ours.server.key")),
        format!("--tls-client-ca={}", desk.path("ours.ca").display()),
    ];
    // The same key under one name: each program here is the only one that uses it.
    audit.push(format!("--caller=projections={key}"));
    audit.push(format!("--caller=audit={}", desk.secret("auditor.key")));
    let audit = desk.start("audit-service", &audit);

    let secret = SecretRef::File(desk.path("service.key")).load().unwrap();
    let client = |url: &str, tls: ClientTlsArgs, secret: &Secret| {
        let options = Options::new(url, secret.clone());
        AuditClient::start(Options { http: tls.client().unwrap(), ..options })
    };
    let known = client(&https, desk.client("ours", Some("ours")), &secret);
    let deadline = Instant::now() + PATIENCE;
    while known.checkpoint().await.is_err() {
        assert!(Instant::now() < deadline, "{}", audit.last_words());
        tokio::time::sleep(POLL_PAUSE).await;
    }
    for (url, ca, shows) in [
        (&https, "ours", None),
        (&https, "ours", Some("other")),
        (&https, "other", Some("ours")),
        (&url, "ours", Some("ours")),
    ] {
        let answer = client(url, desk.client(ca, shows), &secret).checkpoint().await;
        assert!(answer.is_err(), "{url} {ca} {shows:?}: {answer:?}");
    }

    let (listen, gateway_url) = free_address().unwrap();
    desk.write("subscriptions.toml", "");
    let mut arguments = vec![
        format!("--listen={listen}"),
        format!("--subscriptions={}", desk.path("subscriptions.toml").display()),
        format!("--pepper={}", desk.secret("pepper.key")),
        format!("--patient-key={key}"),
        format!("--audit-key={key}"),
        format!("--audit-url={https}"),
    ];
    arguments.extend(desk.client_options());
    let gateway = desk.start("gateway", &arguments);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = reqwest::get(format!("{gateway_url}/readyz")).await;
        let ready: Option<Value> = match answer {
            Ok(answer) => answer.json().await.ok(),
            Err(_) => None,
        };
        if ready.is_some_and(|ready| ready["components"]["audit-service"] == "ready") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", gateway.last_words());
        tokio::time::sleep(POLL_PAUSE).await;
    }

    let (store, auditor) = (desk.path("patients.db"), desk.path("auditor.key"));
    let status = [
        "status".to_owned(),
        format!("--audit-url={https}"),
        format!("--audit-key={key}"),
        format!("--store=sqlite:{}", store.display()),
    ];
    let checkpoint = [
        "checkpoint".to_owned(),
        format!("--url={https}"),
        format!("--key-file={}", auditor.display()),
    ];
    let [ca, certificate @ ..] = desk.client_options();
    for (program, arguments) in [("projections", &status[..]), ("audit", &checkpoint)] {
        let with = async |options: &[String]| {
            let arguments = [arguments, options].concat();
            programs::run(program, &arguments, desk.0.path(), PATIENCE).await.unwrap()
        };
        for too_little in [&[][..], std::slice::from_ref(&ca), &certificate] {
            assert!(!with(too_little).await.status.success(), "{program} {too_little:?}");
        }
        let output = with(&desk.client_options()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
