//! Kill -9 at random moments under load: nothing acknowledged is lost, nothing is done twice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{ids::Stream, record::Kind};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, Receipt, text_body, try_send},
    ledger::Ledger,
    samples::{a_place, id_of, patient, random_name, test},
    system::{Store, System},
};

/// Clients at once; each has patients of its own, so that it knows what they must be.
const CLIENTS: usize = 8;

/// The load lasts a random time in this range before the process is killed.
const LOAD_MS: std::ops::Range<u64> = 20..400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_on_sqlite() {
    let _place = a_place().await;
    rounds(Store::Sqlite, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_on_mongodb() {
    let _place = a_place().await;
    rounds(Store::shared_mongo().await, 4).await;
}

#[allow(clippy::print_stderr)]
async fn rounds(store: Store, count: u32) {
    let seed: u64 = rand::random();
    eprintln!("killing at moments from seed {seed}");
    let mut moments = StdRng::seed_from_u64(seed);
    let mut system = System::standalone(store).await;
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::default()).collect();
    let mut ledger = Ledger::read(&system.compliance()).await;
    for _ in 0..count {
        let load = Duration::from_millis(moments.random_range(LOAD_MS));
        clients = load_until_killed(&mut system, clients, load).await;
        system.start("standalone").await.expect("it starts again");
        let clinic = system.clinic();
        for client in &mut clients {
            client.settle(&clinic).await;
        }
        // Reading on checks that the chain continues what was there before the kill.
        ledger.read_on(&system.compliance()).await;
        check(&clients, &ledger);
        for client in &clients {
            client.read_back(&clinic).await;
        }
    }
    let mut again = Ledger::read(&system.compliance()).await;
    assert_eq!(again.lines[..ledger.lines.len()], ledger.lines[..]);
    again.check_checkpoint(&system.compliance()).await;
    let commands: usize = clients.iter().map(|client| client.receipts.len()).sum();
    assert!(commands > count as usize * 10, "only {commands} commands in {count} rounds");
    system.equals_its_rebuild().await;
    system.finish().await;
}

async fn load_until_killed(
    system: &mut System,
    clients: Vec<Client>,
    load: Duration,
) -> Vec<Client> {
    let stop = Arc::new(AtomicBool::new(false));
    let running: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(client.work(system.clinic(), Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(load).await;
    system.program("standalone").kill().expect("it runs until then");
    stop.store(true, Ordering::Relaxed);
    let mut clients = Vec::new();
    for client in running {
        clients.push(client.await.expect("a client"));
    }
    clients
}

/// Every receipt names the very record, and there is one event for each command.
fn check(clients: &[Client], ledger: &Ledger) {
    let mut commands: HashMap<Stream, usize> = HashMap::new();
    for receipt in clients.iter().flat_map(|client| &client.receipts) {
        let record = ledger.record(receipt);
        assert_eq!(record.record_type.kind(), Kind::Event);
        *commands.entry(record.stream.unwrap()).or_default() += 1;
    }
    let mut events: HashMap<Stream, usize> = HashMap::new();
    for record in ledger.records.iter().filter(|it| it.record_type.kind() == Kind::Event) {
        *events.entry(record.stream.unwrap()).or_default() += 1;
    }
    assert_eq!(events, commands);
}

/// A client that knows what it was told.
#[derive(Default)]
struct Client {
    patients: Vec<Known>,
    /// Of every command that was acknowledged.
    receipts: Vec<Receipt>,
    /// The command that was under way when the process was killed.
    unknown: Option<Command>,
}

/// A patient as the last acknowledged command left her.
struct Known {
    patient: Value,
    tests: Vec<Value>,
}

#[derive(Clone)]
struct Command {
    /// The patient among the client's; one more than it has for a new one.
    whose: usize,
    method: Method,
    path: String,
    key: String,
    body: Value,
}

impl Client {
    async fn work(mut self, clinic: Api, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let command = self.next();
            match command.send(&clinic).await {
                Ok(answer) if answer.status < 300 => self.acknowledged(&command, &answer),
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{answer:?}");
                    self.unknown = Some(command);
                    break;
                }
                Err(_) => {
                    self.unknown = Some(command);
                    break;
                }
            }
        }
        self
    }

    fn next(&self) -> Command {
        let dice = rand::random_range(0..4);
        let known = match self.patients.len() {
            0 => None,
            count => Some(rand::random_range(0..count)).filter(|_| dice > 0),
        };
        let key = format!("{:032x}", rand::random::<u128>());
        let Some(whose) = known else {
            let (whose, body) = (self.patients.len(), patient(&random_name()));
            return Command { whose, method: Method::POST, path: "/patient".into(), key, body };
        };
        let path = format!("/patient/{}", id_of(&self.patients[whose].patient));
        if dice == 1 {
            let mut body = self.patients[whose].patient.clone();
            body["lastName"] = json!(random_name());
            Command { whose, method: Method::PUT, path, key, body }
        } else {
            let path = format!("{path}/tests");
            Command { whose, method: Method::POST, path, key, body: test(dice) }
        }
    }

    fn acknowledged(&mut self, command: &Command, answer: &Answer) {
        self.receipts.push(answer.receipt());
        match self.patients.get_mut(command.whose) {
            None => self.patients.push(Known { patient: answer.json(), tests: Vec::new() }),
            Some(known) if command.method == Method::PUT => known.patient = answer.json(),
            Some(known) => known.tests.push(answer.json()),
        }
    }

    /// Sends the command again whose answer was lost, twice: it has one effect and one receipt.
    async fn settle(&mut self, clinic: &Api) {
        let Some(command) = self.unknown.take() else { return };
        let mut first = None;
        for _ in 0..2 {
            let answer = command.send(clinic).await.expect("an answer");
            assert!(answer.status < 300, "{answer:?}");
            let told = (answer.receipt(), answer.json());
            assert_eq!(*first.get_or_insert_with(|| told.clone()), told);
            if first.as_ref().is_some_and(|first| self.receipts.last() != Some(&first.0)) {
                self.acknowledged(&command, &answer);
            }
        }
    }

    async fn read_back(&self, clinic: &Api) {
        // The last ones; those of earlier rounds were read then, and the rebuild compares all.
        for known in self.patients.iter().rev().take(3) {
            let path = format!("/patient/{}", id_of(&known.patient));
            assert_eq!(clinic.get(&path).await.expect(200).json(), known.patient);
            let tests = clinic.get(&format!("{path}/tests")).await.expect(200);
            assert_eq!(tests.json(), json!(known.tests));
        }
    }
}

impl Command {
    async fn send(&self, clinic: &Api) -> anyhow::Result<Answer> {
        let request = clinic.request(self.method.clone(), &self.path);
        try_send(text_body(request.header("idempotency-key", &self.key), &self.body)).await
    }
}
