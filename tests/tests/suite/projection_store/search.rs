//! The search answers as `SearchCriteria::matches` does.

use domain::{content::PatientContent, event::Event, ids::PatientId, search::SearchCriteria};
use projections::documents::{Generation, PatientDoc, PatientState};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    backends::Stores,
    fixtures::{history, patient, patient_id, registered, run, whole},
    histories::random_patient,
};

const PATIENTS: usize = 300;
const CRITERIA: usize = 150;

/// Patients to be found, by id.
type Model = Vec<(PatientId, PatientContent)>;

/// Stores patients, some of them amended since, and some removed.
async fn fill(stores: &Stores, generation: Generation, rng: &mut StdRng) -> Model {
    let mut model = Vec::new();
    let mut changes = Vec::new();
    for _ in 0..PATIENTS {
        let id = PatientId::new(Uuid::from_u128(rng.random()));
        let (before, now) = (random_patient(rng), random_patient(rng));
        let last = match rng.random_range(0..10) {
            0 => Event::PatientRemoved,
            1 => Event::PatientErased,
            _ => {
                model.push((id, now.clone()));
                Event::PatientAmended(now)
            }
        };
        let events = history([Event::PatientRegistered(before), last]);
        changes.push((run(id, &events, 0, 1), run(id, &events, 1, 2)));
    }
    let (registered, ended): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
    stores.one.apply(generation, &registered).await.unwrap();
    stores.one.apply(generation, &ended).await.unwrap();
    model.sort_by_key(|(id, _)| *id);
    model
}

fn criteria(body: &Value) -> SearchCriteria {
    SearchCriteria::from_body(body.as_object().unwrap()).unwrap()
}

/// Criteria that someone matches, mostly.
fn random_criteria(rng: &mut StdRng, model: &Model) -> SearchCriteria {
    let (id, content) = model.choose(rng).unwrap();
    let asked = serde_json::to_value(content).unwrap();
    let mut body = serde_json::Map::new();
    for (member, value) in asked.as_object().unwrap() {
        if member != "dateOfBirth" && rng.random_ratio(1, 5) {
            body.insert(member.clone(), value.clone());
        }
    }
    let days = ["0001", "1979-12-31", "1980", "1980-07-01", "1980-07-02", "1999", "9999-12-31"];
    for member in ["dateOfBirthFrom", "dateOfBirthTo"] {
        if rng.random_ratio(1, 4) {
            body.insert(member.to_owned(), json!(days.choose(rng).unwrap()));
        }
    }
    if rng.random_ratio(1, 15) {
        body.insert("id".to_owned(), json!(id));
    }
    criteria(&Value::Object(body))
}

fn found(page: &[PatientDoc]) -> Model {
    let content = |document: &PatientDoc| match &document.state {
        PatientState::Active { current, .. } => (document.id, current.content.clone()),
        state => panic!("{state:?} was found"),
    };
    page.iter().map(content).collect()
}

pub(super) async fn results_are_those_that_match(stores: &Stores) {
    let generation = stores.generation().await;
    let mut rng = StdRng::seed_from_u64(7);
    let model = fill(stores, generation, &mut rng).await;
    let mut all: Vec<SearchCriteria> =
        (0..CRITERIA).map(|_| random_criteria(&mut rng, &model)).collect();
    all.push(SearchCriteria::default());
    for (index, criteria) in all.iter().enumerate() {
        let matches = |(id, content): &&(PatientId, PatientContent)| criteria.matches(*id, content);
        let expected: Model = model.iter().filter(matches).cloned().collect();
        let page = stores.two.search(generation, criteria, None, 1_000).await.unwrap();
        assert!(found(&page) == expected, "criteria {index}");

        let limit = rng.random_range(1..60);
        let (mut paged, mut after) = (Model::new(), None);
        loop {
            let page = stores.one.search(generation, criteria, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            paged.extend(found(&page));
        }
        assert!(paged == expected, "criteria {index} in pages of {limit}");
        assert_eq!(stores.one.search(generation, criteria, None, 0).await.unwrap(), []);
    }
}

pub(super) async fn updates_show_at_once(stores: &Stores) {
    let (generation, id) = (stores.generation().await, patient_id(1));
    let mut moved = patient("ANN");
    "1990".clone_into(&mut moved.date_of_birth);
    moved.insurance_number = None;
    let events = history([registered("ANN"), Event::PatientAmended(moved), Event::PatientRemoved]);
    let ask = async |body: Value| {
        let criteria = criteria(&body);
        stores.two.search(generation, &criteria, None, 10).await.unwrap().len()
    };
    let born_1980 = || json!({ "dateOfBirthFrom": "1980", "dateOfBirthTo": "1989" });
    let born_1990 = || json!({ "dateOfBirthFrom": "1990-01-01", "dateOfBirthTo": "1990" });
    let insured = || json!({ "insuranceNumber": "I-1" });
    let expected = [(1, [1, 0, 1, 1]), (2, [0, 1, 0, 1]), (3, [0, 0, 0, 0])];
    for (to, expected) in expected {
        stores.one.apply(generation, &[run(id, &events, to - 1, to)]).await.unwrap();
        let counts = [
            ask(born_1980()).await,
            ask(born_1990()).await,
            ask(insured()).await,
            ask(json!({ "id": id })).await,
        ];
        assert_eq!(counts, expected, "after version {to}");
    }
}

pub(super) async fn values_are_never_operators(stores: &Stores) {
    let generation = stores.generation().await;
    let events = history([registered("ANN")]);
    stores.one.apply(generation, &[whole(patient_id(1), &events)]).await.unwrap();
    for text in ["$ne", "{\"$ne\":\"\"}", "%", "_NN", "ann", "ANN ", "' OR 1=1 --", "ANN\0"] {
        let criteria = criteria(&json!({ "firstName": text }));
        assert_eq!(stores.one.search(generation, &criteria, None, 10).await.unwrap(), [], "{text}");
    }
}
