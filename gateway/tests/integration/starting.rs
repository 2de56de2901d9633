//! A gateway whose subscriptions or settings are not there yet.

use std::time::Duration;

use gateway::config::{ConfigError, EdgeSettings, ServiceKey, Settings, UpstreamSettings};
use gateway::{GatewayError, Listeners, run_once_loaded};
use http::Method;
use runtime::client::internal_client;
use runtime::health::Readiness;
use runtime::secrets::{Secret, SecretError};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::harness::{CLINIC, Got, KEY_HEADER, PATIENCE, got, pepper, subscriptions};

/// What a gateway is given, as late as it likes.
type Late = oneshot::Sender<Result<Option<Settings>, ConfigError>>;

/// A gateway that has no settings yet.
struct Starting {
    url: String,
    settings: Option<Late>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), GatewayError>>,
}

impl Starting {
    async fn begin() -> Self {
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", public.local_addr().unwrap());
        let (settings, later) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            let told = stop.clone();
            let later = async move {
                tokio::select! {
                    later = later => later.unwrap(),
                    () = told.cancelled() => Ok(None),
                }
            };
            let (edge, readiness) = (EdgeSettings::default(), Readiness::default());
            run_once_loaded(Listeners::from(public), edge, readiness, later, stop).await
        });
        Self { url, settings: Some(settings), shutdown, running }
    }

    fn give(&mut self, settings: Result<Option<Settings>, ConfigError>) {
        assert!(self.settings.take().unwrap().send(settings).is_ok());
    }

    async fn ask(&self, method: Method, path: &str) -> Got {
        let request = internal_client().request(method, format!("{}{path}", self.url));
        got(request.header(KEY_HEADER, CLINIC)).await
    }

    async fn part(&self, name: &str) -> Value {
        self.ask(Method::GET, "/readyz").await.json()["components"][name].clone()
    }

    async fn until_part(&self, name: &str, expected: &str) {
        let changed = async {
            while self.part(name).await != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, changed).await.unwrap_or_else(|_| panic!("{name} is not {expected}"));
    }

    /// It lives, is not ready, and refuses everything else in the way of the API.
    async fn is_closed(&self) {
        assert_eq!(self.ask(Method::GET, "/healthz").await.status, 200);
        let ready = self.ask(Method::GET, "/readyz").await;
        assert_eq!((ready.status, &ready.json()["status"]), (503, &json!("not ready")));
        assert_eq!(self.ask(Method::POST, "/healthz").await.problem(405), "method not allowed");
        for (method, path) in [
            (Method::GET, "/echo/resource"),
            (Method::GET, "/patient/1"),
            (Method::DELETE, "/patient/1/"),
            (Method::GET, "/openapi.json"),
            (Method::GET, "/nowhere"),
        ] {
            let answer = self.ask(method, path).await;
            let said = answer.problem(503);
            assert_eq!(said, "the service is starting or stopping; nothing was stored");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }

    async fn ended(self) -> Result<(), GatewayError> {
        timeout(PATIENCE, self.running).await.expect("it ends").unwrap()
    }
}

pub(crate) fn settings(subscriptions: &str) -> Settings {
    let upstream = || UpstreamSettings {
        url: "http://127.0.0.1:1".into(),
        key: ServiceKey::Fixed(Secret::new("0123456789abcdef")),
    };
    let location: gateway::subscriptions::SubscriptionsLocation = subscriptions.parse().unwrap();
    Settings::new(upstream(), upstream(), location, pepper())
}

#[tokio::test]
async fn a_gateway_without_its_settings_lives_and_opens_when_it_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subscriptions.toml");
    gateway::subscriptions::write_file(&file, &subscriptions()).unwrap();
    let mut starting = Starting::begin().await;
    starting.is_closed().await;
    starting.give(Ok(Some(settings(file.to_str().unwrap()))));
    starting.until_part("routes", "ready").await;
    assert_eq!(starting.ask(Method::GET, "/echo/resource").await.status, 200);
    starting.shutdown.cancel();
    starting.ended().await.unwrap();
}

#[tokio::test]
async fn a_gateway_whose_subscriptions_are_away_lives_and_says_so() {
    // It takes connections and never says anything, and nobody is there.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for store in [silent.local_addr().unwrap(), gone] {
        let mut starting = Starting::begin().await;
        let uri = format!("mongodb://{store}/?directConnection=true&serverSelectionTimeoutMS=200");
        starting.give(Ok(Some(settings(&uri))));
        // The services are looked at meanwhile.
        starting.until_part("audit-service", "unreachable").await;
        starting.is_closed().await;
        assert_ne!(starting.part("subscriptions").await, "ready");
        assert_eq!(starting.part("routes").await, "starting");
        starting.shutdown.cancel();
        starting.ended().await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_that_never_gets_settings_ends_and_says_why() {
    let mut refused = Starting::begin().await;
    refused.is_closed().await;
    refused.give(Err(ConfigError::Pepper(SecretError::NotText)));
    let error = refused.ended().await.unwrap_err();
    assert!(matches!(error, GatewayError::Settings(ConfigError::Pepper(_))), "{error}");

    let stopped = Starting::begin().await;
    stopped.is_closed().await;
    stopped.shutdown.cancel();
    stopped.ended().await.unwrap();
}
