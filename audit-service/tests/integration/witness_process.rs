//! Witnesses as processes of their own, which are killed at any moment: this test program runs
//! itself as the witness.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use audit_service::{
    service::system_clock,
    witness::{
        client::{Submitted, WitnessSpec},
        server::{WitnessConfig, run},
    },
};
use rand::Rng;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{PATIENCE, eventually},
    witness_fixture::{Log, ledger_secret, witness_secret},
};

/// Where the witness listens and remembers; set for the processes that are witnesses alone.
const ADDRESS: &str = "VITALOG_TEST_WITNESS_ADDRESS";
const STATE: &str = "VITALOG_TEST_WITNESS_STATE";

/// The processes' main function. In the test program that starts them there is nothing to do.
#[tokio::test]
async fn be_a_witness_if_told_so() {
    let (Some(address), Some(state)) =
        (runtime::settings::env(ADDRESS), runtime::settings::env(STATE))
    else {
        return;
    };
    let listener = TcpListener::bind(address).await.unwrap();
    let config = WitnessConfig {
        secret: witness_secret(1),
        ledgers: vec![ledger_secret().public()],
        state: state.into(),
        clock: system_clock(),
    };
    run(listener, config, CancellationToken::new()).await.unwrap();
}

struct Process {
    address: String,
    child: Child,
}

impl Process {
    async fn start(address: &str, state: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["witness_process::be_a_witness_if_told_so", "--exact"])
            .env(ADDRESS, address)
            .env(STATE, state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually(|| std::net::TcpStream::connect(address).is_ok()).await;
        Self { address: address.to_owned(), child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Submits ever larger checkpoints until the last; errors of a witness that is down are passed
/// over. `seen` is the largest size that was ever cosigned for anybody.
async fn climb(address: String, seen: Arc<AtomicU64>) {
    let (log, http) = (Log::new(), runtime::client::internal_client());
    let spec = WitnessSpec::new(&format!("http://{address}"), witness_secret(1).public()).unwrap();
    let mut has = 0;
    while has < LAST {
        let size = has + 1;
        let before = seen.load(Ordering::SeqCst);
        match spec.submit(&http, &log.request(has, size)).await {
            Ok(Submitted::Cosigned(_)) => {
                seen.fetch_max(size, Ordering::SeqCst);
                has = size;
            }
            Ok(Submitted::OtherSize(told)) => {
                assert!(told >= before, "{before} was cosigned, and {told} is remembered");
                has = told;
            }
            Err(audit_service::witness::client::SubmitError::Http(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The largest size of [`Log`].
const LAST: u64 = 64;

#[tokio::test]
async fn what_was_cosigned_survives_kills_of_any_of_two_witnesses_on_one_state() {
    let state = tempfile::tempdir().unwrap();
    let mut witnesses = Vec::new();
    for _ in 0..2 {
        witnesses.push(Process::start(&free_address().await, state.path()).await);
    }
    let seen = Arc::new(AtomicU64::new(0));
    let climbers: Vec<_> = witnesses
        .iter()
        .chain(&witnesses)
        .map(|witness| tokio::spawn(climb(witness.address.clone(), seen.clone())))
        .collect();
    let (mut kills, started) = (0, Instant::now());
    while !climbers.iter().all(JoinHandle::is_finished) {
        assert!(started.elapsed() < PATIENCE * 3, "it does not get there");
        let pause = rand::rng().random_range(1..40);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let witness = &mut witnesses[kills % 2];
        witness.kill();
        let address = witness.address.clone();
        *witness = Process::start(&address, state.path()).await;
        kills += 1;
    }
    assert!(kills >= 1);
    for climber in climbers {
        climber.await.unwrap();
    }
    assert!(!state.path().join("evidence").exists(), "a remembered size was taken back");
}
