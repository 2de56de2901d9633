//! `cargo run --release -p tests --bin key-timing`: whether the time of a refusal tells how much of
//! a presented key is right.
//!
//! Starts the built `gateway` and presents keys that share their first 0 to 31 characters with a
//! real one, at random turns on one connection. Each class is compared with that of no shared
//! character; a valid key, which does more work, shows that a difference would be seen.

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use rand::Rng;
use tests::bench::{
    gateways::{OwnGateway, Upstream},
    load::{Raw, Target},
    statistics::{Comparison, percentile},
};

/// Shared leading characters of each class; a key has 32.
const SHARED: [usize; 8] = [0, 1, 4, 8, 16, 24, 30, 31];

/// Asks whether refusals tell how much of a key is right.
#[derive(Debug, Parser)]
struct Arguments {
    /// Keys presented of each class.
    #[arg(long, default_value_t = 100_000)]
    samples: usize,
    /// The share of each class that is kept, in per cent: the slowest tell of the machine alone.
    #[arg(long, default_value_t = 90)]
    keep: usize,
    /// What `gateway subscriptions add` is told besides; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    add: Vec<String>,
    /// What `gateway` is told besides; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.samples >= 2, "two samples of each class are the fewest");
    let upstream = Upstream::start().await?;
    // Else most of what is measured would be that there were too many wrong keys.
    let unlimited = ["--unauthenticated-rate=1000000", "--unauthenticated-burst=1000000"];
    let serve: Vec<String> =
        unlimited.into_iter().map(str::to_owned).chain(arguments.serve).collect();
    let gateway = OwnGateway::start(&upstream.address, &arguments.add, &serve).await?;
    let times = measure(&gateway.target, arguments.samples).await?;
    let kept: Vec<Vec<f64>> = times
        .into_iter()
        .map(|times| {
            let most = percentile(&times, arguments.keep);
            times.into_iter().filter(|time| *time <= most).collect()
        })
        .collect();
    let (valid, wrong) = kept.split_last().expect("the valid key is a class");
    let mut signals = 0;
    for (shared, times) in SHARED.iter().zip(wrong).skip(1) {
        let comparison = Comparison::of(times, &wrong[0]);
        signals += usize::from(comparison.is_signal());
        show(&format!("{shared:2} shared characters: {}", line(&comparison)));
    }
    let control = Comparison::of(valid, &wrong[0]);
    show(&format!("a valid key (control): {}", line(&control)));
    ensure!(control.is_signal(), "not even a valid key is told apart: take more samples");
    ensure!(signals == 0, "{signals} classes differ from that of no shared character");
    show("no prefix signal");
    Ok(())
}

fn line(comparison: &Comparison) -> String {
    let Comparison { difference, detectable, t, z } = comparison;
    format!(
        "{difference:+8.3} µs, Welch's t {t:+6.2}, Mann-Whitney z {z:+6.2} \
         ({detectable:.3} µs would have shown)"
    )
}

/// Microseconds of each answer, by class; the valid key's are the last.
async fn measure(target: &Target, samples: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    /// Requests before the first that counts.
    const WARM_UP: usize = 1_000;
    let mut connection = Raw::open(target).await?;
    let mut left = vec![samples; SHARED.len() + 1];
    let mut times = vec![Vec::with_capacity(samples); left.len()];
    for _ in 0..WARM_UP {
        connection.status(&key_with(&target.key, 0)).await?;
    }
    while left.iter().any(|left| *left > 0) {
        let class = rand::rng().random_range(0..left.len());
        if left[class] == 0 {
            continue;
        }
        let (shared, expected) = match SHARED.get(class) {
            Some(shared) => (*shared, 401),
            None => (target.key.len(), 200),
        };
        let key = key_with(&target.key, shared);
        let begun = Instant::now();
        let status = connection.status(&key).await?;
        let time = begun.elapsed();
        ensure!(status == expected, "{status} instead of {expected}");
        times[class].push(time.as_secs_f64() * 1e6);
        left[class] -= 1;
    }
    Ok(times)
}

/// A random key of the same length whose first `shared` characters are right, and the next is not;
/// the key itself where all are shared. It takes the same time to make whatever is shared: what a
/// client does before it asks shows in how soon it is answered.
fn key_with(key: &str, shared: usize) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut random = rand::rng();
    let mut made: Vec<u8> =
        (0..key.len()).map(|_| DIGITS[random.random_range(0..DIGITS.len())]).collect();
    made[..shared].copy_from_slice(&key.as_bytes()[..shared]);
    if made.get(shared).is_some_and(|digit| *digit == key.as_bytes()[shared]) {
        made[shared] = if made[shared] == b'0' { b'1' } else { b'0' };
    }
    String::from_utf8_lossy(&made).into_owned()
}

#[allow(clippy::print_stdout)]
fn show(text: &str) {
    println!("{text}");
}
