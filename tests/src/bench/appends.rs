//! Appends straight at the audit service, as patient-service sends them.

use std::time::{Duration, Instant};

use audit_client::AuditClient;
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::{KeyId, Mac, PatientId, Stream},
    record::{CommandRef, KeyName, RecordType},
    wire::Proposal,
};
use projections::{jwe, key_ring::DataKey};
use uuid::Uuid;

use super::report::Figures;

/// Content of a registration, about.
const CONTENT: &[u8] = br#"{"firstName":"ABCDEF","lastName":"GHIJKL","fullName":"ABCDEF GHIJKL","gender":"female","dateOfBirth":"1980-07-01","postCode":"1234","insuranceNumber":"123456789","preferredContactNumber":"0123456789"}"#;

/// `callers` tasks, each appending registrations one after another; with a proof in each receipt
/// or without. A receipt that lacks the proof counts as a failure.
pub async fn events(audit: &AuditClient, callers: usize, time: Duration, proof: bool) -> Figures {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let audit = audit.clone();
            tokio::spawn(async move {
                let key = data_key();
                let (mut latencies, mut failed) = (Vec::new(), 0);
                while start.elapsed() < time {
                    let proposal = Proposal { proof, ..registration(&key) };
                    let begun = Instant::now();
                    match audit.append(proposal).await {
                        Ok(receipt) if receipt.proof.is_some() == proof => {
                            latencies.push(begun.elapsed());
                        }
                        Ok(_) | Err(_) => failed += 1,
                    }
                }
                (latencies, failed)
            })
        })
        .collect();
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (these, not) = task.await.unwrap_or_default();
        latencies.extend(these);
        failed += not;
    }
    Figures::of(latencies, failed, start.elapsed())
}

fn data_key() -> DataKey {
    let secret: [u8; 32] = rand::random();
    DataKey::from_parts(KeyId::new(Uuid::new_v4()), secret.into())
}

fn registration(key: &DataKey) -> Proposal {
    let stream = Some(Stream::Patient(PatientId::new(Uuid::new_v4())));
    let record_type = RecordType::PatientRegistered;
    let actor = Actor {
        id: "bench".parse().expect("a name"),
        kind: ActorKind::Subscription,
        roles: vec![],
    };
    Proposal {
        stream,
        version: Some(1),
        schema: Some(domain::event::SCHEMA),
        client: Some([127, 0, 0, 1].into()),
        command: Some(CommandRef {
            digest: Mac::new(rand::random()),
            id: Mac::new(rand::random()),
            kid: KeyName::new([1, 2, 3, 4]),
        }),
        fresh: true,
        data: Some(jwe::seal(key, stream, record_type, Some(1), CONTENT)),
        ..Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
    }
}
