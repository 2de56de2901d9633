//! What a deployment has to show of itself from outside: its gateway serves, refuses and proves, and nothing else is
//! to be reached.

use std::{fmt::Write as _, net::ToSocketAddrs, time::Duration};

use anyhow::{Context, bail, ensure};
use audit_verify::{checkpoint::LedgerKey, proof_file::ProofFile};
use domain::hash::Hash;
use mongodb::{error::ErrorKind, options::ClientOptions};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::http::{Answer, Api, text_body, try_send};

/// How long what is written may take to be readable and proven.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection that nobody takes is waited for.
const CONNECT: Duration = Duration::from_secs(5);

/// What to look at, and with which keys.
#[derive(Debug)]
pub struct Target {
    /// The gateway.
    pub gateway: Url,
    /// A key with patient:read and patient:write.
    pub key: Option<String>,
    /// A key with audit:read.
    pub audit_key: Option<String>,
    /// A key with patient:erase, for what was created.
    pub erase_key: Option<String>,
    /// The verifier key that compliance has; else the one that the gateway shows.
    pub ledger_pub: Option<LedgerKey>,
    /// What must not be reached: `HOST:PORT`, `https://HOST` or `mongodb+srv://HOST`.
    pub internal: Vec<String>,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it has to be.
    Good,
    /// Not as it has to be, and why.
    Bad(String),
    /// Not looked at, and what is missing for that.
    LeftOut(&'static str),
}

/// A check by its name and what came of it.
pub type Check = (String, Outcome);

/// What was created, for the checks that stand on it.
struct Created {
    id: String,
    seq: u64,
    hash: Hash,
    trace: String,
}

/// Makes all checks, each on its own: one that fails does not hide another.
pub async fn run(target: &Target) -> Vec<Check> {
    let api = Api::new(target.gateway.as_str().trim_end_matches('/'));
    let mut checks = Checks(Vec::new());
    checks.add("encrypted", encrypted(target).await);
    checks.add("health and document", serves(&api).await);
    checks.add("refuse: no key, wrong key", strangers(&api).await);
    for place in &target.internal {
        checks.add(&format!("not reachable: {place}"), unreachable(place).await);
    }
    let Some(key) = &target.key else {
        for name in ["create", "refuse: bad input", "read", "prove", "record", "tidy up"] {
            checks.leave_out(name, "no key with patient:read and patient:write (--key)");
        }
        return checks.0;
    };
    let clinic = api.with_key(key);
    checks.add("refuse: bad input", bad_input(&clinic).await);
    let created = match create(&clinic).await {
        Ok(created) => created,
        Err(error) => {
            checks.add("create", Err(error));
            return checks.0;
        }
    };
    checks.add("create", Ok(()));
    checks.add("read", read(&clinic, &created).await);
    checks.add("prove", prove(&clinic, &created, target.ledger_pub.as_ref()).await);
    match &target.audit_key {
        Some(key) => checks.add("record", record(&api.with_key(key), &clinic, &created).await),
        None => checks.leave_out("record", "no key with audit:read (--audit-key)"),
    }
    match &target.erase_key {
        Some(key) => checks.add("tidy up", erase(&api.with_key(key), &clinic, &created).await),
        None => checks
            .leave_out("tidy up", "no key with patient:erase (--erase-key); a patient SMOKE stays"),
    }
    checks.0
}

struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &str, result: anyhow::Result<()>) {
        let outcome =
            result.map_or_else(|error| Outcome::Bad(format!("{error:#}")), |()| Outcome::Good);
        self.0.push((name.to_owned(), outcome));
    }

    fn leave_out(&mut self, name: &str, why: &'static str) {
        self.0.push((name.to_owned(), Outcome::LeftOut(why)));
    }
}

/// The lines that a person reads, and whether all is well.
pub fn report(checks: &[Check]) -> (String, bool) {
    let mut text = String::new();
    for (name, outcome) in checks {
        let _ = match outcome {
            Outcome::Good => writeln!(text, "ok        {name}"),
            Outcome::Bad(why) => writeln!(text, "FAILED    {name}: {why}"),
            Outcome::LeftOut(why) => writeln!(text, "left out  {name}: {why}"),
        };
    }
    let bad = checks.iter().filter(|it| matches!(it.1, Outcome::Bad(_))).count();
    let _ = match bad {
        0 => writeln!(text, "nothing wrong with what was looked at"),
        _ => writeln!(text, "{bad} of {} checks failed", checks.len()),
    };
    (text, bad == 0)
}

async fn answered(request: RequestBuilder, status: u16) -> anyhow::Result<Answer> {
    let answer = try_send(request).await?;
    ensure!(answer.status == status, "{answer:?}, and not {status}");
    Ok(answer)
}

fn parsed(answer: &Answer) -> anyhow::Result<Value> {
    serde_json::from_slice(&answer.body).with_context(|| format!("no JSON: {answer:?}"))
}

/// A refusal as RFC 9457 has it.
async fn refused(request: RequestBuilder, status: u16) -> anyhow::Result<()> {
    let answer = answered(request, status).await?;
    let problem = parsed(&answer)?;
    ensure!(problem["status"] == status, "a refusal without a status: {answer:?}");
    ensure!(problem["title"].is_string(), "a refusal without a title: {answer:?}");
    Ok(())
}

/// Only a gateway of this machine may be without TLS; and there is no way around it at port 80.
async fn encrypted(target: &Target) -> anyhow::Result<()> {
    let host = target.gateway.host_str().context("the address has no host")?;
    if target.gateway.scheme() != "https" {
        let is_local = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        ensure!(is_local, "{} is not encrypted", target.gateway);
        return Ok(());
    }
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let plain = client.timeout(CONNECT).build()?.get(format!("http://{host}/healthz")).send().await;
    match plain {
        Ok(answer) if answer.status().is_success() => bail!("http://{host} serves without TLS"),
        _ => Ok(()),
    }
}

async fn serves(api: &Api) -> anyhow::Result<()> {
    for path in ["/healthz", "/readyz"] {
        answered(api.request(Method::GET, path), 200).await?;
    }
    let document = parsed(&answered(api.request(Method::GET, "/openapi.json"), 200).await?)?;
    ensure!(document["paths"]["/patient"].is_object(), "/openapi.json does not have /patient");
    Ok(())
}

/// Whoever has no key is nobody, whatever internal headers they send.
async fn strangers(api: &Api) -> anyhow::Result<()> {
    let paths =
        ["/patient/00000000-0000-4000-8000-000000000000", "/audit/records", "/audit/checkpoint"];
    for path in paths {
        refused(api.request(Method::GET, path), 401).await?;
        let wrong = api.with_key("0".repeat(64));
        refused(wrong.request(Method::GET, path), 401).await?;
        let spoofed = api
            .request(Method::GET, path)
            .header("x-functions-key", "0")
            .header("vitalog-service-key", "0")
            .header("x-forwarded-for", "127.0.0.1");
        refused(spoofed, 401).await?;
    }
    Ok(())
}

async fn bad_input(clinic: &Api) -> anyhow::Result<()> {
    let post = |body: &'static str| clinic.request(Method::POST, "/patient").body(body);
    for body in ["", "{", "[]", r#"{"firstName":1}"#] {
        refused(post(body), 400).await?;
    }
    let nobody = "/patient/00000000-0000-4000-8000-000000000000";
    refused(clinic.request(Method::GET, nobody), 404).await
}

/// A receipt: `seq=<n>, hash="<hex>"`.
fn receipt(answer: &Answer) -> anyhow::Result<(u64, Hash)> {
    let parse = || {
        let (seq, hash) = answer.header("audit-receipt")?.strip_prefix("seq=")?.split_once(", ")?;
        let hash = hash.strip_prefix("hash=\"")?.strip_suffix('"')?;
        Some((seq.parse().ok()?, hash.parse().ok()?))
    };
    parse().with_context(|| format!("no receipt with {answer:?}"))
}

/// Twice with one Idempotency-Key, as a client does that has lost the answer.
async fn create(clinic: &Api) -> anyhow::Result<Created> {
    let trace = format!("{:032x}", rand::random_range(1..u128::MAX));
    let body = json!({
        "firstName": "SMOKE", "lastName": "TEST", "gender": "other", "dateOfBirth": "1999", "postCode": "0000",
    });
    let key = format!("smoke-{trace}");
    let request = || {
        text_body(clinic.request(Method::POST, "/patient"), &body)
            .header("idempotency-key", &key)
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
    };
    let first = answered(request(), 201).await?;
    let (seq, hash) = receipt(&first)?;
    let id = parsed(&first)?["id"].as_str().context("a patient without an id")?.to_owned();
    let again = answered(request(), 201).await?;
    ensure!(parsed(&again)?["id"] == id.as_str(), "a repeated request made another patient");
    ensure!(receipt(&again)? == (seq, hash), "a repeated request has another receipt");
    Ok(Created { id, seq, hash, trace })
}

async fn read(clinic: &Api, created: &Created) -> anyhow::Result<()> {
    let path = format!("/patient/{}", created.id);
    let answer = answered(clinic.request(Method::GET, &path), 200).await?;
    ensure!(parsed(&answer)?["firstName"] == "SMOKE", "another patient than was created");
    let tag = answer.header("etag").context("a patient without an ETag")?;
    answered(clinic.request(Method::GET, &path).header("if-none-match", tag), 304).await?;
    Ok(())
}

/// The receipt's record is in the signed tree, and a checkpoint of before is a beginning of it.
async fn prove(clinic: &Api, created: &Created, pinned: Option<&LedgerKey>) -> anyhow::Result<()> {
    let shown = answered(clinic.request(Method::GET, "/audit/key"), 200).await?;
    let shown: LedgerKey = std::str::from_utf8(&shown.body)?.trim().parse()?;
    if let Some(pinned) = pinned {
        ensure!(
            pinned.public() == shown.public(),
            "the gateway shows another key than --ledger-pub"
        );
    }
    let path = format!("/audit/records/{}/proof", created.seq);
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        let answer = try_send(clinic.request(Method::GET, &path)).await?;
        if answer.status == 200 {
            break answer;
        }
        ensure!(Instant::now() < deadline, "no proof: {answer:?}");
        sleep(Duration::from_millis(500)).await;
    };
    let proof = ProofFile::parse(std::str::from_utf8(&answer.body)?)?;
    ensure!(proof.index == created.seq, "a proof of record {}", proof.index);
    let head = proof.check(pinned.unwrap_or(&shown), created.hash)?;
    ensure!(head.size > created.seq, "a checkpoint from before the record");
    Ok(())
}

/// The record that the receipt names is there, hashes to it, carries the trace, and has no patient data in it.
async fn record(compliance: &Api, clinic: &Api, created: &Created) -> anyhow::Result<()> {
    let path = format!("/audit/records/{}", created.seq);
    refused(clinic.request(Method::GET, &path), 403).await?;
    let answer = answered(compliance.request(Method::GET, &path), 200).await?;
    let line = std::str::from_utf8(&answer.body)?.trim_end();
    ensure!(
        Hash::of_line(line) == created.hash,
        "the record is not the one that the receipt names"
    );
    ensure!(line.contains(&created.trace), "the record does not have the request's trace");
    ensure!(!line.contains("SMOKE"), "patient data can be read in the record");
    Ok(())
}

async fn erase(privacy: &Api, clinic: &Api, created: &Created) -> anyhow::Result<()> {
    let path = format!("/patient/{}", created.id);
    let reason = json!({"reason": "consentWithdrawn"});
    let request = text_body(privacy.request(Method::POST, &format!("{path}/erase")), &reason);
    let answer = try_send(request).await?;
    ensure!(matches!(answer.status, 200 | 202 | 204), "{answer:?}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = try_send(clinic.request(Method::GET, &path)).await?;
        if matches!(answer.status, 404 | 410) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still there: {answer:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Nothing of ours is to be reached at `HOST:PORT`, `https://HOST` or `mongodb+srv://HOST`.
async fn unreachable(place: &str) -> anyhow::Result<()> {
    if place.starts_with("https://") || place.starts_with("http://") {
        return silent(place).await;
    }
    if !place.starts_with("mongodb") {
        let port = place.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        ensure!(port.is_some(), "it is none of HOST:PORT, https://HOST and mongodb+srv://HOST");
        return closed(place.to_owned()).await;
    }
    let options = timeout(PATIENCE, ClientOptions::parse(place)).await;
    let hosts = match options.context("its name is not looked up in time")? {
        Ok(options) => options.hosts,
        Err(error) if matches!(*error.kind, ErrorKind::DnsResolve { .. }) => Vec::new(),
        Err(error) => bail!("it is no mongodb+srv://HOST: {error}"),
    };
    for host in hosts {
        closed(host.to_string()).await?;
    }
    Ok(())
}

/// No address, or nobody who takes a connection.
async fn closed(place: String) -> anyhow::Result<()> {
    let found = tokio::task::spawn_blocking(move || place.to_socket_addrs()).await?;
    for address in found.into_iter().flatten() {
        if let Ok(Ok(_)) = timeout(CONNECT, TcpStream::connect(address)).await {
            bail!("{address} takes connections");
        }
    }
    Ok(())
}

/// No service answers. The platform's own door may, for a name behind it: it has no JSON.
async fn silent(place: &str) -> anyhow::Result<()> {
    let api = Api::new(place.trim_end_matches('/'));
    for path in ["/healthz", "/checkpoint"] {
        let Ok(answer) = try_send(api.request(Method::GET, path)).await else { continue };
        let is_json = answer.header("content-type").is_some_and(|it| it.contains("json"));
        ensure!(!is_json && !(200..400).contains(&answer.status), "{path} is answered: {answer:?}");
    }
    Ok(())
}
