//! Every single way to tamper with a small ledger, found; and the first bad record named.

use std::thread;

use audit_verify::{
    block::Block,
    checkpoint::read_unverified,
    report::{Problem, Report},
};
use domain::hash::Hash;

use crate::sample::{Export, Sample, proposal, record, rotation, secret, text, verify_blocks};

/// Several blocks, and not a power of two.
const SIZE: u64 = 67;

type Change<'a> = &'a dyn Fn(&mut Block);

#[track_caller]
fn assert_found(report: &Report, seq: u64, what: &str) {
    let finding = report.findings.first().unwrap_or_else(|| panic!("not found: {what}"));
    assert!(
        (finding.first..=finding.last).contains(&seq),
        "{what}: record {seq} is bad, and {}..={} was named: {}",
        finding.first,
        finding.last,
        finding.problem,
    );
}

/// As [`assert_found`], where nothing but the record itself may be named.
#[track_caller]
fn assert_named(report: &Report, seq: u64, what: &str) {
    assert_found(report, seq, what);
    let finding = &report.findings[0];
    assert!(finding.is_exact(), "{what}: {}..={} named", finding.first, finding.last);
}

#[test]
fn an_intact_ledger_is_found_intact_however_it_is_cut_and_read() {
    let sample = Sample::of(SIZE);
    let export = Export::of(&sample);
    for lines in [1, 2, 7, 64, 1_000] {
        for threads in [0, 1, 2] {
            let report = export.verify_in_chunks(lines, threads);
            assert!(report.is_intact(), "{:?}", report.findings);
            assert_eq!((report.records, report.head), (SIZE, sample.head()));
            assert_eq!(report.agreed.len(), 1);
            assert_eq!(report.agreed[0].key.as_ref(), Some(&export.key));
        }
    }
    let report = verify_blocks(&sample.blocks, &export.checkpoint);
    assert!(report.is_intact(), "{:?}", report.findings);
    assert_eq!(report.blocks, sample.blocks.len() as u64);
}

#[test]
fn every_flipped_byte_of_every_line_is_found_and_its_record_named() {
    let sample = Sample::of(SIZE);
    let whole = Export::of(&sample);
    let mut seq_of_byte = Vec::new();
    for (seq, line) in (0..).zip(&sample.lines) {
        seq_of_byte.extend(vec![seq; line.len() + 1]);
    }
    let last_newline = whole.text.len() - 1;
    let flip = |places: std::ops::Range<usize>| {
        let mut export = Export::of(&sample);
        for place in places {
            let seq = seq_of_byte[place];
            // The lowest bit turns digits into digits and letters into letters: the record stays
            // readable. Another one makes something else of it.
            for bit in [0, 1 + place % 7] {
                export.text[place] ^= 1 << bit;
                // Chunks of changing sizes, so that records stand first and last in theirs.
                let report = export.verify_in_chunks(1 + place % 9, 0);
                let what = format!("byte {place}, bit {bit}");
                // Of the last record no later one tells whether it or its link was changed.
                if seq + 1 < SIZE {
                    assert_named(&report, seq, &what);
                } else {
                    assert_found(&report, seq, &what);
                    assert_eq!(report.findings[0].last, seq, "{what}");
                }
                export.text[place] ^= 1 << bit;
            }
        }
    };
    let half = last_newline / 2;
    thread::scope(|scope| {
        scope.spawn(|| flip(0..half));
        scope.spawn(|| flip(half..last_newline));
    });
    // The last newline is no part of a record.
    let mut export = Export::of(&sample);
    export.text.pop();
    assert!(export.verify().is_intact());
    export.text.extend(b"\n\n");
    assert_found(&export.verify(), SIZE, "an empty line");
}

#[test]
fn every_deleted_and_duplicated_record_is_named() {
    let sample = Sample::of(SIZE);
    for seq in 0..SIZE {
        let place = usize::try_from(seq).unwrap();
        for chunk in [1, 5, 1_000] {
            let mut export = Export::of(&sample);
            let mut lines = sample.lines.clone();
            lines.remove(place);
            export.text = text(&lines);
            assert_named(&export.verify_in_chunks(chunk, 0), seq, "deleted");

            let mut lines = sample.lines.clone();
            lines.insert(place, lines[place].clone());
            export.text = text(&lines);
            assert_named(&export.verify_in_chunks(chunk, 0), seq + 1, "duplicated");
        }
    }
}

#[test]
fn every_two_records_swapped_are_found_and_the_first_of_them_named() {
    let sample = Sample::of(SIZE);
    let size = usize::try_from(SIZE).unwrap();
    for one in 0..size {
        for other in one + 1..size {
            let mut lines = sample.lines.clone();
            lines.swap(one, other);
            let export = Export { text: text(&lines), ..Export::of(&sample) };
            let report = export.verify_in_chunks(1 + other % 7, 0);
            assert_named(&report, one as u64, &format!("{one} and {other} swapped"));
        }
    }
}

#[test]
fn every_truncation_is_found_and_the_first_missing_record_named() {
    let sample = Sample::of(SIZE);
    for size in 0..usize::try_from(SIZE).unwrap() {
        let export = Export { text: text(&sample.lines[..size]), ..Export::of(&sample) };
        assert_named(&export.verify(), size as u64, &format!("cut to {size}"));
        // Within a line.
        let mut export = Export::of(&sample);
        export.text.truncate(text(&sample.lines[..size]).len() + 7);
        assert_named(&export.verify(), size as u64, &format!("cut within {size}"));
    }
}

#[test]
fn a_record_put_in_is_found_at_its_place() {
    let sample = Sample::of(SIZE);
    for place in 0..usize::try_from(SIZE).unwrap() {
        // A valid record for this very place, as somebody who knows the format would make it.
        let mut forged = Sample::of(place as u64);
        forged.block(vec![proposal(7)]);
        let mut lines = sample.lines.clone();
        lines.insert(place, forged.lines[place].clone());
        let export = Export { text: text(&lines), ..Export::of(&sample) };
        let report = export.verify();
        // It follows from the record before; the next one has the same place.
        let seq = if lines[place] == lines[place + 1] { place + 1 } else { place };
        let named = &report.findings[0];
        assert!(named.first <= seq as u64 + 1 && named.last >= seq as u64, "{place}: {named:?}");
    }
}

#[test]
fn every_flipped_byte_of_the_checkpoint_is_found() {
    let sample = Sample::of(SIZE);
    let whole = Export::of(&sample);
    for place in 0..whole.checkpoint.len() {
        for bit in 0..8 {
            let mut bytes = whole.checkpoint.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let Ok(checkpoint) = String::from_utf8(bytes) else { continue };
            // What is no checkpoint any more is refused before anything is read.
            if read_unverified(&checkpoint).is_err() {
                continue;
            }
            let export = Export { checkpoint, ..Export::of(&sample) };
            let report = export.verify();
            assert!(!report.is_intact(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn an_older_checkpoint_does_not_cover_what_came_after_it() {
    let sample = Sample::of(SIZE);
    for size in 0..SIZE {
        let checkpoint = secret(1).sign(Sample::of_lines(&sample, size).head());
        let export = Export { checkpoint, ..Export::of(&sample) };
        let report = export.verify();
        assert_named(&report, size, &format!("the checkpoint of {size}"));
        assert!(matches!(report.findings[0].problem, Problem::Uncovered { .. }));
    }
}

#[test]
fn a_full_rewrite_under_another_key_is_found_and_under_the_stolen_key_against_what_was_saved() {
    let sample = Sample::of(SIZE);
    for from in [0, 1, 30, SIZE - 1] {
        let mut forged = Sample::of(from);
        for _ in from..SIZE {
            forged.block(vec![proposal(7)]);
        }
        assert!(Export::of(&forged).verify().is_intact(), "the forgery is a good one");

        let checkpoint = secret(2).sign(forged.head());
        let export = Export { checkpoint, ..Export::of(&forged) };
        assert_found(&export.verify(), from, "another key");

        // Every saved checkpoint that covers a rewritten record tells, and no other one can.
        for saved in 0..=SIZE {
            let trusted = vec![secret(1).sign(Sample::of_lines(&sample, saved).head())];
            let export = Export { trusted, ..Export::of(&forged) };
            let report = export.verify();
            if saved > from {
                assert_found(&report, from, &format!("rewritten from {from}, saved at {saved}"));
            } else {
                assert!(report.is_intact(), "rewritten from {from}, saved at {saved}");
            }
        }
    }
}

#[test]
fn a_fork_of_the_last_block_is_found_against_the_checkpoint_of_the_other_branch() {
    let sample = Sample::of(SIZE);
    let first = sample.blocks.last().unwrap().first;
    let mut fork = Sample::of(first);
    fork.block((first..SIZE).map(|_| proposal(7)).collect());
    assert_ne!(fork.head(), sample.head());
    let export = Export { text: fork.text(), ..Export::of(&sample) };
    assert_found(&export.verify(), first, "the export of one branch");
    let report = verify_blocks(&fork.blocks, &secret(1).sign(sample.head()));
    assert_found(&report, first, "the store of one branch");
}

#[test]
fn every_stored_field_replaced_is_found_in_its_block() {
    let sample = Sample::of(SIZE);
    let checkpoint = secret(1).sign(sample.head());
    let blocks = &sample.blocks;
    for place in 0..blocks.len() {
        for other in (0..blocks.len()).filter(|other| *other != place) {
            let other = &blocks[other];
            let changes: [(&str, Change<'_>); 5] = [
                ("root", &|block| block.root = other.root),
                ("seal", &|block| block.seal = other.seal),
                ("frontier", &|block| block.frontier.clone_from(&other.frontier)),
                ("first", &|block| block.first = other.first),
                ("lines", &|block| block.lines.clone_from(&other.lines)),
            ];
            for (what, change) in changes {
                let mut tampered = blocks.clone();
                change(&mut tampered[place]);
                if tampered == *blocks {
                    continue;
                }
                let report = verify_blocks(&tampered, &checkpoint);
                assert_found(&report, blocks[place].first, what);
            }
        }
        let mut gone = blocks.clone();
        gone.remove(place);
        assert_named(&verify_blocks(&gone, &checkpoint), blocks[place].first, "a block deleted");
        let mut swapped = blocks.clone();
        swapped.swap(place, (place + 1) % blocks.len());
        let first = blocks[place.min((place + 1) % blocks.len())].first;
        assert_named(&verify_blocks(&swapped, &checkpoint), first, "two blocks swapped");
    }
}

#[test]
fn every_lookup_entry_changed_removed_or_added_is_found_in_its_block() {
    let sample = Sample::of(SIZE);
    let checkpoint = secret(1).sign(sample.head());
    for place in 0..sample.blocks.len() {
        let whole = &sample.blocks[place];
        let mut changed: Vec<Block> = Vec::new();
        let mut change = |change: &dyn Fn(&mut Block)| {
            let mut block = whole.clone();
            change(&mut block);
            changed.push(block);
        };
        for entry in 0..whole.streams.len() {
            change(&|block| block.streams[entry].version += 1);
            change(&|block| block.streams[entry].line ^= 1);
            change(&|block| block.streams[entry].stream = "ledger/keys".parse().unwrap());
            change(&|block| _ = block.streams.remove(entry));
            change(&|block| block.streams.push(block.streams[entry]));
        }
        for entry in 0..whole.commands.len() {
            change(&|block| block.commands[entry].line ^= 1);
            change(&|block| block.commands[entry].id = domain::ids::Mac::new([1; 32]));
            change(&|block| _ = block.commands.remove(entry));
            change(&|block| block.commands.push(block.commands[entry]));
        }
        for block in changed {
            let mut blocks = sample.blocks.clone();
            blocks[place] = block;
            assert_found(&verify_blocks(&blocks, &checkpoint), whole.first, "an entry");
        }
    }
}

#[test]
fn a_version_left_out_or_taken_twice_is_named_also_where_hashes_and_signature_are_right() {
    for (version, what) in [(3, "left out"), (1, "twice")] {
        let mut sample = Sample::empty();
        sample.block(vec![crate::sample::versioned(1, 1), crate::sample::versioned(2, 1)]);
        sample.block(vec![proposal(7), crate::sample::versioned(1, version)]);
        sample.block(vec![crate::sample::versioned(2, 2)]);
        let report = Export::of(&sample).verify();
        assert_named(&report, 3, what);
        assert!(matches!(report.findings[0].problem, Problem::Version { seq: 3 }));
    }
}

#[test]
fn verification_follows_keys_that_were_vouched_for_and_no_others() {
    let mut sample = Sample::of(10);
    let early = secret(1).sign(sample.head());
    sample.block(vec![rotation(1, &secret(1), &secret(2)), proposal(7)]);
    sample.block(vec![rotation(2, &secret(2), &secret(3))]);
    sample.block(vec![proposal(7)]);
    let export = |key: u8, checkpoint: u8| Export {
        checkpoint: secret(checkpoint).sign(sample.head()),
        key: secret(key).public(),
        ..Export::of(&sample)
    };
    // Each key of the ledger leads to the newest, which alone signs the newest checkpoint.
    for key in 1..=4 {
        for checkpoint in 1..=4 {
            let report = export(key, checkpoint).verify();
            assert_eq!(report.is_intact(), key < 4 && checkpoint == 3, "{key} {checkpoint}");
            assert_eq!(report.keys.len(), 3);
        }
    }
    // An old checkpoint stays good, but only under the key of its time, and for that key's holders.
    let with = |key: u8, note: String| Export { trusted: vec![note], ..export(key, 3) };
    assert!(with(1, early.clone()).verify().is_intact());
    assert!(!with(2, early).verify().is_intact());
    let late = secret(2).sign(Sample::of(10).head());
    assert!(!with(1, late).verify().is_intact());

    // A rotation that the key before did not sign, in a ledger where all else is right.
    let mut forged = Sample::of(10);
    forged.block(vec![rotation(1, &secret(4), &secret(2))]);
    let mut wrong_voucher = rotation(1, &secret(1), &secret(2));
    wrong_voucher.key.as_mut().unwrap().voucher.0[9] ^= 1;
    let mut other = Sample::of(10);
    other.block(vec![wrong_voucher]);
    for forged in [forged, other] {
        let checkpoint = secret(2).sign(forged.head());
        let report = Export { checkpoint, ..Export::of(&forged) }.verify();
        assert_found(&report, 10, "a key nobody vouched for");
    }
}

#[test]
fn what_is_new_verifies_from_a_trusted_tree_and_a_change_in_it_is_named() {
    use audit_verify::verifier::{Chunk, Read, Start, verify};

    let sample = Sample::of(SIZE);
    for size in 1..SIZE {
        let before = Sample::of_lines(&sample, size);
        let place = usize::try_from(size).unwrap();
        let run = |lines: &[String]| {
            let export = Export::of(&sample);
            let mut options = export.options();
            let (link, frontier) = (before.link(), before.frontier());
            options.start = Start::After { link, frontier };
            options.expected = vec![crate::sample::expected("the checkpoint", &export.checkpoint)];
            let chunk = Read::Chunk(Chunk::of_text(text(lines)));
            verify(options, [Ok::<_, ()>(chunk)].into_iter(), 0, |_| {}).unwrap()
        };
        let report = run(&sample.lines[place..]);
        assert!(report.is_intact(), "{size}: {:?}", report.findings);
        assert_eq!((report.from, report.records), (size, SIZE - size));
        let mut cut = sample.lines[place..].to_vec();
        cut.remove(0);
        assert_named(&run(&cut), size, "the first new record deleted");
        let mut line = record(&sample.lines[place]);
        line.prev = Hash::of_line("another");
        cut.insert(0, line.to_line());
        assert_named(&run(&cut), size, "the first new record relinked");
    }
}

#[test]
fn a_large_ledger_is_searched_at_random_places_with_threads() {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    let sample = Sample::of(6_000);
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..30 {
        let seq = random.random_range(0..sample.size() - 1);
        let mut lines = sample.lines.clone();
        let place = usize::try_from(seq).unwrap();
        let mut bytes = lines[place].clone().into_bytes();
        let byte = random.random_range(0..bytes.len());
        bytes[byte] ^= 1;
        let Ok(line) = String::from_utf8(bytes) else { continue };
        lines[place] = line;
        let export = Export { text: text(&lines), ..Export::of(&sample) };
        let chunk = random.random_range(1..3_000);
        assert_named(&export.verify_in_chunks(chunk, 2), seq, &format!("seed {seed}"));
    }
}
