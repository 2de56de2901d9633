//! The conformance suite of the ledger store: what every adapter must do, adapter by adapter.

use std::collections::{HashMap, HashSet};

use audit_service::{
    block::{Block, MAX_BLOCK_RECORDS},
    store::AppendError,
};

use at_once::{
    of_racing_appends_one_succeeds, reads_go_on_beside_appends, what_one_value_stored_another_sees,
};
use backend::Backend;
use fixture::{BlockBuilder, event, fill, mac, patient, plain};
use tiles::{
    a_bad_tile_is_repaired_where_it_still_stands,
    a_wider_tile_replaces_a_narrower_one_and_never_the_reverse, tiles_come_back_as_they_were,
    tiles_that_were_tampered_with_are_repaired_and_never_served,
};

mod at_once;
mod backend;
mod fixture;
mod malformed;
mod memory_faults;
mod mongo_cluster;
mod opening;
mod tiles;

/// Runs each behaviour on a store of its own.
macro_rules! conformance {
    ($($adapter:ident),*; $behaviours:tt) => { $(conformance!(@one $adapter; $behaviours);)* };
    (@one $adapter:ident; { $($behaviour:ident),* $(,)? }) => {
        mod $adapter {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let backend = super::Backend::$adapter(stringify!($behaviour));
                super::$behaviour(&backend).await;
                backend.clean_up().await;
            })*
        }
    };
}

conformance!(memory, sqlite, mongo; {
    an_empty_ledger_holds_nothing,
    blocks_come_back_as_they_were,
    blocks_are_read_from_any_position_on,
    a_place_is_taken_once,
    of_racing_appends_one_succeeds,
    the_highest_version_of_a_stream_wins,
    many_streams_are_looked_up_at_once,
    commands_are_found,
    lines_of_a_stream_come_in_order,
    any_unicode_is_kept,
    the_largest_block_fits,
    everything_is_there_after_opening_again,
    what_one_value_stored_another_sees,
    reads_go_on_beside_appends,
    the_clock_runs,
    tiles_come_back_as_they_were,
    a_wider_tile_replaces_a_narrower_one_and_never_the_reverse,
    a_bad_tile_is_repaired_where_it_still_stands,
    tiles_that_were_tampered_with_are_repaired_and_never_served,
});

async fn an_empty_ledger_holds_nothing(backend: &Backend) {
    let store = backend.open().await;
    assert_eq!(store.head().await.unwrap(), None);
    assert_eq!(store.block_at(0).await.unwrap(), None);
    assert_eq!(store.blocks_from(0, 10).await.unwrap(), []);
    assert_eq!(store.stream_versions(&[patient(1)]).await.unwrap(), HashMap::new());
    assert_eq!(store.stream_versions(&[]).await.unwrap(), HashMap::new());
    assert_eq!(store.find_commands(&[mac(1)]).await.unwrap(), HashMap::new());
    assert_eq!(store.find_commands(&[]).await.unwrap(), HashMap::new());
    assert_eq!(store.stream_lines(patient(1), 1, 10).await.unwrap(), Vec::<String>::new());
}

async fn blocks_come_back_as_they_were(backend: &Backend) {
    let store = backend.open().await;
    let blocks = fill(&*store, 3).await;
    assert_eq!(store.head().await.unwrap().as_ref(), blocks.last());
    for block in &blocks {
        assert_eq!(store.block_at(block.first).await.unwrap().as_ref(), Some(block));
    }
    assert_eq!(store.blocks_from(0, 10).await.unwrap(), blocks);
    for inside in [blocks[1].first + 1, blocks[2].end(), u64::MAX] {
        assert_eq!(store.block_at(inside).await.unwrap(), None, "{inside}");
    }
}

async fn blocks_are_read_from_any_position_on(backend: &Backend) {
    let store = backend.open().await;
    let blocks = fill(&*store, 6).await;
    for seq in 0..=blocks[5].end() + 1 {
        for max in [1, 2, 5, 100] {
            let expected: Vec<&Block> =
                blocks.iter().filter(|block| block.end() > seq).take(max).collect();
            let found = store.blocks_from(seq, max).await.unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "from {seq}, at most {max}");
        }
    }
    assert_eq!(store.blocks_from(0, 0).await.unwrap().len(), 1, "at least one");
    assert_eq!(store.blocks_from(u64::MAX, 1).await.unwrap(), []);
}

async fn a_place_is_taken_once(backend: &Backend) {
    let store = backend.open().await;
    let stored = BlockBuilder::new(0).with(event(1, 1, 1)).with(plain("first")).build();
    let other = BlockBuilder::new(0).with(event(2, 1, 2)).with(plain("second")).build();
    store.append(&stored).await.unwrap();
    for block in [&other, &stored] {
        let error = store.append(block).await.unwrap_err();
        assert!(matches!(error, AppendError::Occupied { first: 0 }), "{error:?}");
    }
    assert_eq!(store.head().await.unwrap(), Some(stored));
    assert_eq!(store.stream_versions(&[patient(2)]).await.unwrap(), HashMap::new());
    assert_eq!(store.find_commands(&[mac(2)]).await.unwrap(), HashMap::new());
}

async fn the_highest_version_of_a_stream_wins(backend: &Backend) {
    let store = backend.open().await;
    // Two versions of one stream in one block, and other streams before and after it.
    let blocks = [
        BlockBuilder::new(0).with(event(1, 1, 11)).with(event(2, 1, 21)).build(),
        BlockBuilder::new(2)
            .with(event(1, 2, 12))
            .with(event(3, 1, 31))
            .with(event(1, 3, 13))
            .build(),
        BlockBuilder::new(5).with(event(3, 2, 32)).with(plain("an access")).build(),
    ];
    for block in blocks {
        store.append(&block).await.unwrap();
    }
    let asked = [patient(1), patient(2), patient(3), patient(4)];
    let expected = HashMap::from([(patient(1), 3), (patient(2), 1), (patient(3), 2)]);
    assert_eq!(store.stream_versions(&asked).await.unwrap(), expected);
}

async fn many_streams_are_looked_up_at_once(backend: &Backend) {
    const STREAMS: u64 = 120;
    const ROUNDS: u64 = 12;
    let store = backend.open().await;
    let mut first = 0;
    // Each round leaves out some streams of the round before it, so that latest versions are
    // spread over all blocks, and gives the others two versions.
    for round in 0..ROUNDS {
        let mut block = BlockBuilder::new(first);
        for version in [2 * round + 1, 2 * round + 2] {
            for number in (0..STREAMS).filter(|number| number % ROUNDS >= round) {
                block = block.with(event(number, version, 1_000 * number + version));
            }
        }
        let block = block.build();
        first = block.end();
        store.append(&block).await.unwrap();
    }
    let asked: Vec<_> = (0..MAX_BLOCK_RECORDS as u64).map(patient).collect();
    let expected: HashMap<_, _> =
        (0..STREAMS).map(|number| (patient(number), 2 * (number % ROUNDS) + 2)).collect();
    assert_eq!(store.stream_versions(&asked).await.unwrap(), expected);
    for stream in asked.iter().take(24) {
        let found = store.stream_versions(&[*stream]).await.unwrap();
        assert_eq!(found, HashMap::from([(*stream, expected[stream])]));
    }
}

async fn commands_are_found(backend: &Backend) {
    let store = backend.open().await;
    let blocks = fill(&*store, 5).await;
    let mut expected = HashMap::new();
    for block in &blocks {
        for entry in &block.commands {
            expected.insert(entry.id, block.first + u64::from(entry.line));
        }
    }
    assert!(expected.len() >= 5);
    let mut asked: Vec<_> = expected.keys().copied().collect();
    asked.extend((0..900).map(|number| mac(1_000_000 + number)));
    assert_eq!(store.find_commands(&asked).await.unwrap(), expected);
    let one = *expected.iter().next().unwrap().0;
    let found = store.find_commands(&[one]).await.unwrap();
    assert_eq!(found, HashMap::from([(one, expected[&one])]));
}

async fn lines_of_a_stream_come_in_order(backend: &Backend) {
    let store = backend.open().await;
    let mut first = 0;
    for number in 0..4 {
        let block = BlockBuilder::new(first)
            .with(plain("an access"))
            .with(event(1, 2 * number + 1, 100 + number))
            .with(event(2, number + 1, 200 + number))
            .with(event(1, 2 * number + 2, 300 + number))
            .build();
        first = block.end();
        store.append(&block).await.unwrap();
    }
    let all = store.stream_lines(patient(1), 1, 100).await.unwrap();
    let versions: Vec<String> = (1..=8).map(|version| event(1, version, 0).line).collect();
    assert_eq!(all, versions);
    assert_eq!(store.stream_lines(patient(1), 0, 100).await.unwrap(), versions);
    assert_eq!(store.stream_lines(patient(1), 4, 3).await.unwrap(), versions[3..6]);
    assert_eq!(store.stream_lines(patient(1), 8, 3).await.unwrap(), versions[7..]);
    assert_eq!(store.stream_lines(patient(1), 9, 3).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.stream_lines(patient(3), 1, 3).await.unwrap(), Vec::<String>::new());
}

async fn any_unicode_is_kept(backend: &Backend) {
    let store = backend.open().await;
    let mut block = BlockBuilder::new(0);
    for line in
        ["", "ä", "\u{0}", "a\u{0}b", "\u{feff}", "𝄞", "e\u{301}", "\r\n\t\"\\", "\u{10ffff}"]
    {
        block = block.with(plain(line));
    }
    let block = block.build();
    store.append(&block).await.unwrap();
    assert_eq!(store.block_at(0).await.unwrap(), Some(block));
}

async fn the_largest_block_fits(backend: &Backend) {
    let store = backend.open().await;
    let mut block = BlockBuilder::new(0);
    for number in 0..MAX_BLOCK_RECORDS as u64 {
        let mut entry = event(number, 1, number);
        entry.line = "x".repeat(1_500);
        block = block.with(entry);
    }
    let block = block.build();
    store.append(&block).await.unwrap();
    assert_eq!(store.head().await.unwrap(), Some(block.clone()));
    assert_eq!(store.blocks_from(999, 5).await.unwrap(), [block]);
}

async fn everything_is_there_after_opening_again(backend: &Backend) {
    let store = backend.open().await;
    let blocks = fill(&*store, 4).await;
    drop(store);
    let store = backend.open().await;
    assert_eq!(store.blocks_from(0, 10).await.unwrap(), blocks);
    let streams: HashSet<_> =
        blocks.iter().flat_map(|block| &block.streams).map(|entry| entry.stream).collect();
    let asked: Vec<_> = streams.into_iter().collect();
    assert_eq!(store.stream_versions(&asked).await.unwrap().len(), asked.len());
    let next = BlockBuilder::new(blocks[3].end()).with(plain("after")).build();
    store.append(&next).await.unwrap();
    assert_eq!(store.head().await.unwrap(), Some(next));
}

async fn the_clock_runs(backend: &Backend) {
    let store = backend.open().await;
    let before = store.clock().await.unwrap();
    let after = store.clock().await.unwrap();
    assert!(before <= after);
    // On one machine the store's clock is this machine's.
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let here = i64::try_from(here.as_millis()).unwrap();
    assert!((here - after.millis()).abs() < 5_000, "{here} {after}");
}
