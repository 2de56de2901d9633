//! A patient service and a follower that share one fate, on a runtime of their own: when that
//! ends, nothing of them is left.

use std::{sync::Arc, time::Duration};

use domain::time::Timestamp;
use patient_service::{Deps, Door};
use projections::{
    follower,
    store::{ProjectionStore, hooked::Hooked},
};
use reqwest::Method;
use runtime::{
    health::Readiness,
    secrets::Secret,
    service_keys::{Callers, SERVICE_KEY_HEADER},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    crash::{Crash, Keys},
    world::{PATIENCE, World, ring, terms},
};

const GATEWAY_KEY: &str = "the-key-of-the-gateway-at-patients";

pub(super) struct Process {
    url: String,
    http: reqwest::Client,
    crash: Crash,
    runtime: Option<Runtime>,
}

/// What was answered: nothing, where the process ended or no connection was had.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    /// The read models follow later.
    pub(super) pending: bool,
}

impl Process {
    /// Starts one; it may have crashed when this returns.
    pub(super) async fn start(world: &World, crash: Crash) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let place = world.place.clone();
        let audit_url = world.audit.url().to_owned();
        let fate = crash.clone();
        runtime.spawn(async move {
            let store = Hooked::new(place.store().await, fate.clone());
            let store: Arc<dyn ProjectionStore> = Arc::new(store);
            let ring = ring(Arc::new(Keys { inner: place.keys().await, crash: fate }));
            let follower = follower::Deps {
                store: store.clone(),
                audit: crate::follower::audit::client(&audit_url, "projections"),
                ring: ring.clone(),
                ledger_key: None,
                clock: now,
            };
            let component = Readiness::default().component("follower");
            let stop = CancellationToken::new();
            tokio::spawn(follower::follow(
                follower,
                follower::Options { terms: terms(), ..follower::Options::default() },
                watch::Sender::default(),
                stop.clone(),
                component,
            ));
            let deps = Deps {
                audit: crate::follower::audit::client(&audit_url, "patient-service"),
                store,
                ring,
                command_key: Secret::new("c".repeat(64)),
                older_command_keys: Vec::new(),
                clock: now,
            };
            let callers = Callers::from_keys([("gateway", Secret::new(GATEWAY_KEY.as_bytes()))]);
            let door =
                Door { callers: Arc::new(callers.unwrap()), readiness: Readiness::default() };
            let listener = TcpListener::from_std(listener).unwrap();
            patient_service::run(listener, door, deps, stop).await.unwrap();
        });
        let http = runtime::client::internal_client();
        let process = Self { url, http, crash, runtime: Some(runtime) };
        process.ready().await;
        process
    }

    async fn ready(&self) {
        let ready = async {
            loop {
                let answer = self.http.get(format!("{}/readyz", self.url)).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ready = tokio::time::timeout(PATIENCE, ready) => ready.expect("it gets ready"),
            () = self.crash.happening() => {}
        }
    }

    /// Sends a command or a read as the gateway does; `None` where the process ended first.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let actor = json!({ "id": "clinic", "kind": "subscription" }).to_string();
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .header(SERVICE_KEY_HEADER, GATEWAY_KEY)
            .header(runtime::headers::ACTOR_HEADER, actor)
            .header(runtime::headers::CLIENT_HEADER, "192.0.2.7")
            .timeout(PATIENCE);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answered = async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let pending = response.headers().contains_key("x-projection");
            let body = serde_json::from_str(&response.text().await.ok()?).unwrap_or(Value::Null);
            Some(Answer { status, body, pending })
        };
        tokio::select! {
            answer = answered => answer,
            () = self.crash.happening() => None,
        }
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(mut self) {
        self.crash.now();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.crash.now();
            runtime.shutdown_background();
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}
