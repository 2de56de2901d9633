//! A server that speaks the Blob service's protocol as far as anchors use it, with what goes
//! wrong on demand. The container has an immutability policy unless it is taken away.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

/// The account's path, as emulators have it, and the container.
pub(crate) const CONTAINER: &str = "/account/ledger";

/// A shared access signature, with what must not be encoded twice.
pub(crate) const SAS: &str = "sv=2021-12-02&sp=rcl&sig=can%2Fary%3D";

/// The bearer token that is good now.
const TOKEN: &str = "a-bearer-token";

#[derive(Clone, Default)]
pub(crate) struct BlobStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    blobs: BTreeMap<String, Vec<u8>>,
    /// Statuses of the next answers, with `Retry-After` where there is one.
    troubles: VecDeque<(u16, &'static str, Option<u32>)>,
    /// Whether the next upload is stored although the answer is an error.
    lose_answer: bool,
    without_policy: bool,
    /// Names of one page.
    page: usize,
    requests: Vec<String>,
    tokens_given: usize,
    /// Uploads are refused in this way instead of what `If-None-Match` brings.
    conflict: Option<(StatusCode, &'static str)>,
}

impl BlobStore {
    /// Starts it; returns the container's URL.
    pub(crate) async fn start() -> (Self, String) {
        let store = Self::default();
        store.lock().page = 3;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(store.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (store, format!("{url}{CONTAINER}"))
    }

    pub(crate) fn trouble(&self, status: u16, code: &'static str, retry_after: Option<u32>) {
        self.lock().troubles.push_back((status, code, retry_after));
    }

    pub(crate) fn lose_answer(&self) {
        self.lock().lose_answer = true;
    }

    pub(crate) fn answer_conflicts_with(&self, status: u16, code: &'static str) {
        self.lock().conflict = Some((StatusCode::from_u16(status).unwrap(), code));
    }

    pub(crate) fn without_policy(&self) {
        self.lock().without_policy = true;
    }

    pub(crate) fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.lock().blobs.insert(name.to_owned(), content.into());
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().blobs.keys().cloned().collect()
    }

    /// Methods and paths of the requests so far, without queries.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub(crate) fn tokens_given(&self) -> usize {
        self.lock().tokens_given
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

async fn serve(State(store): State<BlobStore>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
    store.lock().answer(&parts.method, &parts.uri, &parts.headers, &body)
}

impl Inner {
    fn answer(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response {
        let path = uri.path();
        self.requests.push(format!("{method} {path}"));
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if path == "/token" {
            return self.give_token(uri, header("metadata"), header("x-identity-header"));
        }
        let query = uri.query().unwrap_or_default();
        let bearer = format!("Bearer {TOKEN}{}", self.tokens_given);
        let authorised = query.ends_with(SAS) || header("authorization") == Some(bearer.as_str());
        if !authorised {
            return error(403, "AuthenticationFailed");
        }
        if header("x-ms-version").is_none_or(|version| version.len() != 10) {
            return error(400, "InvalidHeaderValue");
        }
        if header("authorization").is_some()
            && !header("x-ms-date").is_some_and(|date| date.ends_with(" GMT") && date.len() == 29)
        {
            return error(400, "MissingRequiredHeader");
        }
        if let Some((status, code, retry_after)) = self.troubles.pop_front() {
            let mut response = error(status, code);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            return response;
        }
        if path == CONTAINER && query.contains("comp=list") {
            return self.list(query);
        }
        let Some(name) = path.strip_prefix(CONTAINER).and_then(|name| name.strip_prefix('/'))
        else {
            return error(404, "ContainerNotFound");
        };
        match *method {
            Method::GET => match self.blobs.get(name) {
                Some(content) => content.clone().into_response(),
                None => error(404, "BlobNotFound"),
            },
            Method::PUT => self.upload(name, &header, body),
            _ => error(409, "BlobImmutableDueToPolicy"),
        }
    }

    fn upload<'a>(
        &mut self,
        name: &str,
        header: &impl Fn(&str) -> Option<&'a str>,
        body: &Bytes,
    ) -> Response {
        if header("x-ms-blob-type") != Some("BlockBlob") {
            return error(400, "MissingRequiredHeader");
        }
        if let Some((status, code)) = self.conflict.filter(|_| self.blobs.contains_key(name)) {
            return error(status.as_u16(), code);
        }
        let conditional = header("if-none-match") == Some("*");
        if self.blobs.contains_key(name) && (conditional || !self.without_policy) {
            let code = if conditional { "BlobAlreadyExists" } else { "BlobImmutableDueToPolicy" };
            return error(409, code);
        }
        self.blobs.insert(name.to_owned(), body.to_vec());
        if std::mem::take(&mut self.lose_answer) {
            return error(500, "OperationTimedOut");
        }
        StatusCode::CREATED.into_response()
    }

    /// List Blobs: pages by name, a marker that is opaque and needs escaping, a byte order mark.
    fn list(&self, query: &str) -> Response {
        let value = |name: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.unwrap_or_default().replace("%2F", "/").replace("%26", "&").replace("%3C", "<")
        };
        let (prefix, marker) = (value("prefix"), value("marker"));
        let after = marker.strip_prefix("after&<").unwrap_or_default();
        let mut left = self.blobs.keys().filter(|name| {
            name.starts_with(&prefix) && (marker.is_empty() || name.as_str() > after)
        });
        let page: Vec<_> = left.by_ref().take(self.page).collect();
        let next = left.next().and(page.last()).map(|last| format!("after&amp;&lt;{last}"));
        let mut blobs = String::new();
        for name in page {
            let properties = "<Properties><BlobType>BlockBlob</BlobType></Properties>";
            let name = name.replace('&', "&amp;");
            write!(blobs, "<Blob><Name>{name}</Name>{properties}</Blob>").unwrap();
        }
        let next = next.unwrap_or_default();
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults>\
             <Prefix>{prefix}</Prefix><Blobs>{blobs}</Blobs><NextMarker>{next}</NextMarker>\
             </EnumerationResults>"
        )
        .into_response()
    }

    /// The endpoint of a managed identity: of a machine, or of an app.
    fn give_token(&mut self, uri: &Uri, metadata: Option<&str>, app: Option<&str>) -> Response {
        let query = uri.query().unwrap_or_default();
        let resource = query.contains("resource=https%3A%2F%2Fstorage.azure.com%2F");
        let known = metadata == Some("true") || app == Some("app-secret");
        if !resource || !known {
            return StatusCode::BAD_REQUEST.into_response();
        }
        self.tokens_given += 1;
        let token = format!("{TOKEN}{}", self.tokens_given);
        // One kind of endpoint says how long, the other until when.
        let expiry = if app.is_some() {
            "\"expires_on\":\"253402300799\"".to_owned()
        } else {
            "\"expires_in\":\"86400\"".to_owned()
        };
        format!("{{\"access_token\":\"{token}\",{expiry},\"token_type\":\"Bearer\"}}")
            .into_response()
    }
}

fn error(status: u16, code: &'static str) -> Response {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    (StatusCode::from_u16(status).unwrap(), [("x-ms-error-code", code)], body).into_response()
}
