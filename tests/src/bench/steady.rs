//! A moderate load that is the same every second, so that what a command costs can be told from
//! what a busy machine costs.

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::{
    load::{Connection, Operation, Target},
    report::Figures,
};

/// Sends `count` requests, `rate` a second, over `connections` connections in turn. One that is
/// late is sent as soon as its connection is free; its latency counts from then.
pub async fn run(
    target: &Target,
    operation: &Operation,
    connections: u32,
    rate: u32,
    count: u32,
) -> anyhow::Result<Figures> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(Connection::open(target).await?);
    }
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let tasks: Vec<_> = (0..connections)
        .zip(opened)
        .map(|(number, mut connection)| {
            let operation = operation.clone();
            tokio::spawn(async move {
                let first = start + second * number / rate;
                let mut turns = tokio::time::interval_at(first.into(), second * connections / rate);
                turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let (mut latencies, mut failed) = (Vec::new(), 0);
                for _ in (number..count).step_by(connections as usize) {
                    turns.tick().await;
                    let begun = Instant::now();
                    match connection.once(&operation).await {
                        Ok(_) => latencies.push(begun.elapsed()),
                        Err(_) => failed += 1,
                    }
                }
                (latencies, failed)
            })
        })
        .collect();
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (these, not) = task.await?;
        latencies.extend(these);
        failed += not;
    }
    Ok(Figures::of(latencies, failed, start.elapsed()))
}
