//! A client of the public API, as a test wants it.

use std::{fmt, time::Duration};

use anyhow::Context;
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

/// How long an answer may take. Services answer within ten seconds, whatever happens to them.
const PATIENCE: Duration = Duration::from_secs(30);

/// The header that carries a subscription's key.
pub const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";

/// A client with a key or a token, or with none.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    key: Option<String>,
    token: Option<String>,
    http: reqwest::Client,
}

impl Api {
    /// A client without a key.
    pub fn new(base: impl Into<String>) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        Self {
            base: base.into(),
            key: None,
            token: None,
            http: http.expect("a client without settings"),
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self.clone() }
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// Where requests go.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to fill and [`send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        match &self.key {
            Some(key) => request.header(KEY_HEADER, key),
            None => request,
        }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON, sent as the old clients do: as text.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(text_body(self.request(Method::POST, path), body)).await
    }

    /// `PUT` of JSON, sent as the old clients do: as text.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        send(text_body(self.request(Method::PUT, path), body)).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }
}

/// Adds a JSON body with the content type that existing clients send.
pub fn text_body(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "text/plain; charset=utf-8").body(body.to_string())
}

/// Sends a request that must be answered.
///
/// # Panics
/// If it is not.
pub async fn send(request: RequestBuilder) -> Answer {
    match try_send(request).await {
        Ok(answer) => answer,
        Err(error) => panic!("no answer: {error:#}"),
    }
}

/// Sends a request whose connection may break.
pub async fn try_send(request: RequestBuilder) -> anyhow::Result<Answer> {
    let (client, request) = request.build_split();
    let request = request?;
    let what = format!("{} {}", request.method(), request.url().path());
    let response = client.execute(request).await.with_context(|| what.clone())?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.with_context(|| what.clone())?.to_vec();
    Ok(Answer { what, status, headers, body })
}

/// An answer.
#[derive(Clone)]
pub struct Answer {
    what: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// Where a request's record stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Position in the ledger.
    pub seq: u64,
    /// Hash of the line, in hexadecimal.
    pub hash: String,
}

impl Answer {
    /// The answer, which must have this status.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {self:?}"),
        }
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The receipt, which must be there and of the form `seq=<n>, hash="<hex>"`.
    #[track_caller]
    pub fn receipt(&self) -> Receipt {
        let parse = || {
            let (seq, hash) =
                self.header("audit-receipt")?.strip_prefix("seq=")?.split_once(", ")?;
            let hash = hash.strip_prefix("hash=\"")?.strip_suffix('"')?;
            (hash.len() == 64).then_some(())?;
            Some(Receipt { seq: seq.parse().ok()?, hash: hash.to_owned() })
        };
        parse().unwrap_or_else(|| panic!("no receipt: {self:?} {:?}", self.headers))
    }

    /// The problem details, which must be complete and of this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["statusCode"], status, "{self:?}");
        assert_eq!(problem["status"], status, "{self:?}");
        for member in ["message", "detail", "title", "type"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{member}: {self:?}");
        }
        problem
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let body: String = body.chars().take(600).collect();
        write!(f, "{} answered {}: {body}", self.what, self.status)
    }
}
