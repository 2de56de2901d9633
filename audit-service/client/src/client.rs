//! The client: appends of one process travel together.

use std::{sync::Arc, time::Duration};

use domain::{
    ids::{Mac, Stream},
    wire::{ConsistencyProof, Proposal, Receipt, Stored},
};
use reqwest::{Method, Response, StatusCode};
use runtime::{
    reloaded::Reloaded,
    secrets::{Secret, SecretRef},
    spans::Call,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    calls::{self, Appending, SERVICE, Service},
    error::{AppendError, ReadError},
    sender::{self, Append},
};

/// Appends that may wait in one process; more are refused with nothing stored.
const QUEUE: usize = 8_192;

/// First pause before an append of unknown outcome is sent again; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a read may take beyond the wait that it asks for.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a key that is named by reference is read again.
const KEY_INTERVAL: Duration = Duration::from_secs(1);

/// Lines asked for at once while a whole stream is read.
const STREAM_PAGE: usize = 1_000;

/// Set by the audit service when there are more lines than it answered.
pub(crate) const MORE_HEADER: &str = "x-vitalog-more";

/// How to reach the audit service.
#[derive(Debug, Clone)]
pub struct Options {
    /// Base address without a trailing slash, such as `http://127.0.0.1:7072`.
    pub url: String,
    /// This service's key.
    pub service_key: Secret,
    /// How long an append may take, sending again included.
    pub append_deadline: Duration,
    /// The client to reach it with; see [`runtime::client::internal_client`].
    pub http: reqwest::Client,
}

impl Options {
    /// Options with the default deadline of 8 seconds, which is longer than the audit
    /// service's own, so that its answer comes first.
    pub fn new(url: impl Into<String>, service_key: Secret) -> Self {
        let url = url.into().trim_end_matches('/').to_owned();
        let http = runtime::client::internal_client();
        Self { url, service_key, append_deadline: Duration::from_secs(8), http }
    }
}

/// Of which tree a record is to be proven to be a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofSize {
    /// The one whose checkpoint was signed right after the record's commit.
    Commit,
    /// The one of so many records.
    Exactly(u64),
    /// The newest one.
    Latest,
}

/// A handle to the audit service; clones share one queue and one connection pool.
#[derive(Clone)]
pub struct AuditClient {
    service: Arc<Service>,
    queue: mpsc::Sender<Append>,
}

impl AuditClient {
    /// Starts the sending task on the current runtime; it ends when the last handle is dropped.
    pub fn start(options: Options) -> Self {
        let Options { url, service_key, append_deadline, http } = options;
        let key = Reloaded::new("the service key for audit-service", service_key);
        let service = Arc::new(Service { http, url, key, append_deadline });
        let (queue, appends) = mpsc::channel(QUEUE);
        tokio::spawn(sender::run(service.clone(), appends));
        Self { service, queue }
    }

    /// Reads this service's key again every second, so that rotating it needs no restart, until
    /// the last handle is dropped; see [`Reloaded`].
    pub fn keep_reading_key(&self, reference: SecretRef) {
        tokio::spawn(self.service.key.keep_loading(KEY_INTERVAL, move || reference.load()));
    }

    /// Appends one record.
    ///
    /// While the outcome is unknown and the deadline has not passed, the record is sent again,
    /// marked as not fresh. An event then has one effect, by its command id; an access may be
    /// recorded twice, which overstates it and never hides it.
    pub async fn append(&self, mut proposal: Proposal) -> Result<Receipt, AppendError> {
        let appending = Appending::start(&mut proposal);
        let result = self.append_until_known(proposal, &appending).await;
        appending.end(result.as_ref().err());
        result
    }

    async fn append_until_known(
        &self,
        mut proposal: Proposal,
        appending: &Appending,
    ) -> Result<Receipt, AppendError> {
        let deadline = Instant::now() + self.service.append_deadline;
        let mut pause = FIRST_PAUSE;
        let mut maybe_stored = false;
        loop {
            let result = self.append_once(&proposal, appending, deadline).await;
            match &result {
                Err(AppendError::Unavailable(Stored::Unknown)) => maybe_stored = true,
                // Nothing stored *this* time says nothing about the time before.
                Err(AppendError::Unavailable(Stored::NothingStored)) if maybe_stored => {}
                _ => return result,
            }
            if Instant::now() + pause >= deadline {
                return Err(AppendError::Unavailable(Stored::Unknown));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            proposal.fresh = false;
        }
    }

    /// As [`AuditClient::append`], with a proof in the receipt: that of the commit, or one that
    /// is read afterwards where the command was recorded before. Absent if it cannot be had now;
    /// the record is durable all the same.
    pub async fn append_with_proof(&self, proposal: Proposal) -> Result<Receipt, AppendError> {
        let mut receipt = self.append(Proposal { proof: true, ..proposal }).await?;
        if receipt.proof.is_none() {
            receipt.proof = self.proof(receipt.seq, ProofSize::Commit).await.ok();
        }
        Ok(receipt)
    }

    async fn append_once(
        &self,
        proposal: &Proposal,
        appending: &Appending,
        deadline: Instant,
    ) -> Result<Receipt, AppendError> {
        let (append, answer) = Append::new(proposal.clone(), appending.clone(), deadline);
        if self.queue.try_send(append).is_err() {
            return Err(AppendError::Unavailable(Stored::NothingStored));
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(AppendError::Unavailable(Stored::Unknown)),
        }
    }

    /// The line of the record of a command, if the ledger has it.
    pub async fn command(&self, id: &Mac) -> Result<Option<String>, ReadError> {
        self.optional_line("/commands/{id}", &format!("/commands/{id}")).await
    }

    /// One line of the ledger.
    pub async fn record(&self, seq: u64) -> Result<Option<String>, ReadError> {
        self.optional_line("/records/{seq}", &format!("/records/{seq}")).await
    }

    /// Lines of one stream from a version on (1 is the first), all of them.
    pub async fn stream(
        &self,
        stream: Stream,
        from_version: u64,
    ) -> Result<Vec<String>, ReadError> {
        let mut lines = Vec::new();
        let mut from = from_version;
        loop {
            let (page, more) = self.stream_page(stream, from, STREAM_PAGE).await?;
            from += page.len() as u64;
            let empty = page.is_empty();
            lines.extend(page);
            if !more || empty {
                return Ok(lines);
            }
        }
    }

    /// As [`AuditClient::stream`], at most `limit` lines, and perhaps fewer where they are long;
    /// says whether there are more.
    pub async fn stream_page(
        &self,
        stream: Stream,
        from_version: u64,
        limit: usize,
    ) -> Result<(Vec<String>, bool), ReadError> {
        let path = format!("/streams/{stream}/records?from={from_version}&limit={limit}");
        self.lines("/streams/{stream}/records", &path, READ_TIMEOUT).await
    }

    /// Lines of the ledger from a position on, at most `limit`; where there is none yet, waits
    /// up to `wait` for one.
    pub async fn records(
        &self,
        from: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<String>, ReadError> {
        let path = format!("/records?from={from}&limit={limit}&wait={}", wait.as_secs());
        Ok(self.lines("/records", &path, wait + READ_TIMEOUT).await?.0)
    }

    /// The latest signed checkpoint: a C2SP signed note.
    pub async fn checkpoint(&self) -> Result<String, ReadError> {
        self.text("/checkpoint", "/checkpoint").await
    }

    /// The verifier key (C2SP vkey); its name is the ledger's origin.
    pub async fn verifier_key(&self) -> Result<String, ReadError> {
        Ok(self.text("/key", "/key").await?.trim_end().to_owned())
    }

    /// The ledger's key history, which nothing here checks: one line a key, oldest first, with the
    /// smallest size of a checkpoint that it signs.
    pub async fn keys(&self) -> Result<String, ReadError> {
        self.text("/keys", "/keys").await
    }

    /// The proof that a record is in the ledger's tree of a size: a C2SP tlog-proof file.
    pub async fn proof(&self, seq: u64, size: ProofSize) -> Result<String, ReadError> {
        let query = match size {
            ProofSize::Commit => String::new(),
            ProofSize::Latest => "?size=latest".to_owned(),
            ProofSize::Exactly(size) => format!("?size={size}"),
        };
        self.text("/records/{seq}/proof", &format!("/records/{seq}/proof{query}")).await
    }

    /// The proof that the tree of one size begins with that of another; the newest one where no
    /// larger size is given.
    pub async fn consistency(
        &self,
        from: u64,
        to: Option<u64>,
    ) -> Result<ConsistencyProof, ReadError> {
        let to = to.map_or_else(|| "latest".to_owned(), |to| to.to_string());
        let path = format!("/consistency?from={from}&to={to}");
        let response = self.get("/consistency", &path, READ_TIMEOUT).await?;
        response.json().await.map_err(|_| ReadError::Malformed)
    }

    /// A tile by its path after `tile/` (C2SP tlog-tiles), such as `0/x001/067.p/5`; `None` if
    /// the ledger's tree does not hold it.
    pub async fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError> {
        match self.get("/tile/{path}", &format!("/tile/{path}"), READ_TIMEOUT).await {
            Ok(response) => {
                let octets = response.bytes().await.map_err(ReadError::Unreachable)?;
                Ok(Some(octets.to_vec()))
            }
            Err(ReadError::Status(status)) if status == StatusCode::NOT_FOUND.as_u16() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn optional_line(
        &self,
        route: &'static str,
        path: &str,
    ) -> Result<Option<String>, ReadError> {
        match self.text(route, path).await {
            Ok(text) => Ok(Some(text.trim_end_matches('\n').to_owned())),
            Err(ReadError::Status(status)) if status == StatusCode::NOT_FOUND.as_u16() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn lines(
        &self,
        route: &'static str,
        path: &str,
        timeout: Duration,
    ) -> Result<(Vec<String>, bool), ReadError> {
        let response = self.get(route, path, timeout).await?;
        let more = response.headers().contains_key(MORE_HEADER);
        let text = response.text().await.map_err(ReadError::Unreachable)?;
        Ok((text.lines().map(str::to_owned).collect(), more))
    }

    async fn text(&self, route: &'static str, path: &str) -> Result<String, ReadError> {
        let response = self.get(route, path, READ_TIMEOUT).await?;
        response.text().await.map_err(ReadError::Unreachable)
    }

    /// Gets a path, which is one of this route's.
    async fn get(
        &self,
        route: &'static str,
        path: &str,
        timeout: Duration,
    ) -> Result<Response, ReadError> {
        let request = self.service.request(Method::GET, path).timeout(timeout);
        let call = Call::start(SERVICE, "GET", route);
        let response = calls::send(request, call).await.map_err(ReadError::Unreachable)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(ReadError::Status(response.status().as_u16()))
        }
    }
}
