//! The books of a generation. Position, office and note are one document of `meta`, so that
//! each write can name who must be in office.

use async_trait::async_trait;
use domain::ids::PatientId;
use mongodb::bson::{RawArrayBuf, RawBson, RawDocumentBuf, doc, raw::cstr, rawdoc};
use uuid::Uuid;

use super::{
    META, MongoStore,
    apply::MAX_IDS,
    books::{self, Books, StoredParked, StoredPosition, books_id},
    command::{Statement, encode},
    failure, parked,
    reads::page,
    stored::int,
    within,
};
use crate::{
    documents::{Generation, Office, Parked, Position},
    store::{StoreError, Upkeep},
};

/// The books where this office is held.
fn held(generation: Generation, office: &Office) -> RawDocumentBuf {
    rawdoc! {
        "_id": books_id(generation),
        "term": int(office.term),
        "holder": office.holder.map_or(RawBson::Null, |holder| holder.to_string().into()),
    }
}

impl MongoStore {
    async fn books(&self, generation: Generation) -> Result<Option<Books>, StoreError> {
        within(self.require(generation)).await?;
        self.one(META, doc! { "_id": books_id(generation) }, books::books).await
    }

    /// Changes the books where they are as `q` says; whether they were.
    async fn set_books(
        &self,
        q: RawDocumentBuf,
        u: RawDocumentBuf,
        upsert: bool,
    ) -> Result<bool, StoreError> {
        let statement = Statement { q, u, upsert, multi: false };
        let outcome = self.update(META, &[statement]).await?;
        Ok(outcome.written > 0)
    }

    /// Changes the books in an office.
    async fn in_office(
        &self,
        generation: Generation,
        office: &Office,
        u: RawDocumentBuf,
    ) -> Result<(), StoreError> {
        self.require(generation).await?;
        if self.set_books(held(generation, office), u, false).await? {
            return Ok(());
        }
        // Books are missing also where another process dropped the generation.
        self.known_generations().remove(&generation.0);
        self.require(generation).await?;
        Err(StoreError::Fenced)
    }
}

#[async_trait]
impl Upkeep for MongoStore {
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError> {
        self.books(generation).await?.map_or(Ok(None), |books| books.position())
    }

    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        office: &Office,
    ) -> Result<(), StoreError> {
        within(async {
            self.require(generation).await?;
            let stored = StoredPosition::from(position);
            let mut q = held(generation, office);
            // Also where there is no position yet.
            q.append(cstr!("nextSeq"), rawdoc! { "$not": { "$gte": stored.next_seq } });
            let u = rawdoc! { "$set": encode(&stored)?, "$inc": { "beat": 1_i64 } };
            if self.set_books(q, u, false).await? {
                return Ok(());
            }
            self.in_office(generation, office, beat()).await
        })
        .await
    }

    async fn office(&self, generation: Generation) -> Result<Option<Office>, StoreError> {
        self.books(generation).await?.map_or(Ok(None), |books| books.office())
    }

    async fn take_office(
        &self,
        generation: Generation,
        seen: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError> {
        within(async {
            // Books that are made for a generation that another process dropped would stay.
            self.known_generations().remove(&generation.0);
            self.require(generation).await?;
            let q = match &seen {
                None => rawdoc! { "_id": books_id(generation), "term": { "$exists": false } },
                Some(seen) => {
                    let mut q = held(generation, seen);
                    q.append(cstr!("beat"), int(seen.beat));
                    q
                }
            };
            let term = seen.map_or(0, |office| office.term) + 1;
            let set = rawdoc! { "term": int(term), "holder": holder.to_string(), "beat": 0_i64 };
            // Where somebody else came first, the insert finds the `_id` taken.
            let taken = self.set_books(q, rawdoc! { "$set": set }, seen.is_none()).await?;
            Ok(taken.then_some(Office { holder: Some(holder), term, beat: 0 }))
        })
        .await
    }

    async fn beat(&self, generation: Generation, office: &Office) -> Result<(), StoreError> {
        within(self.in_office(generation, office, beat())).await
    }

    async fn leave_office(
        &self,
        generation: Generation,
        office: &Office,
    ) -> Result<(), StoreError> {
        let left = rawdoc! { "$unset": { "holder": "" }, "$inc": { "beat": 1_i64 } };
        match within(self.in_office(generation, office, left)).await {
            Err(StoreError::Fenced) => Ok(()),
            left => left,
        }
    }

    async fn park(&self, generation: Generation, parked: &Parked) -> Result<(), StoreError> {
        within(async {
            self.require(generation).await?;
            let q = rawdoc! { "_id": parked.patient.to_string() };
            let u = encode(&StoredParked::from(parked))?;
            let statement = Statement { q, u, upsert: true, multi: false };
            self.update_if_newer(&super::parked(generation), vec![statement]).await
        })
        .await
    }

    async fn parked(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        within(self.require(generation)).await?;
        let sort = doc! { "_id": 1 };
        self.many(&parked(generation), page(after), sort, Some(limit), books::parked).await
    }

    async fn retry_parked(
        &self,
        generation: Generation,
        patients: Option<&[PatientId]>,
    ) -> Result<u64, StoreError> {
        within(async {
            self.require(generation).await?;
            let ask = |q| Statement {
                q,
                u: rawdoc! { "$set": { "retry": true } },
                upsert: false,
                multi: true,
            };
            let of = |ids: &[PatientId]| {
                let ids: RawArrayBuf = ids.iter().map(PatientId::to_string).collect();
                ask(rawdoc! { "_id": { "$in": ids } })
            };
            let statements = match patients {
                None => vec![ask(rawdoc! {})],
                Some(patients) => patients.chunks(MAX_IDS).map(of).collect(),
            };
            let outcome = self.update(&parked(generation), &statements).await?;
            Ok(u64::try_from(outcome.written).unwrap_or(u64::MAX))
        })
        .await
    }

    async fn unpark(&self, generation: Generation, patient: PatientId) -> Result<(), StoreError> {
        within(async {
            self.require(generation).await?;
            let filter = doc! { "_id": patient.to_string() };
            let gone = self.collection(&parked(generation)).delete_one(filter).await;
            gone.map(|_| ()).map_err(|error| failure::unavailable(&error))
        })
        .await
    }

    async fn note(&self, generation: Generation) -> Result<Option<String>, StoreError> {
        Ok(self.books(generation).await?.and_then(Books::note))
    }

    async fn set_note(
        &self,
        generation: Generation,
        note: &str,
        office: &Office,
    ) -> Result<(), StoreError> {
        let u = rawdoc! { "$set": { "note": note }, "$inc": { "beat": 1_i64 } };
        within(self.in_office(generation, office, u)).await
    }
}

fn beat() -> RawDocumentBuf {
    rawdoc! { "$inc": { "beat": 1_i64 } }
}
