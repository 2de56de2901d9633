//! Open loop: requests are sent at a fixed rate, whatever is answered.
//!
//! A latency counts from the moment when the request was due, not from when it was sent, so that a
//! stall of the system or of the generator is charged to every request that it held up (no
//! coordinated omission). The clock of the runtime ticks in milliseconds: up to one is charged too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    MAX_REQUESTS,
    cpu::CpuClock,
    mix::{Known, Task},
    recorder::Recorder,
    summary::Summary,
    target::{Failure, Target},
};

/// What is sent, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Requests a second. A task of two requests begins with one that is due then; the other is due
    /// when the first was answered.
    pub rate: f64,
    /// Time before the measurement, whose latencies do not count. Its failures do.
    pub warm_up: Duration,
    /// Time of the measurement.
    pub time: Duration,
    /// The most tasks under way; those that are due beyond it fail as overrun.
    pub at_once: usize,
}

impl Plan {
    /// When tasks are due, from the start.
    fn dues(&self) -> impl Iterator<Item = (u32, Duration)> + use<> {
        let each = Task::requests_each() / self.rate;
        let end = self.warm_up + self.time;
        let due = move |number: u32| (number, Duration::from_secs_f64(f64::from(number) * each));
        (0..MAX_REQUESTS).map(due).take_while(move |(_, due)| *due < end)
    }
}

/// Sends the mix at a rate, asking for what is known.
///
/// # Errors
/// Without `/proc`.
///
/// # Panics
/// When nothing is known.
pub async fn run(
    target: &Arc<Target>,
    known: &Arc<[Known]>,
    plan: Plan,
) -> anyhow::Result<Summary> {
    let start = Instant::now();
    let measured = start + plan.warm_up;
    let recorder = Arc::new(Recorder::new(measured));
    let (places, tasks) = (Arc::new(Semaphore::new(plan.at_once)), TaskTracker::new());
    let cpu = CpuClock::start()?;
    for (number, due) in plan.dues() {
        let due = start + due;
        tokio::time::sleep_until(due.into()).await;
        let task = Task::nth(number);
        let Ok(place) = places.clone().try_acquire_owned() else {
            recorder.failed(task.name(), Failure::Overrun);
            continue;
        };
        let turn = Turn {
            target: target.clone(),
            known: known.clone(),
            recorder: recorder.clone(),
            counts: due >= measured,
        };
        tasks.spawn(async move {
            turn.take(task, due).await;
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
    Ok(recorder.summary(plan.time, cpu.cores()?))
}

/// What a task needs.
struct Turn {
    target: Arc<Target>,
    known: Arc<[Known]>,
    recorder: Arc<Recorder>,
    /// Whether its latencies count.
    counts: bool,
}

impl Turn {
    async fn take(&self, task: Task, mut due: Instant) {
        let known = &self.known[rand::random_range(0..self.known.len())];
        let mut next = Some(task.first(known));
        let mut answered = 0;
        while let Some(call) = next {
            next = match self.target.send(&call).await {
                Ok(answer) => {
                    let now = Instant::now();
                    if self.counts {
                        self.recorder.answered(call.name, now.saturating_duration_since(due));
                    }
                    answered += 1;
                    due = now;
                    task.next(known, answered, answer)
                }
                Err(failure) => {
                    self.recorder.failed(call.name, failure);
                    None
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_due_evenly_so_that_requests_come_at_the_rate() {
        let seconds = Duration::from_secs;
        let plan = Plan { rate: 500.0, warm_up: seconds(1), time: seconds(2), at_once: 1 };
        let dues: Vec<(u32, Duration)> = plan.dues().collect();
        assert_eq!(dues.len(), 1_200);
        let requests: usize = dues.iter().map(|(number, _)| Task::nth(*number).requests()).sum();
        assert_eq!(requests, 1_500);
        for (number, due) in dues {
            let expected = Duration::from_micros(2_500) * number;
            assert!(due.abs_diff(expected) < Duration::from_micros(1), "{number}: {due:?}");
        }
    }
}
