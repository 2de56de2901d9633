//! The vault and the resource manager, asked with the managed identity of the job.

use std::{net::IpAddr, sync::Arc, time::Duration};

use azure_core::{
    credentials::TokenCredential,
    error::ErrorKind,
    http::{ClientOptions, Transport},
    time::OffsetDateTime,
};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use azure_security_keyvault_secrets::{
    ResourceExt, SecretClient, SecretClientOptions,
    models::{SecretAttributes, SetSecretParameters},
};
use futures::TryStreamExt;
use reqwest::{Method, StatusCode, Url, header};
use runtime::secrets::{Secret, vault::VaultSecret};
use serde_json::Value;

use crate::Error;

/// The resource managers of the clouds. A token goes to these alone.
const MANAGERS: [&str; 3] =
    ["management.azure.com", "management.chinacloudapi.cn", "management.usgovcloudapi.net"];

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How long a change of a database may take.
const PATIENCE: Duration = Duration::from_mins(20);

/// The outcome of a change that takes longer.
const TOO_SLOW: &str = "still under way after 20 minutes";

/// Between two looks whether a change is done, where the service names no time.
pub(crate) const POLL: Duration = Duration::from_secs(5);

/// The longest pause that a service is granted.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Tries of a request to a busy resource manager.
const TRIES: u32 = 5;

/// Secrets are to be replaced after so long; they go on to work.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// Vault and resource manager.
pub struct Azure {
    http: reqwest::Client,
    credential: Arc<dyn TokenCredential>,
    vault: SecretClient,
    manager: Url,
}

/// A secret as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Whether it can be read.
    pub enabled: bool,
    /// When it is to be replaced, in RFC 3339.
    pub expires: Option<String>,
}

impl Azure {
    /// Both services by their addresses.
    ///
    /// # Errors
    /// [`Error::Setting`] for an address that is not one of Azure's, nor one of this machine.
    pub fn new(vault: &str, manager: &str, client_id: Option<String>) -> Result<Self, Error> {
        runtime::crypto::install_tls_provider();
        let wrong = |setting, reason| Error::Setting { setting, reason };
        let no_vault = || wrong("VITALOG_VAULT", "it looks like https://NAME.vault.azure.net");
        let vault = vault.trim_end_matches('/');
        // The services' own rule of what a vault is.
        format!("{vault}/secrets/name").parse::<VaultSecret>().map_err(|_| no_vault())?;
        let no_manager =
            || wrong("VITALOG_RESOURCE_MANAGER", "it looks like https://management.azure.com");
        let manager = Url::parse(manager).map_err(|_| no_manager())?;
        let host = manager.host_str().unwrap_or_default();
        let known = is_loopback(host) || (MANAGERS.contains(&host) && manager.port().is_none());
        if manager.scheme() != "https"
            || !known
            || manager.path() != "/"
            || manager.query().is_some()
        {
            return Err(no_manager());
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|_| wrong("TLS", "no client can be made"))?;
        let client_options = ClientOptions {
            transport: Some(Transport::new(Arc::new(http.clone()))),
            ..Default::default()
        };
        let credential = ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
            user_assigned_id: client_id.filter(|id| !id.is_empty()).map(UserAssignedId::ClientId),
            client_options: client_options.clone(),
        }))
        .map_err(|_| Error::Identity)?;
        let vault_host =
            Url::parse(vault).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        let options = SecretClientOptions {
            client_options,
            // A local vault has no domain that its challenge could name.
            verify_challenge_resource: Some(!vault_host.is_some_and(|host| is_loopback(&host))),
            ..Default::default()
        };
        let vault =
            SecretClient::new(vault, credential.clone(), Some(options)).map_err(|_| no_vault())?;
        Ok(Self { http, credential, vault, manager })
    }

    /// A secret's newest value; none where there is no such secret.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, Error> {
        let what = || format!("reading the secret {name}");
        let answer = match self.vault.get_secret(name, None).await {
            Err(error) if status(&error) == Some(404) => return Ok(None),
            answer => answer.map_err(|error| vault_error(what(), &error))?,
        };
        let value = answer.into_model().ok().and_then(|model| model.value);
        value.map(|value| Some(Secret::new(value))).ok_or_else(|| Error::Answer(what()))
    }

    /// A secret's newest value.
    ///
    /// # Errors
    /// [`Error::Missing`], and what the vault says.
    pub async fn need(&self, name: &str) -> Result<Secret, Error> {
        self.get(name).await?.ok_or_else(|| Error::Missing(name.to_owned()))
    }

    /// Makes a new version of a secret, which is to be replaced within a year where `expires`.
    pub async fn set(&self, name: &str, value: &Secret, expires: bool) -> Result<(), Error> {
        let what = || format!("writing the secret {name}");
        let text = value.text().map_err(|_| Error::Answer(what()))?;
        let attributes = SecretAttributes {
            expires: expires.then(|| OffsetDateTime::now_utc() + LIFETIME),
            ..Default::default()
        };
        let body = SetSecretParameters {
            value: Some(text.to_owned()),
            secret_attributes: Some(attributes),
            ..Default::default()
        };
        let body = body.try_into().map_err(|_| Error::Answer(what()))?;
        let answer = self.vault.set_secret(name, body, None).await;
        answer.map(|_| ()).map_err(|error| vault_error(what(), &error))
    }

    /// All secrets, by name, without values.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let what = || "listing the secrets".to_owned();
        let failed = |error: azure_core::Error| vault_error(what(), &error);
        let mut pages = self.vault.list_secret_properties(None).map_err(failed)?;
        let mut listed = Vec::new();
        while let Some(it) = pages.try_next().await.map_err(failed)? {
            let name = it.resource_id().map_err(failed)?.name;
            let attributes = it.attributes.unwrap_or_default();
            let expires = attributes.expires.map(|time| azure_core::time::to_rfc3339(&time));
            listed.push(Listed { name, enabled: attributes.enabled.unwrap_or(true), expires });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Asks the resource manager about a resource, or for an action on it, and waits until what it has
    /// taken on is done.
    pub(crate) async fn manage(
        &self,
        method: Method,
        id: &str,
        action: Option<&str>,
        version: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let path = action.map_or_else(|| id.to_owned(), |action| format!("{id}/{action}"));
        let what = format!("{method} {path}");
        let url = self.url(&what, &path, version)?;
        let answer = self.send(&what, method, url, body).await?;
        let later = answer.headers().get("azure-asyncoperation");
        let later = later.or_else(|| answer.headers().get(header::LOCATION)).cloned();
        match later {
            Some(later) if answer.status() != StatusCode::OK => {
                match self.done(&what, &later).await {
                    // Roles on a resource alone may not read operations, which are the subscription's.
                    Err(Error::Refused { status: 401 | 403 | 404, .. }) => {
                        self.settled(&what, id, version).await
                    }
                    done => done,
                }
            }
            _ => json(&what, answer).await,
        }
    }

    fn url(&self, what: &str, path: &str, version: &str) -> Result<Url, Error> {
        let mut url = self.manager.join(path).map_err(|_| Error::Answer(what.to_owned()))?;
        url.query_pairs_mut().append_pair("api-version", version);
        Ok(url)
    }

    /// Looks at a resource until it is no more being changed.
    async fn settled(&self, what: &str, id: &str, version: &str) -> Result<Value, Error> {
        let url = self.url(what, id, version)?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(POLL).await;
            let answer = self.send(what, Method::GET, url.clone(), None).await?;
            let resource = json(what, answer).await?;
            match resource["properties"]["provisioningState"].as_str() {
                Some("Succeeded") => return Ok(resource),
                Some(outcome @ ("Failed" | "Canceled")) => return Err(unfinished(what, outcome)),
                _ if tokio::time::Instant::now() > deadline => {
                    return Err(unfinished(what, TOO_SLOW));
                }
                _ => {}
            }
        }
    }

    /// Looks at an operation until it has ended.
    async fn done(&self, what: &str, at: &header::HeaderValue) -> Result<Value, Error> {
        let unreadable = || Error::Answer(what.to_owned());
        let url: Url =
            at.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(unreadable)?;
        // A token goes to the resource manager alone.
        if url.origin() != self.manager.origin() {
            return Err(unreadable());
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.send(what, Method::GET, url.clone(), None).await?;
            let pause = retry_after(&answer).unwrap_or(POLL);
            let is_under_way = answer.status() == StatusCode::ACCEPTED;
            let state = json(what, answer).await.unwrap_or_default();
            match state["status"].as_str() {
                Some("Succeeded") => return Ok(state),
                Some(outcome @ ("Failed" | "Canceled")) => return Err(unfinished(what, outcome)),
                None if !is_under_way => return Ok(state),
                _ if tokio::time::Instant::now() > deadline => {
                    return Err(unfinished(what, TOO_SLOW));
                }
                _ => tokio::time::sleep(pause.min(LONGEST_PAUSE)).await,
            }
        }
    }

    async fn send(
        &self,
        what: &str,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, Error> {
        let scope = if is_loopback(self.manager.host_str().unwrap_or_default()) {
            format!("https://{}/.default", MANAGERS[0])
        } else {
            format!("{}/.default", self.manager.origin().ascii_serialization())
        };
        for attempt in 1.. {
            let token =
                self.credential.get_token(&[&scope], None).await.map_err(|_| Error::Identity)?;
            let mut request =
                self.http.request(method.clone(), url.clone()).bearer_auth(token.token.secret());
            request = match body {
                Some(body) => request.json(body),
                // A POST without a body still needs its length.
                None if method == Method::POST => request.header(header::CONTENT_LENGTH, 0),
                None => request,
            };
            let answer = request.send().await;
            let is_busy = match &answer {
                Ok(answer) => answer.status().as_u16() == 429 || answer.status().is_server_error(),
                Err(_) => true,
            };
            if is_busy && attempt < TRIES {
                let asked = answer.ok().and_then(|answer| retry_after(&answer));
                let pause = asked.unwrap_or(Duration::from_secs(1 << attempt));
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                continue;
            }
            let answer =
                answer.map_err(|_| Error::Unreachable("the resource manager".to_owned()))?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let status = answer.status().as_u16();
            let reason = json(what, answer).await.unwrap_or_default();
            let code = plain_code(reason["error"]["code"].as_str().unwrap_or_default());
            return Err(Error::Refused { what: what.to_owned(), status, code });
        }
        unreachable!("the loop ends with an answer")
    }
}

fn unfinished(what: &str, outcome: &str) -> Error {
    Error::Unfinished { what: what.to_owned(), outcome: outcome.to_owned() }
}

async fn json(what: &str, answer: reqwest::Response) -> Result<Value, Error> {
    let unreadable = |_| Error::Answer(what.to_owned());
    let bytes = answer.bytes().await.map_err(unreadable)?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|_| Error::Answer(what.to_owned()))
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn status(error: &azure_core::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::HttpResponse { status, .. } => Some((*status).into()),
        _ => None,
    }
}

/// Without the error's own text, which may repeat a body.
fn vault_error(what: String, error: &azure_core::Error) -> Error {
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, .. } => {
            let code = plain_code(error_code.as_deref().unwrap_or_default());
            Error::Refused { what, status: (*status).into(), code }
        }
        ErrorKind::Credential => Error::Identity,
        ErrorKind::Connection | ErrorKind::Io => Error::Unreachable("the vault".to_owned()),
        _ => Error::Answer(what),
    }
}

/// A code, and not a text that may hold anything.
fn plain_code(code: &str) -> String {
    let is_plain = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_plain { code.to_owned() } else { String::new() }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
