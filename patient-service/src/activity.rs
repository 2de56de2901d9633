//! Accounting of disclosures: who touched which patients, when, why and with what outcome.
//!
//! The request is itself recorded first. Its answer waits, bounded, until the follower has passed
//! that record, so it is complete to a place in the ledger that it names. It holds metadata alone
//! and so is given of removed and erased patients, too.

mod csv;
mod entry;
mod page;
mod parameters;
mod wait;

use domain::{
    actor::{ActorKind, Outcome},
    ids::{PatientId, Stream},
    record::RecordType,
    wire::{Proposal, Receipt},
};
use http::{HeaderMap, StatusCode};
use projections::documents::{ActivityPage, Generation};
use tokio::time::timeout;

pub(crate) use page::Query;
pub(crate) use parameters::{Parameters, instant, limit, seq};

use crate::{
    answer::Answer,
    caller::Requester,
    error::{Failure, Missing},
    reads::READ_TIMEOUT,
    state::App,
};

/// Accountings under way at once. Each may wait for the follower for seconds; what is beyond is
/// answered 503 at once, so that a follower that stands still does not take the places of others.
pub(crate) const MAX_ACCOUNTINGS: usize = 32;

/// `GET /patient/{id}/activity`: of one patient, and nothing of others, though a search showed
/// them together.
pub(crate) async fn of_patient(
    app: &App,
    patient: PatientId,
    requester: &Requester,
    mut parameters: Parameters,
    headers: &HeaderMap,
) -> Result<Answer, Failure> {
    let mut query = Query::of_all_but_patient(&mut parameters)?;
    query.filter.patient = Some(patient);
    query.alone = true;
    parameters.finish()?;
    let accounting = account(app, requester, &query).await?;
    Ok(accounting.answer(&parameters, headers))
}

/// `GET /audit/activity`: of everybody.
pub(crate) async fn of_everybody(
    app: &App,
    requester: &Requester,
    mut parameters: Parameters,
    headers: &HeaderMap,
) -> Result<Answer, Failure> {
    let mut query = Query::of_all_but_patient(&mut parameters)?;
    query.filter.patient = parameters.one("patient", "must be a UUID", |text| text.parse().ok())?;
    parameters.finish()?;
    let accounting = account(app, requester, &query).await?;
    Ok(accounting.answer(&parameters, headers))
}

/// A page that is complete to its request's own record.
pub(crate) struct Accounting {
    pub(crate) receipt: Receipt,
    pub(crate) page: ActivityPage,
}

impl Accounting {
    fn answer(&self, parameters: &Parameters, headers: &HeaderMap) -> Answer {
        let answer = if csv::is_asked_for(headers) {
            let table = csv::table(&self.page.documents);
            Answer::with_body(&self.receipt, csv::MEDIA_TYPE, table.into_bytes())
        } else {
            let view = entry::Entries::of(self.receipt.seq, &self.page.documents);
            Answer::json(StatusCode::OK, &self.receipt, &view)
        };
        match self.page.next {
            Some(next) => answer.link(&format!("<?{}>; rel=\"next\"", parameters.link(next))),
            None => answer,
        }
    }
}

/// Records the request, waits until its record is followed, and reads all of it in one
/// generation.
pub(crate) async fn account(
    app: &App,
    requester: &Requester,
    query: &Query,
) -> Result<Accounting, Failure> {
    let _place = app.accountings.try_acquire().map_err(|_| Failure::TooManyAccountings)?;
    let work = async {
        let generation = app.generation()?;
        let receipt = record(app, generation, requester, query).await?;
        let generation = wait::until_followed(app, generation, &receipt).await?;
        let page = page::read(app.store.as_ref(), generation, query).await?;
        Ok(Accounting { receipt, page })
    };
    timeout(READ_TIMEOUT, work).await.unwrap_or(Err(Failure::ReadTimedOut))
}

/// Records the request. A patient who was never heard of has no accounting of her own: she is not
/// found, and that is recorded.
async fn record(
    app: &App,
    generation: Generation,
    requester: &Requester,
    query: &Query,
) -> Result<Receipt, Failure> {
    let patient = query.filter.patient;
    let append = async |outcome| {
        let access = Proposal {
            stream: patient.map(Stream::Patient),
            ..requester.proposal(RecordType::ActivityRead, outcome)
        };
        app.audit.append(access).await.map_err(Failure::of_access)
    };
    if let (Some(patient), true) = (patient, query.alone)
        && app.store.patient(generation, patient).await?.is_none()
    {
        let receipt = append(Outcome::NotFound).await?;
        if receipt.current_version.unwrap_or(0) == 0 {
            return Err(Failure::NotFound(Missing::Patient, Some(Box::new(receipt))));
        }
        // The ledger knows her, only the read model does not yet.
    }
    append(Outcome::Success).await
}

/// The word for what an actor's id names.
pub(crate) const fn kind_of(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::Subscription => "subscription",
        ActorKind::User => "user",
        ActorKind::Service => "service",
    }
}
