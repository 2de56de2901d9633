//! Tokens of a managed identity: from App Service's endpoint, or from that of a virtual machine.

use std::time::Duration;

use reqwest::Url;
use runtime::{secrets::Secret, settings};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

use crate::{anchor::AnchorError, clock::Clock, outside::http::send};

/// What tokens are for.
const RESOURCE: &str = "https://storage.azure.com/";

/// The endpoint that a virtual machine reaches under this address alone.
const MACHINE_ENDPOINT: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// A token is not used in its last minutes.
const MARGIN: Duration = Duration::from_mins(5);

/// Bytes of one answer at most.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A managed identity, with its token while that is good.
pub struct Identity {
    endpoint: Endpoint,
    client_id: Option<String>,
    cached: Mutex<Option<Token>>,
}

/// Who gives tokens out.
pub enum Endpoint {
    /// The metadata service of a virtual machine, at this URL.
    Machine(String),
    /// App Service, Functions and Container Apps: a URL and a secret header.
    App {
        /// The URL.
        url: String,
        /// Shows that the request comes from the app.
        header: Secret,
    },
}

struct Token {
    secret: Secret,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
    #[serde(default)]
    expires_on: Option<Seconds>,
}

/// Some endpoints write a number, others a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

impl Seconds {
    fn get(&self) -> Option<i64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl Identity {
    /// The identity that this process has by its environment: `IDENTITY_ENDPOINT` and
    /// `IDENTITY_HEADER` where it is an app, else the machine's. `AZURE_CLIENT_ID` chooses one of
    /// several.
    pub fn from_environment() -> Self {
        let app = settings::env("IDENTITY_ENDPOINT").zip(settings::env("IDENTITY_HEADER"));
        let endpoint = app.map_or_else(
            || Endpoint::Machine(MACHINE_ENDPOINT.to_owned()),
            |(url, header)| Endpoint::App { url, header: Secret::new(header) },
        );
        Self::new(endpoint, settings::env("AZURE_CLIENT_ID"))
    }

    /// An identity; the client id chooses one of several.
    pub fn new(endpoint: Endpoint, client_id: Option<String>) -> Self {
        Self { endpoint, client_id, cached: Mutex::default() }
    }

    /// The token, a new one if there is none that is still good.
    pub(super) async fn token(
        &self,
        http: &reqwest::Client,
        clock: &Clock,
    ) -> Result<Secret, AnchorError> {
        let mut cached = self.cached.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| token.until > Instant::now()) {
            return Ok(token.secret.clone());
        }
        let token = self.fetch(http, clock).await?;
        Ok(cached.insert(token).secret.clone())
    }

    /// Drops the token; whether there was one.
    pub(super) async fn forget(&self) -> bool {
        self.cached.lock().await.take().is_some()
    }

    async fn fetch(&self, http: &reqwest::Client, clock: &Clock) -> Result<Token, AnchorError> {
        let (url, version) = match &self.endpoint {
            Endpoint::Machine(url) => (url, "2018-02-01"),
            Endpoint::App { url, .. } => (url, "2019-08-01"),
        };
        let unusable = |_| AnchorError::Token("the identity endpoint is no URL");
        let mut url = Url::parse(url).map_err(unusable)?;
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", RESOURCE);
        if let Some(id) = &self.client_id {
            url.query_pairs_mut().append_pair("client_id", id);
        }
        let request = match &self.endpoint {
            Endpoint::Machine(_) => http.get(url).header("Metadata", "true"),
            Endpoint::App { header, .. } => {
                http.get(url).header("X-IDENTITY-HEADER", header.text()?)
            }
        };
        let answer = send(request, MAX_TOKEN_BYTES).await?;
        if !answer.status.is_success() {
            return Err(AnchorError::Token("the identity endpoint refused"));
        }
        let parsed: Answer = serde_json::from_slice(&answer.body)
            .map_err(|_| AnchorError::Token("the identity endpoint's answer is no token"))?;
        let now = clock().millis() / 1_000;
        let left = parsed.expires_in.and_then(|seconds| seconds.get());
        let left = left.or_else(|| Some(parsed.expires_on?.get()? - now));
        let left = u64::try_from(left.unwrap_or_default()).unwrap_or_default();
        let good_for = Duration::from_secs(left).saturating_sub(MARGIN);
        Ok(Token { secret: Secret::new(parsed.access_token), until: Instant::now() + good_for })
    }
}
