//! Closed-loop load over plain HTTP/1.1 connections, cheap enough to share two cores with what
//! it measures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use rand::Rng;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::report::Figures;

/// What a connection does again and again.
#[derive(Debug, Clone)]
pub enum Operation {
    /// `POST /patient`.
    Create,
    /// `GET /patient/{id}` of random ones of these.
    Load(Arc<Vec<String>>),
    /// `POST /patient/{id}/tests` for random ones of these.
    CreateTest(Arc<Vec<String>>),
    /// `GET /patient/{id}/tests` of random ones of these.
    ListTests(Arc<Vec<String>>),
    /// `POST /patient/search` by id.
    SearchById(Arc<Vec<String>>),
    /// `GET /echo/resource`: the gateway alone.
    Echo,
}

/// Where to send it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` of the gateway.
    pub address: String,
    /// A subscription key.
    pub key: String,
}

/// `connections` connections, each with one request under way, for a time.
pub async fn run(
    target: &Target,
    operation: &Operation,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Figures> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(target).await?);
    }
    let start = Instant::now();
    let tasks: Vec<_> = opened
        .into_iter()
        .map(|mut connection| {
            let operation = operation.clone();
            tokio::spawn(async move {
                let (mut latencies, mut failed) = (Vec::new(), 0);
                while start.elapsed() < time {
                    let begun = Instant::now();
                    match connection.once(&operation).await {
                        Ok(_) => latencies.push(begun.elapsed()),
                        Err(_) => failed += 1,
                    }
                }
                (latencies, failed)
            })
        })
        .collect();
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (these, not) = task.await?;
        latencies.extend(these);
        failed += not;
    }
    Ok(Figures::of(latencies, failed, start.elapsed()))
}

/// Creates patients and returns their ids.
pub async fn seed(target: &Target, count: usize) -> anyhow::Result<Vec<String>> {
    let left = Arc::new(AtomicUsize::new(count));
    let mut tasks = Vec::new();
    for _ in 0..32 {
        let mut connection = Connection::open(target).await?;
        let left = left.clone();
        tasks.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            let one_less = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                let patient: Value =
                    serde_json::from_slice(&connection.once(&Operation::Create).await?)?;
                ids.push(patient["id"].as_str().context("a patient has an id")?.to_owned());
            }
            anyhow::Ok(ids)
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await??);
    }
    Ok(ids)
}

/// One connection on which keys are tried.
#[derive(Debug)]
pub struct Raw(Connection);

impl Raw {
    /// Opens it.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        Connection::open(target).await.map(Self)
    }

    /// The status of `GET /echo/resource` with a key, once its whole answer is there.
    pub async fn status(&mut self, key: &str) -> anyhow::Result<u16> {
        let request = Request::builder()
            .uri("/echo/resource")
            .header("host", &self.0.target.address)
            .header("ocp-apim-subscription-key", key)
            .body(Full::new(Bytes::new()))?;
        self.0.sender.ready().await?;
        let response = self.0.sender.send_request(request).await?;
        let status = response.status().as_u16();
        response.into_body().collect().await?;
        Ok(status)
    }
}

/// A connection with one request under way at most.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    pub(super) async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, target: target.clone() })
    }

    /// One request, whose answer must have the status that the operation has.
    pub(super) async fn once(&mut self, operation: &Operation) -> anyhow::Result<Bytes> {
        let (method, path, body, expected) = operation.request();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.target.address)
            .header("ocp-apim-subscription-key", &self.target.key)
            .header("content-type", "text/plain; charset=utf-8")
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == expected, "{status} instead of {expected}");
        Ok(body)
    }
}

impl Operation {
    /// The operation of a name, on these patients: echo, create, load, create-test, list-tests,
    /// search.
    pub fn named(name: &str, patients: &Arc<Vec<String>>) -> Option<Self> {
        Some(match name {
            "echo" => Self::Echo,
            "create" => Self::Create,
            "load" => Self::Load(patients.clone()),
            "create-test" => Self::CreateTest(patients.clone()),
            "list-tests" => Self::ListTests(patients.clone()),
            "search" => Self::SearchById(patients.clone()),
            _ => return None,
        })
    }

    fn request(&self) -> (&'static str, String, String, StatusCode) {
        let one_of = |ids: &[String]| ids[rand::rng().random_range(0..ids.len())].clone();
        match self {
            Self::Create => ("POST", "/patient".to_owned(), patient(), StatusCode::CREATED),
            Self::Load(ids) => {
                ("GET", format!("/patient/{}", one_of(ids)), String::new(), StatusCode::OK)
            }
            Self::CreateTest(ids) => {
                ("POST", format!("/patient/{}/tests", one_of(ids)), test(), StatusCode::CREATED)
            }
            Self::ListTests(ids) => {
                ("GET", format!("/patient/{}/tests", one_of(ids)), String::new(), StatusCode::OK)
            }
            Self::SearchById(ids) => {
                let body = json!({ "id": one_of(ids) }).to_string();
                ("POST", "/patient/search".to_owned(), body, StatusCode::OK)
            }
            Self::Echo => {
                ("GET", "/echo/resource?param1=sample".to_owned(), String::new(), StatusCode::OK)
            }
        }
    }
}

/// A patient as the older system's load test makes them.
pub(crate) fn patient() -> String {
    let mut random = rand::rng();
    let mut name = || -> String { (0..6).map(|_| random.random_range('A'..='Z')).collect() };
    let (first, last) = (name(), name());
    let year = random.random_range(1920..2020);
    let (month, day) = (random.random_range(1..13), random.random_range(1..29));
    let post_code = random.random_range(1000..10_000);
    json!({
        "firstName": first, "lastName": last, "fullName": format!("{first} {last}"),
        "gender": "female", "dateOfBirth": format!("{year}-{month:02}-{day:02}"),
        "postCode": post_code.to_string(), "insuranceNumber": "123456789",
        "preferredContactNumber": "0123456789",
    })
    .to_string()
}

pub(crate) fn test() -> String {
    json!({
        "performer": "laboratory", "orderReference": "ORDER-1",
        "observations": [{
            "id": "1", "code": "2951-2", "measurement": "145 mmol/L",
            "interpretation": "normal", "status": "final", "issued": "2026-01-01T09:00:00Z",
        }],
    })
    .to_string()
}
