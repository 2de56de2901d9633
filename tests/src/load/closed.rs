//! Closed loop: users of goose, each of whom waits for an answer before asking again.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use goose::{
    client::GooseClientBuilder,
    config::GooseConfiguration,
    goose::GooseResponse,
    prelude::{GooseAttack, GooseRequest, GooseUser, Scenario, Transaction, TransactionResult},
};

use super::{
    cpu::CpuClock,
    mix::{GROUPS, Known},
    recorder::Recorder,
    summary::Summary,
    target::{Failure, Target, finish},
};

/// The time between two tasks of a user, as in the older system's test.
const THINK_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The time over which users begin where they think between tasks.
const LAUNCH_SECONDS: usize = 10;

/// A user's pause after a request that was not answered, so that a gateway that is down is not
/// asked without end.
const PAUSE: Duration = Duration::from_millis(100);

/// What users do, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many users.
    pub users: usize,
    /// Time from when all of them have begun.
    pub time: Duration,
    /// Whether they ask again at once.
    pub full_speed: bool,
    /// The run ends early after so many requests.
    pub requests: u32,
    /// Where goose writes its report: `.html`, `.md` or `.json`.
    pub report: Option<PathBuf>,
}

/// Lets users do the mix, each asking for what it knows.
///
/// # Errors
/// When goose cannot run, or cannot write its report.
///
/// # Panics
/// When nothing is known.
pub async fn run(
    target: &Arc<Target>,
    known: &Arc<[Known]>,
    plan: Plan,
) -> anyhow::Result<Summary> {
    let users = Arc::new(Users {
        target: target.clone(),
        known: known.clone(),
        recorder: Recorder::new(Instant::now()),
        turns: Default::default(),
        requests: plan.requests,
    });
    let cpu = CpuClock::start()?;
    // Replaced by the client that everybody shares; otherwise goose makes one for each user.
    let client = GooseClientBuilder::new().without_cookies();
    let mut attack = GooseAttack::initialize_with_config(configuration(target, &plan)?)?
        .set_client_builder_without_cookies(client)?;
    // Users are dealt to the scenarios by turns, so that all groups are asked for from the beginning.
    for first in 0..GROUPS.len() {
        attack = attack.register_scenario(scenario(&users, first, plan.full_speed)?);
    }
    Box::pin(attack.execute()).await?;
    Ok(users.recorder.summary(Duration::ZERO, cpu.cores()?))
}

fn configuration(target: &Target, plan: &Plan) -> anyhow::Result<GooseConfiguration> {
    let a_second = if plan.full_speed { plan.users } else { plan.users.div_ceil(LAUNCH_SECONDS) };
    let mut configuration = GooseConfiguration::default();
    configuration.host = Some(target.base().to_owned());
    configuration.users = Some(plan.users);
    configuration.increase_rate = Some(a_second.to_string());
    configuration.run_time = Some(plan.time.as_secs().to_string());
    // Otherwise what fails while users begin would be forgotten.
    configuration.no_reset_metrics = true;
    configuration.no_print_metrics = true;
    configuration.no_telnet = true;
    configuration.quiet = 1;
    if let Some(report) = &plan.report {
        let report = report.to_str().context("the report's path is no text")?;
        configuration.report_file = vec![report.to_owned()];
    }
    Ok(configuration)
}

/// All groups in turn for each user, beginning with one of them.
fn scenario(users: &Arc<Users>, first: usize, full_speed: bool) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::new(&format!("the mix, from {}", GROUPS[first].name));
    for (place, group) in GROUPS.iter().enumerate().cycle().skip(first).take(GROUPS.len()) {
        let users = users.clone();
        let turn = Transaction::new(Arc::new(move |user| {
            let users = users.clone();
            Box::pin(async move { users.turn(user, place).await })
        }));
        scenario = scenario.register_transaction(turn.set_name(group.name));
    }
    if !full_speed {
        scenario = scenario.set_wait_time(THINK_TIME.0, THINK_TIME.1)?;
    }
    Ok(scenario)
}

/// What all users share.
struct Users {
    target: Arc<Target>,
    known: Arc<[Known]>,
    recorder: Recorder,
    /// Turns of each group that all users have had.
    turns: [AtomicU32; GROUPS.len()],
    requests: u32,
}

impl Users {
    async fn turn(&self, user: &mut GooseUser, group: usize) -> TransactionResult {
        let task = GROUPS[group].task(self.turns[group].fetch_add(1, Ordering::Relaxed));
        user.client = self.target.client().clone();
        let known = &self.known[user.weighted_users_index % self.known.len()];
        let mut next = Some(task.first(known));
        let mut answered = 0;
        while let Some(call) = next {
            let asked = Instant::now();
            let request = GooseRequest::builder()
                .name(call.name)
                .expect_status_code(call.expected)
                .set_request_builder(self.target.request(&call))
                .build();
            let GooseResponse { mut request, response } = match user.request(request).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.recorder.failed(call.name, Failure::NotSent);
                    return Err(error);
                }
            };
            match finish(&call, response).await {
                Ok(answer) => {
                    self.recorder.answered(call.name, asked.elapsed());
                    answered += 1;
                    next = task.next(known, answered, answer);
                }
                Err(failure) => {
                    self.recorder.failed(call.name, failure);
                    self.end_if_enough();
                    if !matches!(failure, Failure::Status { .. }) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    // Goose has counted it already, unless the answer broke off after its head.
                    return user.set_failure(&failure.to_string(), &mut request, None, None);
                }
            }
        }
        self.end_if_enough();
        Ok(())
    }

    fn end_if_enough(&self) {
        if self.recorder.requests() >= self.requests {
            goose::trigger_killswitch("as many requests as were allowed");
        }
    }
}
