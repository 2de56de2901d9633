//! The books of a generation.

use std::ops::Bound;

use async_trait::async_trait;
use domain::ids::PatientId;
use uuid::Uuid;

use super::{MemoryStore, Models};
use crate::{
    documents::{Generation, Office, Parked, Position},
    store::{StoreError, Upkeep},
};

impl Models {
    /// Moves the beat of the one in office.
    fn beat(&mut self, office: &Office) -> Result<(), StoreError> {
        match &mut self.office {
            Some(stored) if (stored.term, stored.holder) == (office.term, office.holder) => {
                stored.beat += 1;
                Ok(())
            }
            _ => Err(StoreError::Fenced),
        }
    }
}

#[async_trait]
impl Upkeep for MemoryStore {
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError> {
        Ok(self.lock().models(generation)?.position)
    }

    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        office: &Office,
    ) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let models = shared.models(generation)?;
        models.beat(office)?;
        if models.position.is_none_or(|stored| stored.next_seq < position.next_seq) {
            models.position = Some(*position);
        }
        Ok(())
    }

    async fn office(&self, generation: Generation) -> Result<Option<Office>, StoreError> {
        Ok(self.lock().models(generation)?.office)
    }

    async fn take_office(
        &self,
        generation: Generation,
        seen: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError> {
        let mut shared = self.lock();
        let models = shared.models(generation)?;
        if models.office != seen {
            return Ok(None);
        }
        let term = seen.map_or(0, |office| office.term) + 1;
        models.office = Some(Office { holder: Some(holder), term, beat: 0 });
        Ok(models.office)
    }

    async fn beat(&self, generation: Generation, office: &Office) -> Result<(), StoreError> {
        self.lock().models(generation)?.beat(office)
    }

    async fn leave_office(
        &self,
        generation: Generation,
        office: &Office,
    ) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let models = shared.models(generation)?;
        if models.beat(office).is_ok()
            && let Some(stored) = &mut models.office
        {
            stored.holder = None;
        }
        Ok(())
    }

    async fn park(&self, generation: Generation, parked: &Parked) -> Result<(), StoreError> {
        let mut shared = self.lock();
        shared.models(generation)?.parked.insert(parked.patient, parked.clone());
        Ok(())
    }

    async fn parked(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        let mut shared = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let parked = shared.models(generation)?.parked.range((from, Bound::Unbounded));
        Ok(parked.take(limit).map(|(_, parked)| parked.clone()).collect())
    }

    async fn retry_parked(
        &self,
        generation: Generation,
        patients: Option<&[PatientId]>,
    ) -> Result<u64, StoreError> {
        let mut shared = self.lock();
        let mut asked = 0;
        for parked in shared.models(generation)?.parked.values_mut() {
            if patients.is_none_or(|patients| patients.contains(&parked.patient)) {
                parked.retry = true;
                asked += 1;
            }
        }
        Ok(asked)
    }

    async fn unpark(&self, generation: Generation, patient: PatientId) -> Result<(), StoreError> {
        self.lock().models(generation)?.parked.remove(&patient);
        Ok(())
    }

    async fn note(&self, generation: Generation) -> Result<Option<String>, StoreError> {
        Ok(self.lock().models(generation)?.note.clone())
    }

    async fn set_note(
        &self,
        generation: Generation,
        note: &str,
        office: &Office,
    ) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let models = shared.models(generation)?;
        models.beat(office)?;
        models.note = Some(note.to_owned());
        Ok(())
    }
}
