//! A request reads one generation, though another begins to serve meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use domain::{
    content::{PatientContent, TestContent},
    event::{Event, Recorded},
    ids::{PatientId, TestId},
    time::Timestamp,
};
use http::{Method, StatusCode};
use projections::{
    change::StreamChange,
    documents::{Generation, PatientState},
    store::{
        Generations, ReadModels, StoreError, WriteModels,
        hooked::{Call, Hook, Hooked},
        memory::MemoryStore,
    },
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    harness::{Answer, System, id, text},
    samples,
};

/// Lets another generation serve after a read, and that read is held back until the service has
/// seen it.
struct Flip {
    after: &'static str,
    to: Generation,
    store: MemoryStore,
    armed: Arc<AtomicBool>,
    /// How often the service has asked for the pointer.
    asked: watch::Sender<usize>,
}

#[async_trait]
impl Hook for Flip {
    async fn after(&self, call: Call<'_>) -> Result<(), StoreError> {
        match call {
            Call::Read("pointer") => self.asked.send_modify(|asked| *asked += 1),
            Call::Read(name) if name == self.after && self.armed.swap(false, Ordering::SeqCst) => {
                self.store.join(self.to).await?;
                let before = self.store.pointer().await?;
                assert!(self.store.activate(self.to, before).await?);
                // The next answer may have been made before; the one behind it is in use when
                // the third is asked for.
                let mut asked = self.asked.subscribe();
                let enough = *asked.borrow() + 3;
                asked.wait_for(|asked| *asked >= enough).await.expect("the hook has the sender");
            }
            _ => {}
        }
        Ok(())
    }
}

/// A patient with a test in two generations that differ in both, and are at the same version.
struct Two {
    system: System,
    path: String,
    test: String,
    armed: Arc<AtomicBool>,
}

impl Two {
    /// The service's requests flip after this read. With `removed`, the new generation has a
    /// patient who is removed.
    async fn prepare(after: &'static str, removed: bool) -> Self {
        let mut system = System::start().await;
        let patient = system.registered(&samples::patient()).await;
        let path = format!("/patient/{}", text(&patient, "id"));
        let tests = format!("{path}/tests");
        let test = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED).body;
        let to = system.store.create().await.unwrap();
        write_other(&system.store, to, id(&patient), &test, removed).await;
        let armed = Arc::<AtomicBool>::default();
        let hook = Flip {
            after,
            to,
            store: system.store.clone(),
            armed: armed.clone(),
            asked: watch::Sender::default(),
        };
        let hooked = Hooked::new(Arc::new(system.store.clone()), hook);
        let url = system.audit.url.clone();
        system.add_instance_over(&url, Arc::new(hooked)).await;
        Self { system, path, test: text(&test, "id").to_owned(), armed }
    }

    /// Asks twice: with the flip in the middle, and after it.
    async fn ask(&self, method: &Method, path: &str) -> [Answer; 2] {
        self.armed.store(true, Ordering::SeqCst);
        let ask = || self.system.request_to(1, method.clone(), path).json(&json!({})).send();
        let during = ask().await;
        assert!(!self.armed.load(Ordering::SeqCst), "it flipped meanwhile");
        [during, ask().await]
    }
}

async fn write_other(
    store: &MemoryStore,
    generation: Generation,
    patient: PatientId,
    test: &Value,
    removed: bool,
) {
    let serving = store.serving().await.unwrap();
    let stored = store.patient(serving, patient).await.unwrap().unwrap();
    let PatientState::Active { kid, .. } = stored.state else { panic!("she is there") };
    let content: PatientContent = serde_json::from_value(json!({
        "firstName": "OTHER", "lastName": "DOE", "gender": "female",
        "dateOfBirth": "1980-07-14", "postCode": "1234",
    }))
    .unwrap();
    let mut other = samples::test();
    other["performer"] = "OTHER".into();
    let other: TestContent = serde_json::from_value(other).unwrap();
    let test: TestId = text(test, "id").parse().unwrap();
    let mut events =
        vec![Event::PatientRegistered(content), Event::TestRecorded { test, content: other }];
    events.extend(removed.then_some(Event::PatientRemoved));
    let at = Timestamp::EPOCH;
    let events: Vec<_> =
        (1..).zip(events).map(|(version, event)| Recorded { version, at, event }).collect();
    let change = StreamChange::fold(patient, Some(kid), &events).unwrap();
    store.apply(generation, &[change]).await.unwrap();
}

#[tokio::test]
async fn tests_are_read_where_the_patient_was() {
    let two = Two::prepare("patient", false).await;
    let [during, after] = two.ask(&Method::GET, &format!("{}/tests", two.path)).await;
    assert_eq!(during.expect(StatusCode::OK).body[0]["performer"], "Laboratory 7");
    assert_eq!(after.expect(StatusCode::OK).body[0]["performer"], "OTHER");

    let two = Two::prepare("patient", false).await;
    let path = format!("{}/tests/{}", two.path, two.test);
    let [during, after] = two.ask(&Method::GET, &path).await;
    assert_eq!(during.expect(StatusCode::OK).body["performer"], "Laboratory 7");
    assert_eq!(after.expect(StatusCode::OK).body["performer"], "OTHER");
}

#[tokio::test]
async fn whom_a_search_found_is_looked_at_again_where_she_was_found() {
    let two = Two::prepare("search", true).await;
    let [during, after] = two.ask(&Method::POST, "/patient/search").await;
    assert_eq!(during.expect(StatusCode::OK).body[0]["firstName"], "JANE");
    after.expect(StatusCode::NOT_FOUND);
}

/// Refuses to confirm what was read.
#[derive(Default)]
struct Deposed {
    searches: AtomicUsize,
}

#[async_trait]
impl Hook for Deposed {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        match call {
            Call::Read("search") => {
                self.searches.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
            Call::Read("confirm") => Err(StoreError::Unavailable("another is primary".into())),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_search_of_a_store_that_was_replaced_shows_nothing() {
    let mut system = System::start().await;
    let patient = system.registered(&samples::patient()).await;
    let hooked = Arc::new(Hooked::new(Arc::new(system.store.clone()), Deposed::default()));
    let url = system.audit.url.clone();
    system.add_instance_over(&url, hooked.clone()).await;
    let search = system.request_to(1, Method::POST, "/patient/search").json(&json!({}));
    let answer = search.send().await.expect(StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.text.contains(text(&patient, "id")) && !answer.text.contains("JANE"));
    assert_eq!(hooked.hook.searches.load(Ordering::SeqCst), 1);
    system.post("/patient/search", &json!({})).await.expect(StatusCode::OK);
}
