//! The gateway under load, and what is created there first.

use std::{fmt, time::Duration};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use reqwest::{Client, Method, RequestBuilder, Response, Url, header::HeaderValue};
use runtime::secrets::Secret;
use serde_json::Value;

use super::{
    PATIENCE,
    mix::{Call, Known},
    samples,
};
use crate::http::KEY_HEADER;

/// Requests under way while patients and tests to ask for are created.
const CREATING: usize = 16;

/// Connections that are not used for that long are closed, before the gateway does it.
const IDLE: Duration = Duration::from_secs(5);

/// A gateway, and the key that it is used with.
#[derive(Debug)]
pub struct Target {
    client: Client,
    base: String,
    key: HeaderValue,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It was answered with this status instead of the expected one.
    Status {
        /// What came.
        got: u16,
        /// What should have come.
        expected: u16,
    },
    /// No answer within [`PATIENCE`].
    TimedOut,
    /// No connection.
    NoConnection,
    /// The connection broke before the whole answer was there.
    BrokenOff,
    /// It was due while as many as allowed were under way.
    Overrun,
    /// It could not be sent or counted.
    NotSent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { got, expected } => write!(f, "{got} instead of {expected}"),
            Self::TimedOut => write!(f, "no answer within {} s", PATIENCE.as_secs()),
            Self::NoConnection => f.write_str("no connection"),
            Self::BrokenOff => f.write_str("the connection broke"),
            Self::Overrun => f.write_str("overrun: too many under way"),
            Self::NotSent => f.write_str("not sent"),
        }
    }
}

impl Target {
    /// A gateway at `http://…` or `https://…`.
    ///
    /// # Errors
    /// When that is no such address, or the key is no text for a header.
    pub fn new(gateway: &Url, key: &Secret) -> anyhow::Result<Self> {
        ensure!(matches!(gateway.scheme(), "http" | "https"), "the gateway is at http(s)://…");
        runtime::crypto::install_tls_provider();
        let mut key = HeaderValue::from_bytes(key.bytes()).context("the key is no header value")?;
        key.set_sensitive(true);
        let client = Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE)
            .timeout(PATIENCE)
            .user_agent("vitalog-load")
            .build()?;
        Ok(Self { client, base: gateway.as_str().trim_end_matches('/').to_owned(), key })
    }

    /// The client whose connections everybody shares.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where requests go.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A call as a request.
    pub fn request(&self, call: &Call) -> RequestBuilder {
        let request = self
            .client
            .request(call.method.clone(), format!("{}{}", self.base, call.path))
            .header(KEY_HEADER, self.key.clone());
        match &call.body {
            // As the old clients do.
            Some(body) => {
                request.header("content-type", "text/plain; charset=utf-8").body(body.clone())
            }
            None => request,
        }
    }

    /// Sends a call and returns the whole body of the expected answer.
    ///
    /// # Errors
    /// [`Failure`] when there is none.
    pub async fn send(&self, call: &Call) -> Result<Bytes, Failure> {
        finish(call, self.request(call).send().await).await
    }

    /// Creates what `users` know.
    ///
    /// # Errors
    /// When anything cannot be created.
    pub async fn create_known(&self, users: usize) -> anyhow::Result<Vec<Known>> {
        let known = futures::stream::iter((0..users).map(|_| async {
            let patient = self.create("/patient".to_owned(), samples::patient()).await?;
            let test = self.create(format!("/patient/{patient}/tests"), samples::test()).await?;
            let receiver = self.create("/patient".to_owned(), samples::patient()).await?;
            anyhow::Ok(Known { patient, test, receiver })
        }));
        known.buffer_unordered(CREATING).try_collect().await
    }

    async fn create(&self, path: String, body: String) -> anyhow::Result<String> {
        let name = "creating what is asked for";
        let body = Some(Bytes::from(body));
        let call = Call { name, method: Method::POST, path, body, expected: 201 };
        let answer = self.send(&call).await.map_err(|failure| anyhow!("{name}: {failure}"))?;
        let created: Value = serde_json::from_slice(&answer).context(name)?;
        Ok(created["id"].as_str().context("an answer without an id")?.to_owned())
    }
}

/// The whole body of an answer, if it is the expected one.
///
/// # Errors
/// [`Failure`] if not.
pub async fn finish(call: &Call, response: reqwest::Result<Response>) -> Result<Bytes, Failure> {
    let response = response.map_err(|error| why(&error))?;
    let got = response.status().as_u16();
    // Read whatever it is, so that the connection can be used again.
    let body = response.bytes().await.map_err(|error| why(&error))?;
    if got == call.expected {
        Ok(body)
    } else {
        Err(Failure::Status { got, expected: call.expected })
    }
}

fn why(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        Failure::TimedOut
    } else if error.is_connect() {
        Failure::NoConnection
    } else if error.is_builder() {
        Failure::NotSent
    } else {
        Failure::BrokenOff
    }
}
