//! A live ledger over HTTP, through the gateway or at the audit service itself.

use std::time::{Duration, Instant};

use audit_verify::{checkpoint::LedgerKey, key_history::read_listing};
use http::{HeaderName, HeaderValue};
use reqwest::{Client, redirect};
use runtime::{client::ClientError, service_keys::SERVICE_KEY_HEADER};

use super::{
    address::ServerArgs,
    answer::{Consistency, detail_of, read_body, retry_after},
    error::SourceError,
    page::Page,
};

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a whole answer may take: 8 MB over a slow line.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// Times that one thing is asked for, at most.
const ATTEMPTS: u32 = 8;

/// Times that a server that never answered is tried: a wrong address should not take long.
const FIRST_CONTACT_ATTEMPTS: u32 = 4;

/// After this nothing is asked for again: a server that lets every request time out is down.
const MAX_PATIENCE: Duration = Duration::from_mins(3);

/// The first pause before something is asked for again; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Bytes of an answer with records at most. Servers end one with the line that passes 8 MiB.
const MAX_RECORDS_BYTES: usize = 8 * 1024 * 1024 + MAX_LINE_WITH_NEWLINE;

/// Bytes of one line with its newline.
const MAX_LINE_WITH_NEWLINE: usize = domain::record::MAX_LINE_BYTES + 1;

/// Records of one answer at most.
pub(crate) const MAX_LIMIT: u64 = 10_000;

/// Bytes of a key, a checkpoint, a proof or a problem at most.
const MAX_TEXT_BYTES: usize = 64 * 1024;

const SUBSCRIPTION_KEY_HEADER: &str = "ocp-apim-subscription-key";

/// Which door a ledger is read through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The gateway, under `/audit`.
    Gateway,
    /// The audit service itself.
    Service,
}

/// To which tree a record is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofSize {
    /// The newest.
    Latest,
    /// The one of this many records.
    At(u64),
}

/// A live ledger. Nothing that it says is believed because it says so.
pub(crate) struct HttpLedger {
    http: Client,
    door: Door,
    base: String,
    key_header: HeaderValue,
    shown_key: LedgerKey,
}

impl Door {
    const fn header(self) -> HeaderName {
        match self {
            Self::Gateway => HeaderName::from_static(SUBSCRIPTION_KEY_HEADER),
            Self::Service => HeaderName::from_static(SERVICE_KEY_HEADER),
        }
    }

    /// Which key this door takes.
    pub(crate) const fn expected_key(self) -> &'static str {
        match self {
            Self::Gateway => {
                "the gateway takes the key of a subscription with the scope audit:read"
            }
            Self::Service => "the audit service takes the service key of `audit`",
        }
    }
}

impl HttpLedger {
    /// Finds out what answers at the address, and reads the key that it shows.
    pub(crate) async fn connect(args: &ServerArgs) -> Result<Self, SourceError> {
        let key = args.key().load()?;
        let mut key_header =
            HeaderValue::from_bytes(key.bytes()).map_err(|_| SourceError::KeyNotSendable)?;
        key_header.set_sensitive(true);
        let http = Client::builder()
            // A key must not follow a redirect to somebody else.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT);
        let http = args.client_tls.apply(http)?.build().map_err(ClientError::Client)?;
        let url = args.url.as_str();
        let doors = if url.ends_with("/audit") {
            vec![(Door::Gateway, url.to_owned())]
        } else {
            vec![(Door::Gateway, format!("{url}/audit")), (Door::Service, url.to_owned())]
        };
        let mut refusals = Vec::new();
        for (door, base) in doors {
            let attempts = FIRST_CONTACT_ATTEMPTS;
            let caller = Caller { http: &http, door, key_header: &key_header, attempts };
            match caller.get(&format!("{base}/key"), MAX_TEXT_BYTES).await {
                Ok(bytes) => {
                    if let Some(shown_key) = read_key(&bytes) {
                        return Ok(Self { http, door, base, key_header, shown_key });
                    }
                }
                Err(error) if is_another_door(&error) => refusals.push(error),
                Err(error) => return Err(error),
            }
        }
        Err(refusal(url, refusals))
    }

    /// The verifier key that the server shows; its name is the ledger's origin.
    pub(crate) const fn key(&self) -> &LedgerKey {
        &self.shown_key
    }

    /// The keys that the server lists, oldest first, each with the smallest size that it signs;
    /// nothing in them is vouched for. None where the server has no such list.
    pub(crate) async fn keys(&self) -> Result<Vec<(u64, LedgerKey)>, SourceError> {
        match self.text("/keys", "a list of keys").await {
            Ok(text) => read_listing(&text).map_err(|_| SourceError::Malformed {
                url: self.at("/keys"),
                expected: "a list of keys",
            }),
            Err(error) if error.status() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Where the ledger is.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// The newest checkpoint: a signed note, not verified.
    pub(crate) async fn checkpoint(&self) -> Result<String, SourceError> {
        self.text("/checkpoint", "a checkpoint").await
    }

    /// The newest checkpoint that witnesses cosigned: a signed note, not verified.
    pub(crate) async fn witnessed_checkpoint(&self) -> Result<String, SourceError> {
        self.text("/checkpoint?witnessed=true", "a checkpoint").await
    }

    /// Records from a position on, at most `limit` of them and about 8 MB, exactly as served.
    /// Whether there are more is known from a checkpoint: the gateway does not pass the server's
    /// own word on.
    pub(crate) async fn records(&self, from: u64, limit: u64) -> Result<Page, SourceError> {
        let limit = limit.min(MAX_LIMIT);
        let url = self.at(&format!("/records?from={from}&limit={limit}"));
        let bytes = self.caller().get(&url, MAX_RECORDS_BYTES).await?;
        Ok(Page::new(from, bytes))
    }

    /// One record's line, without the newline; `None` if the server has none at this position.
    pub(crate) async fn record(&self, seq: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let url = self.at(&format!("/records/{seq}"));
        match self.caller().get(&url, MAX_LINE_WITH_NEWLINE).await {
            Ok(mut bytes) => {
                if bytes.pop() != Some(b'\n') {
                    return Err(SourceError::Malformed { url, expected: "one line" });
                }
                Ok(Some(bytes))
            }
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The proof file for one record, not checked.
    pub(crate) async fn proof(&self, seq: u64, size: ProofSize) -> Result<String, SourceError> {
        let size = match size {
            ProofSize::Latest => "latest".to_owned(),
            ProofSize::At(size) => size.to_string(),
        };
        self.text(&format!("/records/{seq}/proof?size={size}"), "a proof file").await
    }

    /// The proof that the ledger of size `to` begins with that of size `from`, not checked.
    pub(crate) async fn consistency(&self, from: u64, to: u64) -> Result<Consistency, SourceError> {
        let url = self.at(&format!("/consistency?from={from}&to={to}"));
        let bytes = self.caller().get(&url, MAX_TEXT_BYTES).await?;
        let expected = "a consistency proof";
        Consistency::parse(&bytes).ok_or(SourceError::Malformed { url, expected })
    }

    async fn text(&self, path: &str, expected: &'static str) -> Result<String, SourceError> {
        let url = self.at(path);
        let bytes = self.caller().get(&url, MAX_TEXT_BYTES).await?;
        String::from_utf8(bytes).map_err(|_| SourceError::Malformed { url, expected })
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    const fn caller(&self) -> Caller<'_> {
        let Self { http, door, key_header, .. } = self;
        Caller { http, door: *door, key_header, attempts: ATTEMPTS }
    }
}

/// How one asks at a door.
struct Caller<'a> {
    http: &'a Client,
    door: Door,
    key_header: &'a HeaderValue,
    /// Times that a server is tried that cannot be reached.
    attempts: u32,
}

impl Caller<'_> {
    /// Asks until there is an answer, it is clear that there will be none, or the tries are used
    /// up.
    async fn get(&self, url: &str, bound: usize) -> Result<Vec<u8>, SourceError> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let error = match self.get_once(url, bound).await {
                Err(error) if error.may_pass() => error,
                other => return other,
            };
            let attempts = if error.is_unreachable() { self.attempts } else { ATTEMPTS };
            if attempt >= attempts || started.elapsed() > MAX_PATIENCE {
                return Err(error);
            }
            let wait = error.retry_after().unwrap_or_default().max(pause).min(LONGEST_PAUSE);
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt += 1;
        }
    }

    async fn get_once(&self, url: &str, bound: usize) -> Result<Vec<u8>, SourceError> {
        let request = self.http.get(url).header(self.door.header(), self.key_header.clone());
        let response = request.send().await.map_err(|error| SourceError::Unreachable {
            url: url.to_owned(),
            source: error.without_url(),
        })?;
        let status = response.status().as_u16();
        if status == 200 {
            return read_body(response, url, bound).await;
        }
        let retry_after = retry_after(response.headers());
        let body = read_body(response, url, MAX_TEXT_BYTES).await.unwrap_or_default();
        let detail = detail_of(&body);
        Err(match status {
            401 => SourceError::NotAccepted { door: self.door },
            403 => SourceError::Forbidden { door: self.door, detail },
            _ => SourceError::Status { url: url.to_owned(), status, detail, retry_after },
        })
    }
}

/// Whether an answer to a request for the key means that the other door should be tried.
fn is_another_door(error: &SourceError) -> bool {
    matches!(error, SourceError::NotAccepted { .. } | SourceError::TooLong { .. })
        || error.status().is_some_and(|status| matches!(status, 404 | 405))
}

/// Why none of the doors opened.
fn refusal(url: &str, refusals: Vec<SourceError>) -> SourceError {
    let refused = |error: &SourceError| matches!(error, SourceError::NotAccepted { .. });
    if refusals.len() > 1 && refusals.iter().all(refused) {
        return SourceError::AcceptedNowhere;
    }
    let not_accepted = refusals.into_iter().find(refused);
    not_accepted.unwrap_or_else(|| SourceError::NoLedger { url: url.to_owned() })
}

fn read_key(bytes: &[u8]) -> Option<LedgerKey> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
