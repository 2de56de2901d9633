//! A block as the store returns it: reading and folding answer, whatever the bytes are.
#![no_main]

use audit_fuzz::{
    block::Block,
    ledger::Ledger,
    ledger_key, resumed, seal_keys,
    store::{decode, decode_parts, encode},
};
use bson::RawDocument;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = RawDocument::from_bytes(bytes) else { return };
    decode_parts(document);
    let Ok(block) = decode(document) else { return };
    let again = encode(&block).expect("what was read can be written");
    assert_eq!(decode(&again).ok().as_ref(), Some(&block));

    let genesis = Ledger::genesis(ledger_key().clone(), seal_keys());
    for ledger in [genesis, resumed(block.first)] {
        // As it is, and as somebody with the seal key would have made it of these lines.
        let made = remade(ledger.clone(), &block);
        for block in [Some(&block), made.as_ref()].into_iter().flatten() {
            if let Ok(records) = ledger.clone().fold(block) {
                assert_eq!(records.len(), block.lines.len());
                let mut after = ledger.clone();
                after.fold(block).expect("what folds once folds again");
                assert_eq!(after.size(), block.end());
            }
        }
    }
});

/// The block with the root and the seal that its lines have, if each follows from the one before.
fn remade(mut ledger: Ledger, block: &Block) -> Option<Block> {
    let (first, mut link) = (ledger.size(), ledger.link().clone());
    for line in &block.lines {
        let record = link.follow(ledger_key().origin(), line).ok()?;
        ledger.push(&record, line).ok()?;
    }
    let entries = (block.streams.clone(), block.commands.clone());
    Some(ledger.close_block(first, block.lines.clone(), entries))
}
