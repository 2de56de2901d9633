//! The books of a generation.

use async_trait::async_trait;
use domain::ids::PatientId;
use mongodb::bson::{doc, rawdoc};
use uuid::Uuid;

use super::{
    META, MongoStore,
    apply::position_id,
    command::{Statement, encode},
    stored::{self, StoredPosition},
    within,
};
use crate::{
    documents::{Generation, Office, Parked, Position},
    store::{StoreError, Upkeep},
};

#[async_trait]
impl Upkeep for MongoStore {
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError> {
        within(self.require(generation)).await?;
        self.one(META, doc! { "_id": position_id(generation) }, stored::position).await
    }

    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        _: &Office,
    ) -> Result<(), StoreError> {
        within(async {
            self.require(generation).await?;
            let stored = StoredPosition::new(position_id(generation), position);
            let q = rawdoc! { "_id": stored.id.as_str(), "nextSeq": { "$lt": stored.next_seq } };
            let u = encode(&stored)?;
            let statement = Statement { q, u, upsert: true, multi: false };
            self.update_if_newer(META, &[statement]).await
        })
        .await
    }

    async fn office(&self, _: Generation) -> Result<Option<Office>, StoreError> {
        Ok(None)
    }

    async fn take_office(
        &self,
        _: Generation,
        _: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError> {
        Ok(Some(Office { holder: Some(holder), term: 1, beat: 0 }))
    }

    async fn beat(&self, _: Generation, _: &Office) -> Result<(), StoreError> {
        Ok(())
    }

    async fn leave_office(&self, _: Generation, _: &Office) -> Result<(), StoreError> {
        Ok(())
    }

    async fn park(&self, _: Generation, _: &Parked) -> Result<(), StoreError> {
        Ok(())
    }

    async fn parked(
        &self,
        _: Generation,
        _: Option<PatientId>,
        _: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        Ok(Vec::new())
    }

    async fn retry_parked(
        &self,
        _: Generation,
        _: Option<&[PatientId]>,
    ) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn unpark(&self, _: Generation, _: PatientId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn note(&self, _: Generation) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn set_note(&self, _: Generation, _: &str, _: &Office) -> Result<(), StoreError> {
        Ok(())
    }
}
