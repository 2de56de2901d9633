//! A block as the store returns it: reading and folding answer, whatever the bytes are.
#![no_main]

use audit_fuzz::{
    ledger::Ledger,
    origin, resumed, seal_key,
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

    let genesis = Ledger::genesis(origin().clone(), seal_key());
    for mut ledger in [genesis, resumed(block.first)] {
        if let Ok(records) = ledger.fold(&block) {
            assert_eq!(records.len(), block.lines.len());
            assert_eq!(ledger.size(), block.end());
        }
    }
});
