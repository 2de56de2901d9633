//! Behaviours that concern several store values or calls at once.

use std::{collections::HashMap, sync::Arc};

use audit_service::{block::Block, store::AppendError};
use futures::future::join_all;

use super::{
    backend::Backend,
    fixture::{BlockBuilder, event, mac, patient, plain},
};

pub(super) async fn of_racing_appends_one_succeeds(backend: &Backend) {
    const WRITERS: u64 = 8;
    let stores = [backend.open().await, backend.open().await];
    let mut first = 0;
    for _ in 0..10 {
        let attempts = (0..WRITERS).map(|writer| {
            let store = Arc::clone(&stores[usize::from(writer % 2 == 0)]);
            let line = format!("by writer {writer} at {first}");
            let block = BlockBuilder::new(first)
                .with(plain(&line))
                .with(event(writer, first, first))
                .build();
            tokio::spawn(async move {
                match store.append(&block).await {
                    Ok(()) => Some(block),
                    Err(AppendError::Occupied { .. }) => None,
                    Err(error) => panic!("{error:?}"),
                }
            })
        });
        let outcomes = join_all(attempts).await;
        let won: Vec<Block> = outcomes.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(won.len(), 1, "at {first}");
        for store in &stores {
            assert_eq!(store.block_at(first).await.unwrap().as_ref(), won.first());
        }
        first = won[0].end();
    }
}

pub(super) async fn what_one_value_stored_another_sees(backend: &Backend) {
    let (one, other) = (backend.open().await, backend.open().await);
    for number in 0..20 {
        let block = BlockBuilder::new(number).with(event(1, number + 1, number)).build();
        let writer = if number % 2 == 0 { &one } else { &other };
        writer.append(&block).await.unwrap();
        for reader in [&one, &other] {
            assert_eq!(reader.head().await.unwrap().as_ref(), Some(&block));
            let versions = reader.stream_versions(&[patient(1)]).await.unwrap();
            assert_eq!(versions, HashMap::from([(patient(1), number + 1)]));
            let commands = reader.find_commands(&[mac(number)]).await.unwrap();
            assert_eq!(commands, HashMap::from([(mac(number), number)]));
        }
    }
}

pub(super) async fn reads_go_on_beside_appends(backend: &Backend) {
    const BLOCKS: u64 = 60;
    let store = backend.open().await;
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0..BLOCKS {
                let block = BlockBuilder::new(number).with(event(number, 1, number)).build();
                store.append(&block).await.unwrap();
            }
        })
    };
    let readers = (0..3).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < BLOCKS {
                for block in store.blocks_from(seen, 7).await.unwrap() {
                    assert_eq!(block.first, seen, "a gap");
                    seen = block.end();
                }
                let head = store.head().await.unwrap().map_or(0, |block| block.end());
                assert!(head >= seen, "the head fell back from {seen} to {head}");
            }
        })
    });
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    writer.await.unwrap();
}
