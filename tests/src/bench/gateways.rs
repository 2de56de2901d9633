//! A gateway before an upstream that answers at once: ours and nginx, as processes of their own.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

use super::load::Target;
use crate::{
    programs::{self, Program},
    system::{free_address, wait_for_ready},
};

/// Bytes of the upstream's answer: a patient with every field.
const ANSWER_BYTES: usize = 500;

/// How long a program may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests a second that no run comes near, so that limits count and never refuse.
const RATE: u32 = 1_000_000;

/// Runs nginx until its own input ends, however the benchmark does: neither the master nor the
/// workers are left behind.
const RUN_NGINX: &str = r#"trap '' INT HUP; "$0" -p "$1" -c "$1/nginx.conf" <&- & child=$!
read -r line; kill -TERM "$child"; wait "$child""#;

/// An upstream in this process: JSON of `ANSWER_BYTES` bytes for every GET.
#[derive(Debug)]
pub struct Upstream {
    /// `host:port`.
    pub address: String,
    // Ends the upstream when it is dropped.
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let frame = r#"{"a":""}"#.len();
        let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(ANSWER_BYTES - frame));
        let answer = async move || ([(CONTENT_TYPE, "application/json")], body.clone());
        let app = Router::new().fallback(get(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // It only ends with the benchmark.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, _tasks: tasks })
    }
}

/// The built `gateway` before an upstream.
#[derive(Debug)]
pub struct OwnGateway {
    /// Where it is, and a key with `patient:read`.
    pub target: Target,
    // Kept because it ends, or is removed, when it is dropped.
    _program: Program,
    _folder: TempDir,
}

impl OwnGateway {
    /// Starts it with one subscription, whose rate counts and never refuses unless `add` says
    /// otherwise. `add` is what `subscriptions add` is told besides; `serve` what the gateway is.
    pub async fn start(upstream: &str, add: &[String], serve: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let secret = |name: &str| -> anyhow::Result<String> {
            let path = folder.path().join(name);
            let text = runtime::secrets::random_key_hex();
            runtime::secrets::write_secret_file(&path, text.as_str())?;
            Ok(format!("file:{}", path.display()))
        };
        let (pepper, service_key) = (secret("pepper")?, secret("service-key")?);
        let file = folder.path().join("subscriptions.toml").display().to_string();
        let mut arguments: Vec<String> = ["subscriptions", "add", "clinic", "--scope"]
            .into_iter()
            .chain(["patient:read", "--subscriptions", &file, "--pepper", &pepper, "--unrecorded"])
            .map(str::to_owned)
            .collect();
        if !add.iter().any(|argument| argument == "--rate") {
            arguments.extend(["--rate".to_owned(), RATE.to_string()]);
        }
        arguments.extend_from_slice(add);
        let output = programs::run("gateway", &arguments, folder.path(), PATIENCE).await?;
        let said = String::from_utf8(output.stdout)?;
        let is_key = |word: &&str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let key = said
            .split_whitespace()
            .find(is_key)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?
            .to_owned();

        let (address, url) = free_address()?;
        let upstream = format!("http://{upstream}");
        let mut arguments: Vec<String> = ["--listen", &address, "--subscriptions", &file]
            .into_iter()
            .chain(["--pepper", &pepper, "--patient-url", &upstream, "--audit-url", &upstream])
            .chain(["--patient-key", &service_key, "--audit-key", &service_key])
            .map(str::to_owned)
            .collect();
        arguments.extend_from_slice(serve);
        let log = folder.path().join("gateway.log");
        let program = Program::start(&programs::built("gateway")?, &arguments, "", &log)?;
        wait_for_ready(&url, PATIENCE).await.with_context(|| program.last_words())?;
        Ok(Self { target: Target { address, key }, _program: program, _folder: folder })
    }
}

/// nginx as a reverse proxy with a `map` of keys and `limit_req`.
#[derive(Debug)]
pub struct Nginx {
    /// Where it is, and its key.
    pub target: Target,
    child: Child,
    /// Closing it ends nginx.
    input: Option<ChildStdin>,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it with as many workers as there are cores.
    pub async fn start(program: &Path, upstream: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (address, url) = free_address()?;
        let key = "0123456789abcdef0123456789abcdef".to_owned();
        let configuration = configuration(&address, upstream, &key);
        fs::write(folder.path().join("nginx.conf"), configuration)?;
        let log = folder.path().join("nginx.log");
        let output = File::create(&log)?;
        let mut child = Command::new("sh")
            .args(["-c", RUN_NGINX])
            .arg(program)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting sh")?;
        let input = child.stdin.take();
        let nginx = Self { target: Target { address, key }, child, input, _folder: folder };
        let ready = wait_for_ready(&url, PATIENCE).await;
        ready.with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(mut input) = self.input.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.child.wait();
    }
}

/// What the gateway does, as far as nginx does it: a key, a limit, headers for the upstream,
/// connections that are kept. It has neither a log of requests nor scopes.
fn configuration(address: &str, upstream: &str, key: &str) -> String {
    format!(
        r#"daemon off;
worker_processes auto;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    map $http_ocp_apim_subscription_key $client {{ default ""; "{key}" "clinic"; }}
    limit_req_zone $client zone=clients:1m rate={RATE}r/s;
    upstream service {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen {address} backlog=1024;
        keepalive_requests 1000000000;
        client_max_body_size 1m;
        location = /readyz {{ return 200; }}
        location / {{
            if ($client = "") {{ return 401; }}
            limit_req zone=clients burst=100000 nodelay;
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Functions-Key "{key}";
            proxy_set_header X-Vitalog-Actor $client;
            proxy_set_header X-Vitalog-Client $remote_addr;
            proxy_set_header Ocp-Apim-Subscription-Key "";
            add_header X-Content-Type-Options nosniff;
            add_header Cache-Control no-store;
        }}
    }}
}}
"#
    )
}

/// A gateway must refuse a wrong key, or it measures nothing.
pub async fn checks_keys(target: &Target) -> anyhow::Result<()> {
    let api = crate::http::Api::new(format!("http://{}", target.address));
    for (key, status) in [(target.key.as_str(), 200), ("wrong", 401)] {
        let answer = api.with_key(key).get("/patient/1").await;
        ensure!(answer.status == status, "{answer:?} where {status} was expected");
    }
    Ok(())
}
