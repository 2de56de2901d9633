//! One witness, as the ledger's operator meets it.

use std::{fmt, str::FromStr};

use audit_verify::{cosignature::WitnessKey, keys::KeyError, proof_file::decimal};
use http::{StatusCode, header::CONTENT_TYPE};
use reqwest::Url;

use super::{request::AddCheckpoint, server::TREE_SIZE};
use crate::outside::http::{HttpError, send};

/// Bytes of a witness's answer at most: a few signature lines.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where a witness is, and the key that its cosignatures are checked with: `URL,VKEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessSpec {
    url: Url,
    key: WitnessKey,
}

/// Not a witness's `URL,VKEY`. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAWitness {
    /// No URL of HTTP, or none without user, password and query.
    #[error(
        "a witness is URL,VKEY, and its URL begins with https:// or http:// and has no user, password or query"
    )]
    Url,
    /// No verifier key of a witness.
    #[error("the witness's key cannot be used")]
    Key(#[source] KeyError),
}

/// What a witness answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It cosigned: the genuine signature line.
    Cosigned(String),
    /// It has a checkpoint of this size, and wants a proof from there.
    OtherSize(u64),
}

/// Why a submission brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// No usable answer.
    #[error("the witness gave no answer")]
    Http(#[from] HttpError),
    /// 409 at the size that was sent: the witness has seen another root there.
    #[error("the witness holds another root at this size")]
    Fork,
    /// 422: the ledger does not extend what the witness has seen, or the proof is wrong.
    #[error("the witness refused the consistency proof")]
    Inconsistent,
    /// Any other status.
    #[error("the witness answered with status {0}")]
    Status(StatusCode),
    /// 200 without a cosignature by the witness's key, or with a false one.
    #[error("the witness's answer holds no genuine cosignature by its key")]
    NotGenuine,
}

impl WitnessSpec {
    /// A witness at the prefix of its URLs.
    pub fn new(url: &str, key: WitnessKey) -> Result<Self, NotAWitness> {
        let url = Url::parse(&format!("{}/add-checkpoint", url.trim_end_matches('/')));
        let url = url.map_err(|_| NotAWitness::Url)?;
        // Errors of the HTTP client repeat it.
        let open = url.username().is_empty() && url.password().is_none();
        let plain = open && url.query().is_none() && url.fragment().is_none() && url.has_host();
        if plain && matches!(url.scheme(), "http" | "https") {
            Ok(Self { url, key })
        } else {
            Err(NotAWitness::Url)
        }
    }

    /// The witness's name, from its key.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// Sends a checkpoint with its proof, and checks what comes back.
    pub async fn submit(
        &self,
        http: &reqwest::Client,
        request: &AddCheckpoint,
    ) -> Result<Submitted, SubmitError> {
        let sending = http.post(self.url.clone()).body(request.to_text());
        let answer = send(sending, MAX_ANSWER_BYTES).await?;
        let text = String::from_utf8(answer.body).unwrap_or_default();
        match answer.status {
            StatusCode::OK => self
                .genuine_line(&request.note, &text)
                .map(Submitted::Cosigned)
                .ok_or(SubmitError::NotGenuine),
            StatusCode::CONFLICT => {
                let is_size =
                    answer.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == TREE_SIZE);
                let size = text.strip_suffix('\n').and_then(decimal).filter(|_| is_size);
                match size {
                    Some(size) if size != request.old => Ok(Submitted::OtherSize(size)),
                    _ => Err(SubmitError::Fork),
                }
            }
            StatusCode::UNPROCESSABLE_ENTITY => Err(SubmitError::Inconsistent),
            status => Err(SubmitError::Status(status)),
        }
    }

    /// The line of the answer that is this witness's genuine cosignature; those of other keys
    /// are passed over, as the protocol wants it.
    fn genuine_line(&self, note: &str, answer: &str) -> Option<String> {
        let lines = answer.split_inclusive('\n');
        lines
            .map(str::to_owned)
            .find(|line| matches!(self.key.cosigned_at(&format!("{note}{line}")), Ok(Some(_))))
    }
}

impl FromStr for WitnessSpec {
    type Err = NotAWitness;

    fn from_str(text: &str) -> Result<Self, NotAWitness> {
        let (url, key) = text.rsplit_once(',').ok_or(NotAWitness::Url)?;
        Self::new(url, key.parse().map_err(NotAWitness::Key)?)
    }
}

impl fmt::Debug for WitnessSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WitnessSpec").field(&self.key).finish()
    }
}
