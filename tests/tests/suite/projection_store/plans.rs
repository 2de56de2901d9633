//! How MongoDB answers searches and pages of activity, on collections of some ten thousand: by
//! the plans that it explains for the very commands that the store sends. SQLite's are tested
//! beside its queries.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    ids::{Name, PatientId},
    search::SearchCriteria,
};
use mongodb::{
    Client, Database,
    bson::{Document, doc, oid::ObjectId},
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};
use projections::{
    documents::{ActivityFilter, Generation},
    open::{inspect_projection_store, open_projection_store},
    store::{Generations, ReadModels, mongo::MongoStore},
};
use runtime::store_location::StoreLocation;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixtures::{KID, at, patient_id};

/// Three in four are tombstones.
const PATIENTS: u32 = 80_000;
const LIMIT: i64 = 100;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

const G: Generation = Generation(1);

/// A store, and the queries that it sent.
struct Watched {
    prefix: Name,
    store: MongoStore,
    database: Database,
    finds: Arc<Mutex<Vec<Document>>>,
}

impl Watched {
    async fn open(test: &str) -> Self {
        let uri = tests::mongod::uri().await;
        let prefix: Name = tests::mongod::database(test).parse().unwrap();
        let name = format!("{prefix}_patients");
        let finds: Arc<Mutex<Vec<Document>>> = Arc::default();
        let mut options = ClientOptions::parse(uri).await.unwrap();
        let seen = Arc::clone(&finds);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event
                && started.command_name == "find"
            {
                seen.lock().unwrap().push(started.command);
            }
        }));
        let client = Client::with_options(options).unwrap();
        let store = MongoStore::new(&client, &name);
        assert_eq!(store.serving().await.unwrap(), G);
        Self { prefix, store, database: client.database(&name), finds }
    }

    async fn insert(&self, collection: &str, documents: Vec<Document>) {
        for documents in documents.chunks(5_000) {
            self.database.collection::<Document>(collection).insert_many(documents).await.unwrap();
        }
    }

    /// What the server says of the queries of a collection since the last call.
    async fn explain(&self, collection: &str) -> Vec<Explained> {
        let mut explained = Vec::new();
        let finds = std::mem::take(&mut *self.finds.lock().unwrap());
        let of = |find: &Document| find.get_str("find").is_ok_and(|name| name == collection);
        for mut find in finds.into_iter().filter(of) {
            for member in ["lsid", "$db", "$clusterTime", "readConcern", "batchSize"] {
                find.remove(member);
            }
            let command = doc! { "explain": find, "verbosity": "executionStats" };
            let reply = self.database.run_command(command).await.unwrap();
            explained.push(Explained::new(&reply));
        }
        explained
    }
}

#[derive(Debug)]
struct Explained {
    stages: Vec<String>,
    indexes: Vec<String>,
    keys: i64,
    documents: i64,
}

impl Explained {
    fn new(reply: &Document) -> Self {
        let plan = reply.get_document("queryPlanner").unwrap().get_document("winningPlan");
        let stats = reply.get_document("executionStats").unwrap();
        let count = |name| i64::from(stats.get_i32(name).unwrap());
        let mut explained = Self {
            stages: Vec::new(),
            indexes: Vec::new(),
            keys: count("totalKeysExamined"),
            documents: count("totalDocsExamined"),
        };
        explained.visit(plan.unwrap());
        explained
    }

    fn visit(&mut self, stage: &Document) {
        self.stages.extend(stage.get_str("stage").ok().map(str::to_owned));
        self.indexes.extend(stage.get_str("indexName").ok().map(str::to_owned));
        for member in ["inputStage", "queryPlan"] {
            stage.get_document(member).ok().into_iter().for_each(|stage| self.visit(stage));
        }
        for stage in stage.get_array("inputStages").into_iter().flatten() {
            self.visit(stage.as_document().unwrap());
        }
    }

    fn has(&self, stage: &str) -> bool {
        self.stages.iter().any(|it| it == stage)
    }
}

/// An id whose order is not that of the numbers.
fn id(i: u32) -> PatientId {
    let mixed = i.wrapping_mul(0x9E37_79B1);
    PatientId::new(Uuid::from_u128((u128::from(mixed) << 96) | u128::from(i)))
}

/// A third of the names is common, a birth date is one of 60
/// years, and one gender is rare.
fn patient(i: u32) -> Document {
    let mut document = doc! {
        "_id": id(i).to_string(), "version": 1_i64, "write": ObjectId::new(), "status": "removed",
    };
    if i.is_multiple_of(4) {
        let i = i / 4;
        let gender =
            if i.is_multiple_of(5_000) { "other" } else { ["male", "female"][i as usize % 2] };
        let common = i.is_multiple_of(3);
        let name = |every: u32| if common { "COMMON".into() } else { format!("N{}", i % every) };
        let born = format!("{}-{:02}-{:02}", 1940 + i % 61, i % 12 + 1, i % 28 + 1);
        document.extend(doc! {
            "status": "active", "kid": KID.to_string(), "revision": 1_i64,
            "lastUpdated": mongodb::bson::DateTime::from_millis(0), "birthDay": &born,
            "dateOfBirth": born, "firstName": name(500), "lastName": name(700),
            "fullName": format!("F{i}"), "gender": gender, "postCode": format!("{:04}", i % 1_000),
            "insuranceNumber": format!("I{i}"), "preferredContactNumber": format!("C{i}"),
        });
    }
    document
}

#[tokio::test]
async fn every_search_on_mongodb_is_led_by_an_index_and_looks_at_little() {
    let watched = Watched::open("search_plans").await;
    watched.insert("patients_g1", (0..PATIENTS).map(patient).collect()).await;
    let someone = id(40_000).to_string();
    // Searches, and how many documents a page may look at.
    let searches = [
        (json!({}), LIMIT),
        (json!({ "id": someone }), 1),
        (json!({ "id": someone, "gender": "male", "lastName": "COMMON" }), 1),
        (json!({ "insuranceNumber": "I10000" }), 1),
        (json!({ "preferredContactNumber": "C10000" }), 1),
        (json!({ "fullName": "F10000" }), 1),
        (json!({ "lastName": "N2" }), LIMIT),
        (json!({ "lastName": "COMMON" }), LIMIT),
        (json!({ "firstName": "COMMON" }), LIMIT),
        (json!({ "postCode": "0002" }), LIMIT),
        (json!({ "gender": "male" }), LIMIT),
        (json!({ "gender": "other" }), LIMIT),
        (json!({ "gender": "unknown" }), LIMIT),
        (json!({ "gender": "male", "insuranceNumber": "I10000" }), 1),
        (json!({ "gender": "female", "lastName": "N2" }), LIMIT),
        (json!({ "gender": "female", "firstName": "COMMON" }), 3 * LIMIT),
        (json!({ "postCode": "0000", "firstName": "COMMON" }), 4 * LIMIT),
        (
            json!({ "lastName": "COMMON", "dateOfBirthFrom": "1950-06-01",
            "dateOfBirthTo": "1950-06-30" }),
            LIMIT,
        ),
        (json!({ "dateOfBirthFrom": "1950-06-01", "dateOfBirthTo": "1950-06-30" }), LIMIT),
        (json!({ "dateOfBirthTo": "1939" }), 1),
        (json!({ "dateOfBirthFrom": "2001" }), 1),
        (json!({ "dateOfBirthFrom": "1960", "dateOfBirthTo": "1959" }), 1),
        // Wide ranges are walked by id.
        (json!({ "dateOfBirthFrom": "1945" }), 3 * LIMIT),
        (json!({ "dateOfBirthFrom": "1945", "dateOfBirthTo": "1999" }), 3 * LIMIT),
        (json!({ "dateOfBirthFrom": "1945", "gender": "female" }), 3 * LIMIT),
        (json!({ "dateOfBirthFrom": "1990", "gender": "other" }), 2 * LIMIT),
    ];
    for (body, most) in searches {
        let criteria = SearchCriteria::from_body(body.as_object().unwrap()).unwrap();
        // The first page, and one from the middle on.
        for after in [None, Some("7".repeat(8) + "-0000-0000-0000-000000000000")] {
            let after = after.map(|after| after.parse().unwrap());
            let limit = usize::try_from(LIMIT).unwrap();
            watched.store.search(G, &criteria, after, limit).await.unwrap();
            let [plan] = &watched.explain("patients_g1").await[..] else { panic!("{body}") };
            check(&body, plan, most);
        }
    }
}

#[track_caller]
fn check(body: &Value, plan: &Explained, most: i64) {
    assert!(!plan.has("COLLSCAN"), "{body}: {plan:?}");
    // Sorting is for a narrow range of birth dates alone.
    assert!(!plan.has("SORT") || plan.indexes == ["birthDay_1__id_1"], "{body}: {plan:?}");
    // One key of each gender more, where they are merged.
    assert!(plan.documents <= most && plan.keys <= most + 5, "{body}: {plan:?}");
}

#[tokio::test]
async fn every_page_of_activity_on_mongodb_is_led_by_an_index() {
    let watched = Watched::open("activity_plans").await;
    let activity = |seq: u32| {
        let patients =
            if seq.is_multiple_of(100) { vec![patient_id(1), id(seq)] } else { vec![id(seq)] };
        let patients: Vec<String> = patients.iter().map(PatientId::to_string).collect();
        let actor = if seq.is_multiple_of(200) { "rare" } else { "clinic" };
        doc! {
            "_id": i64::from(seq), "type": "PatientRead", "outcome": "success", "purpose": "TREAT",
            "at": mongodb::bson::DateTime::from_millis(at(u64::from(seq)).millis()),
            "source": "patient-service", "patients": patients,
            "actor": { "id": actor, "kind": "subscription", "roles": [] },
        }
    };
    watched.insert("activity_g1", (0..20_000).map(activity).collect()).await;
    let none = ActivityFilter::default;
    let patient = Some(patient_id(1));
    let actor = |name: &str| Some(name.parse().unwrap());
    for (filter, most) in [
        (none(), LIMIT + 1),
        (ActivityFilter { patient, ..none() }, LIMIT + 1),
        (ActivityFilter { actor: actor("rare"), ..none() }, 101),
        (ActivityFilter { actor: actor("clinic"), ..none() }, LIMIT + 1),
        (ActivityFilter { patient, actor: actor("rare"), ..none() }, 201),
        (ActivityFilter { outcome: Some(domain::actor::Outcome::Denied), ..none() }, 5_001),
    ] {
        let timed =
            ActivityFilter { from: Some(at(5_000)), until: Some(at(15_000)), ..filter.clone() };
        for (filter, first_seqs) in [(filter, 0), (timed, 2)] {
            let limit = usize::try_from(LIMIT).unwrap();
            watched.store.activity(G, &filter, None, limit).await.unwrap();
            let plans = watched.explain("activity_g1").await;
            assert_eq!(plans.len(), first_seqs + 1, "{filter:?}");
            for (index, plan) in plans.iter().enumerate() {
                let most = if index < first_seqs { 1 } else { most };
                assert!(!plan.has("COLLSCAN") && !plan.has("SORT"), "{filter:?}: {plan:?}");
                assert!(plan.documents <= most, "{filter:?}: {plan:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_generation_of_an_older_version_gets_its_indexes() {
    let watched = Watched::open("older_indexes").await;
    let names = async || {
        let mut names = Vec::new();
        for collection in ["patients_g1", "tests_g1", "activity_g1"] {
            let collection = watched.database.collection::<Document>(collection);
            names.extend(collection.list_index_names().await.unwrap());
        }
        names.sort_unstable();
        names
    };
    let all = names().await;
    assert_eq!(all.len(), 3 + 8 + 1 + 3);
    for (collection, index) in [
        ("patients_g1", "gender_1__id_1"),
        ("patients_g1", "postCode_1__id_1"),
        ("activity_g1", "at_1__id_1"),
        ("activity_g1", "actor.id_1__id_-1"),
    ] {
        watched.database.collection::<Document>(collection).drop_index(index).await.unwrap();
    }
    assert_eq!(names().await.len(), all.len() - 4);
    let location: StoreLocation = tests::mongod::uri().await.parse().unwrap();
    // Who only looks makes none, however long the look.
    let _looking = inspect_projection_store(&location, &watched.prefix).await.unwrap();
    for _ in 0..25 {
        assert_eq!(names().await.len(), all.len() - 4);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Opened by two processes at once.
    let open = || open_projection_store(&location, &watched.prefix);
    let (one, two) = tokio::join!(open(), open());
    let _open = (one.unwrap(), two.unwrap());
    connections_are_counted();
    let completed = async {
        while names().await != all {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, completed).await.expect("the indexes are there again");
}

#[track_caller]
fn connections_are_counted() {
    let metrics = runtime::metrics::process().text().unwrap();
    let value = |name: &str, labels: &str| {
        let shown = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{labels} ")));
        shown.unwrap_or_else(|| panic!("no {name}{labels} in\n{metrics}")).parse::<i64>().unwrap()
    };
    let connections = |state| {
        let labels = format!("{{db_namespace=\"patients\",state=\"{state}\"}}");
        value("db_client_connection_count", &labels)
    };
    assert!(connections("idle") + connections("used") > 0);
    assert!(connections("idle") >= 0 && connections("used") >= 0);
    let waits = "db_client_connection_wait_time_seconds_count";
    assert!(value(waits, "{db_namespace=\"patients\"}") > 0);
}
