//! Random histories: whatever `decide` allows, and erasure.

use domain::{
    content::Gender,
    decide::{Command, decide},
    event::{Event, Recorded},
    ids::TestId,
    patient::{Patient, Test},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use super::fixtures::{at, patient, test};

/// Events of one stream at most.
const MAX_EVENTS: usize = 12;

/// One patient's history, from registration on; ends at the latest with an erasure.
pub(super) fn random_history(rng: &mut StdRng) -> Vec<Recorded> {
    let (mut state, mut history) = (Patient::default(), Vec::new());
    let length = rng.random_range(1..=MAX_EVENTS);
    while history.len() < length {
        let Some(event) = random_event(rng, &state) else { break };
        let version = history.len() as u64 + 1;
        let recorded = Recorded { version, at: at(version), event };
        state = state.evolve(&recorded);
        history.push(recorded);
    }
    history
}

/// An event that may come next; `None` after the last one.
fn random_event(rng: &mut StdRng, state: &Patient) -> Option<Event> {
    use domain::patient::Lifecycle;
    match state.lifecycle {
        Lifecycle::Unregistered => {
            let content = random_patient(rng);
            Some(decide(state, Command::RegisterPatient { content }).unwrap())
        }
        Lifecycle::Active(_) if rng.random_ratio(1, 25) => Some(Event::PatientErased),
        Lifecycle::Active(_) => Some(decide(state, random_command(rng, state)).unwrap()),
        Lifecycle::Removed => rng.random_bool(0.5).then_some(Event::PatientErased),
        Lifecycle::Erased => None,
    }
}

fn random_command(rng: &mut StdRng, state: &Patient) -> Command {
    let there: Vec<TestId> = state
        .tests
        .iter()
        .filter(|(_, test)| matches!(test, Test::Active { .. }))
        .map(|(id, _)| *id)
        .collect();
    let if_match = None;
    match (rng.random_range(0..100), there.choose(rng)) {
        (0..20, _) => Command::AmendPatient { content: random_patient(rng), if_match },
        (20..26, _) => Command::RemovePatient { if_match },
        (26..55, Some(test)) => {
            Command::AmendTest { test: *test, content: random_test(rng), if_match }
        }
        (55..70, Some(test)) => Command::RemoveTest { test: *test, if_match },
        _ => {
            let test = TestId::new(Uuid::from_u128(rng.random()));
            Command::RecordTest { test, content: random_test(rng) }
        }
    }
}

/// A patient of few values, so that searches find several, and some that a query could take
/// for more than text.
pub(super) fn random_patient(rng: &mut StdRng) -> domain::content::PatientContent {
    const NAMES: [&str; 8] = ["ANN", "ann", "Zoë", "O'Brien", "$ne", "%", "a\0b", "{}"];
    const BORN: [&str; 8] =
        ["1980", "1980-07", "1980-07-01", "1980-07-02", "1979-12-31", "0001", "9999-12-31", "2000"];
    fn name(rng: &mut StdRng) -> String {
        (*NAMES.choose(rng).unwrap()).to_owned()
    }
    fn perhaps(rng: &mut StdRng) -> Option<String> {
        rng.random_bool(0.6).then(|| name(rng))
    }
    let mut content = patient(&name(rng));
    content.last_name = perhaps(rng);
    content.full_name = perhaps(rng);
    content.insurance_number = perhaps(rng);
    content.preferred_contact_number = perhaps(rng);
    content.gender = *Gender::ALL.choose(rng).unwrap();
    (*BORN.choose(rng).unwrap()).clone_into(&mut content.date_of_birth);
    content.post_code = format!("123{}", rng.random_range(0..5));
    content
}

fn random_test(rng: &mut StdRng) -> domain::content::TestContent {
    let mut content = test(&format!("lab {}", rng.random::<u32>()));
    let observation = content.observations.pop().unwrap();
    content.observations = vec![observation; rng.random_range(0..3)];
    content
}
