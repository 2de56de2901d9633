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
    mix::{self, Known, Task},
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
        let each = mix::requests_each() / self.rate;
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
        let task = mix::nth(number);
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::{
        Router,
        http::{Method, StatusCode, Uri},
    };
    use runtime::secrets::Secret;

    use super::*;

    /// A gateway that knows everything but `1`, and does this at every request.
    async fn gateway<W>(each: impl Fn(u32) -> W + Clone + Send + Sync + 'static) -> Arc<Target>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let numbers = Arc::new(AtomicU32::new(0));
        let answer = move |method: Method, uri: Uri, body: String| async move {
            each(numbers.fetch_add(1, Ordering::Relaxed)).await;
            let path: Vec<&str> = uri.path().split('/').skip(1).collect();
            match (method.as_str(), &path[..]) {
                ("POST", ["patient", "1", ..]) => StatusCode::BAD_REQUEST,
                ("POST", ["patient"]) if !body.contains("firstName") => StatusCode::BAD_REQUEST,
                ("POST", ["patient"] | ["patient", _, "tests"]) => StatusCode::CREATED,
                ("GET", [.., "1"] | ["patient", "1", ..]) => StatusCode::NOT_FOUND,
                _ => StatusCode::OK,
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let served = axum::serve(listener, Router::new().fallback(answer));
        tokio::spawn(served.into_future());
        let target = Target::new(&url.parse().expect("a URL"), &Secret::new("key"));
        Arc::new(target.expect("a target"))
    }

    fn known() -> Arc<[Known]> {
        let text = str::to_owned;
        Arc::new([Known { patient: text("p"), test: text("t"), receiver: text("r") }])
    }

    #[tokio::test]
    async fn a_stall_is_charged_to_every_request_that_was_due_meanwhile() {
        // It holds up the generator too, which shares the thread: nothing is sent in that time.
        let target = gateway(|number| async move {
            if number == 50 {
                std::thread::sleep(Duration::from_millis(600));
            }
        })
        .await;
        let time = Duration::from_secs(1);
        let plan = Plan { rate: 200.0, warm_up: Duration::ZERO, time, at_once: 500 };
        let summary = run(&target, &known(), plan).await.expect("a summary");
        assert!(summary.passed(), "{summary}");
        assert!((200..=202).contains(&summary.all.answered), "{summary}");
        // Three of five tasks were due in the stall, evenly from its beginning to its end.
        assert!(summary.all.p95 > Duration::from_millis(300), "{summary}");
    }

    #[tokio::test]
    async fn what_is_due_while_too_many_are_under_way_fails_and_waits_for_nothing() {
        let target = gateway(|_| tokio::time::sleep(Duration::from_secs(1))).await;
        let time = Duration::from_millis(400);
        let plan = Plan { rate: 100.0, warm_up: Duration::ZERO, time, at_once: 3 };
        let summary = run(&target, &known(), plan).await.expect("a summary");
        // 32 tasks are due, and the first three are under way to the end.
        assert_eq!((summary.all.answered, summary.all.failed), (3, 29), "{summary}");
        let overrun = |failed: &(&str, Failure, u32)| failed.1 == Failure::Overrun;
        assert!(summary.failures.iter().all(overrun), "{summary}");
    }

    #[tokio::test]
    async fn latencies_of_the_warm_up_do_not_count() {
        let target = gateway(|_| async {}).await;
        let (warm_up, time) = (Duration::from_millis(800), Duration::from_millis(400));
        let plan = Plan { rate: 100.0, warm_up, time, at_once: 100 };
        let summary = run(&target, &known(), plan).await.expect("a summary");
        assert!(summary.passed() && (39..=42).contains(&summary.all.answered), "{summary}");
    }

    #[test]
    fn tasks_are_due_evenly_so_that_requests_come_at_the_rate() {
        let seconds = Duration::from_secs;
        let plan = Plan { rate: 500.0, warm_up: seconds(1), time: seconds(2), at_once: 1 };
        let dues: Vec<(u32, Duration)> = plan.dues().collect();
        assert_eq!(dues.len(), 1_200);
        let requests: u32 = dues.iter().map(|(number, _)| mix::nth(*number).requests()).sum();
        assert_eq!(requests, 1_500);
        for (number, due) in dues {
            let expected = Duration::from_micros(2_500) * number;
            assert!(due.abs_diff(expected) < Duration::from_micros(1), "{number}: {due:?}");
        }
    }
}
