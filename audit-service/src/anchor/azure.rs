//! An anchor in an Azure blob container, through the REST protocol of the Blob service.
//!
//! The container's immutability policy keeps its operator from changing what is there; this
//! adapter itself only ever creates blobs.

use std::time::Duration;

use async_trait::async_trait;
use domain::ids::Name;
use http::{HeaderValue, StatusCode, header};
use reqwest::{Method, RequestBuilder, Url};
use runtime::secrets::SecretRef;

use self::{listing::Page, token::Identity};
use super::{
    Anchor, AnchorError, MAX_ANCHORED, MAX_NOTE_BYTES, check, file_name, note_from,
    same_checkpoint, size_in,
};
use crate::{
    clock::Clock,
    outside::http::{Answer, HttpError, send},
};

mod listing;
pub mod token;

/// The version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("2021-12-02");

/// Blobs of one page of a listing.
const PAGE: usize = 1_000;

/// Digits of a size in a blob's name.
const SIZE_DIGITS: usize = 20;

/// Bytes of one page at most: a blob takes about a kilobyte in it.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Pages of one listing at most; the service may answer with short ones.
const MAX_PAGES: usize = 100 * MAX_ANCHORED / PAGE;

/// Tries of one request at most.
const MAX_TRIES: u32 = 4;

/// The pause before the second try where the service names none; doubled with each try.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that the service is granted.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Checkpoints of ledgers as block blobs `<origin>/<size>.checkpoint`.
pub struct AzureBlobAnchor {
    container: Url,
    access: Access,
    clock: Clock,
    http: reqwest::Client,
}

/// How requests are authorised.
pub enum Access {
    /// A shared access signature, read again for each request.
    Sas(SecretRef),
    /// The managed identity of this machine or app.
    Identity(Identity),
}

/// What a request is about.
enum Target<'a> {
    Blob(&'a Name, u64),
    /// Of blobs whose size begins with these digits.
    Listing {
        origin: &'a Name,
        digits: &'a str,
        marker: &'a str,
        page: usize,
    },
}

impl AzureBlobAnchor {
    /// A container by its URL.
    pub fn new(container: Url, access: Access, clock: Clock) -> Self {
        Self { container, access, clock, http: runtime::client::internal_client() }
    }

    /// Sends a request, again where the service is busy or does not answer.
    async fn ask(
        &self,
        target: &Target<'_>,
        note: Option<&str>,
        limit: usize,
    ) -> Result<Answer, AnchorError> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let result = send(self.request(target, note).await?, limit).await;
            let wait = match &result {
                _ if tries == MAX_TRIES => None,
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                    self.forget_token().await
                }
                Ok(answer) if is_busy(answer.status) => Some(retry_after(answer).unwrap_or(pause)),
                Err(HttpError::Transport(_)) => Some(pause),
                _ => None,
            };
            let Some(wait) = wait else { return Ok(result?) };
            tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
            pause *= 2;
            tries += 1;
        }
    }

    async fn request(
        &self,
        target: &Target<'_>,
        note: Option<&str>,
    ) -> Result<RequestBuilder, AnchorError> {
        let mut url = self.url(target)?;
        let token = match &self.access {
            Access::Sas(reference) => {
                let sas = reference.load()?;
                let sas = sas.text()?.trim().trim_start_matches('?').to_owned();
                let query = url.query().map_or(sas.clone(), |query| format!("{query}&{sas}"));
                url.set_query(Some(&query));
                None
            }
            Access::Identity(identity) => Some(identity.token(&self.http, &self.clock).await?),
        };
        let method = if note.is_some() { Method::PUT } else { Method::GET };
        let mut request = self.http.request(method, url).header("x-ms-version", VERSION);
        if let Some(token) = token {
            request = request.bearer_auth(token.text()?);
        }
        if let Some(date) = self.date() {
            request = request.header("x-ms-date", date);
        }
        Ok(match note {
            None => request,
            Some(note) => request
                .header("x-ms-blob-type", "BlockBlob")
                .header(header::IF_NONE_MATCH, "*")
                .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
                .body(note.to_owned()),
        })
    }

    fn url(&self, target: &Target<'_>) -> Result<Url, AnchorError> {
        let mut url = self.container.clone();
        match target {
            Target::Blob(origin, size) => {
                let name = [origin.as_str(), &file_name(*size)];
                url.path_segments_mut().map_err(|()| AnchorError::Answer)?.extend(name);
            }
            Target::Listing { origin, digits, marker, page } => {
                let mut query = url.query_pairs_mut();
                query.append_pair("restype", "container").append_pair("comp", "list");
                query.append_pair("prefix", &format!("{origin}/{digits}"));
                query.append_pair("maxresults", &page.to_string());
                if !marker.is_empty() {
                    query.append_pair("marker", marker);
                }
            }
        }
        Ok(url)
    }

    /// A page of blobs whose size begins with these digits.
    async fn list(
        &self,
        origin: &Name,
        digits: &str,
        marker: &str,
        page: usize,
    ) -> Result<Page, AnchorError> {
        let target = Target::Listing { origin, digits, marker, page };
        let answer = self.ask(&target, None, MAX_PAGE_BYTES).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(&answer));
        }
        listing::parse(&answer.body).ok_or(AnchorError::Answer)
    }

    /// These digits and the largest one that any blob's size goes on with.
    async fn largest_digit(
        &self,
        origin: &Name,
        digits: &str,
    ) -> Result<Option<String>, AnchorError> {
        for digit in ('0'..='9').rev() {
            let longer = format!("{digits}{digit}");
            if self.any(origin, &longer).await? {
                return Ok(Some(longer));
            }
        }
        Ok(None)
    }

    /// Whether there is a blob whose name begins so. A page may be short, even empty.
    async fn any(&self, origin: &Name, digits: &str) -> Result<bool, AnchorError> {
        let mut marker = String::new();
        for _ in 0..MAX_PAGES {
            let Page { names, next } = self.list(origin, digits, &marker, 1).await?;
            if !names.is_empty() || next.is_empty() {
                return Ok(!names.is_empty());
            }
            marker = next;
        }
        Err(AnchorError::Answer)
    }

    /// RFC 1123, as requests with a token need it.
    fn date(&self) -> Option<String> {
        let now = chrono::DateTime::from_timestamp_millis((self.clock)().millis())?;
        Some(now.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
    }

    /// A token that was refused is not used again; a signature cannot be had anew.
    async fn forget_token(&self) -> Option<Duration> {
        match &self.access {
            Access::Sas(_) => None,
            Access::Identity(identity) => identity.forget().await.then_some(Duration::ZERO),
        }
    }
}

#[async_trait]
impl Anchor for AzureBlobAnchor {
    async fn keep(&self, origin: &Name, size: u64, note: &str) -> Result<(), AnchorError> {
        check(origin, size, note)?;
        let answer = self.ask(&Target::Blob(origin, size), Some(note), MAX_NOTE_BYTES).await?;
        match answer.status {
            StatusCode::CREATED => Ok(()),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                match self.read(origin, size).await {
                    Ok(kept) if same_checkpoint(&kept, note) => Ok(()),
                    Ok(_) | Err(AnchorError::NotANote { .. }) => Err(AnchorError::Differs { size }),
                    // There is nothing: it was refused for another reason.
                    Err(AnchorError::Missing { .. }) => Err(refused(&answer)),
                    Err(error) => Err(error),
                }
            }
            _ => Err(refused(&answer)),
        }
    }

    async fn sizes(&self, origin: &Name) -> Result<Vec<u64>, AnchorError> {
        let prefix = format!("{origin}/");
        let mut sizes = Vec::new();
        let mut marker = String::new();
        for _ in 0..MAX_PAGES {
            let Page { names, next } = self.list(origin, "", &marker, PAGE).await?;
            let ours = names.iter().filter_map(|name| size_in(name.strip_prefix(&prefix)?));
            sizes.extend(ours);
            if sizes.len() > MAX_ANCHORED {
                break;
            }
            if next.is_empty() {
                sizes.sort_unstable();
                return Ok(sizes);
            }
            marker = next;
        }
        Err(AnchorError::TooMany { limit: MAX_ANCHORED })
    }

    /// Digit by digit, as names sort as their sizes do: at most 201 short listings, whatever the number
    /// of blobs.
    async fn newest(&self, origin: &Name) -> Result<Option<u64>, AnchorError> {
        let mut digits = String::new();
        while digits.len() < SIZE_DIGITS {
            let Some(longer) = self.largest_digit(origin, &digits).await? else {
                if digits.is_empty() {
                    return Ok(None);
                }
                // Something else than a checkpoint begins so.
                return Ok(self.sizes(origin).await?.pop());
            };
            digits = longer;
        }
        match digits.parse() {
            Ok(size) if self.any(origin, &format!("{digits}.checkpoint")).await? => Ok(Some(size)),
            _ => Ok(self.sizes(origin).await?.pop()),
        }
    }

    async fn read(&self, origin: &Name, size: u64) -> Result<String, AnchorError> {
        let answer = match self.ask(&Target::Blob(origin, size), None, MAX_NOTE_BYTES).await {
            Err(AnchorError::Http(HttpError::TooLong { .. })) => {
                return Err(AnchorError::NotANote { size });
            }
            answer => answer?,
        };
        match answer.status {
            StatusCode::OK => note_from(size, answer.body),
            StatusCode::NOT_FOUND if code(&answer) == "BlobNotFound" => {
                Err(AnchorError::Missing { size })
            }
            _ => Err(refused(&answer)),
        }
    }
}

const fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn refused(answer: &Answer) -> AnchorError {
    AnchorError::Status { status: answer.status.as_u16(), code: code(answer).to_owned() }
}

/// The service's error code. It goes to the log, so anything else than a code is left out.
fn code(answer: &Answer) -> &str {
    let code = answer.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok());
    let plain = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    code.filter(plain).unwrap_or("without an error code")
}
