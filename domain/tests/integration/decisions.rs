//! Given events, when a command, then an event or a refusal.

use domain::{
    decide::{Command, Refusal, decide},
    event::Event,
    patient::Patient,
};

use crate::given::{history, patient, test, test_id};

#[track_caller]
#[allow(clippy::needless_pass_by_value)]
fn check(given: Vec<Event>, when: Command, then: Result<Event, Refusal>) {
    assert_eq!(decide(&Patient::replay(&history(given)), when), then);
}

fn registered() -> Event {
    Event::PatientRegistered(patient("A"))
}

fn recorded() -> Event {
    Event::TestRecorded { test: test_id(1), content: test("P") }
}

#[test]
fn a_patient_is_registered_once() {
    let register = || Command::RegisterPatient { content: patient("A") };
    check(vec![], register(), Ok(registered()));
    check(vec![registered()], register(), Err(Refusal::IdTaken));
    check(vec![registered(), Event::PatientRemoved], register(), Err(Refusal::IdTaken));
}

#[test]
fn a_patient_who_is_not_there_takes_no_command() {
    let commands = || {
        [
            Command::AmendPatient { content: patient("B"), if_match: None },
            Command::RemovePatient { if_match: None },
            Command::RecordTest { test: test_id(1), content: test("P") },
            Command::AmendTest { test: test_id(1), content: test("P"), if_match: None },
            Command::RemoveTest { test: test_id(1), if_match: None },
        ]
    };
    let gone = [
        vec![],
        vec![registered(), recorded(), Event::PatientRemoved],
        vec![registered(), recorded(), Event::PatientErased],
        vec![registered(), Event::PatientRemoved, Event::PatientErased],
    ];
    for given in gone {
        for command in commands() {
            check(given.clone(), command, Err(Refusal::PatientNotFound));
        }
    }
}

#[test]
fn a_patient_is_erased_once_whether_she_was_removed_or_not() {
    let erase = || Command::ErasePatient;
    check(vec![], erase(), Err(Refusal::PatientNotFound));
    for given in [
        vec![registered()],
        vec![registered(), recorded()],
        vec![registered(), recorded(), Event::PatientRemoved],
    ] {
        check(given.clone(), erase(), Ok(Event::PatientErased));
        let erased = [given, vec![Event::PatientErased]].concat();
        check(erased.clone(), erase(), Err(Refusal::Erased));
        let register = Command::RegisterPatient { content: patient("A") };
        check(erased, register, Err(Refusal::IdTaken));
    }
}

#[test]
fn amending_replaces() {
    let amend = Command::AmendPatient { content: patient("B"), if_match: None };
    check(vec![registered()], amend, Ok(Event::PatientAmended(patient("B"))));
}

#[test]
fn if_match_compares_with_the_revision_of_the_resource_not_of_the_stream() {
    let amend =
        |if_match| Command::AmendPatient { content: patient("B"), if_match: Some(if_match) };
    let given = || vec![registered(), recorded()];
    check(given(), amend(1), Ok(Event::PatientAmended(patient("B"))));
    check(given(), amend(2), Err(Refusal::PreconditionFailed { current: 1 }));
    let remove = |if_match| Command::RemoveTest { test: test_id(1), if_match: Some(if_match) };
    check(given(), remove(2), Ok(Event::TestRemoved { test: test_id(1) }));
    check(given(), remove(1), Err(Refusal::PreconditionFailed { current: 2 }));
    let remove = Command::RemovePatient { if_match: Some(9) };
    check(given(), remove, Err(Refusal::PreconditionFailed { current: 1 }));
}

#[test]
fn a_test_is_recorded_once_and_gone_when_removed() {
    let record = || Command::RecordTest { test: test_id(1), content: test("P") };
    let amend = || Command::AmendTest { test: test_id(1), content: test("Q"), if_match: None };
    check(vec![registered()], record(), Ok(recorded()));
    check(vec![registered(), recorded()], record(), Err(Refusal::IdTaken));
    check(vec![registered()], amend(), Err(Refusal::TestNotFound));
    let amended = Event::TestAmended { test: test_id(1), content: test("Q") };
    check(vec![registered(), recorded()], amend(), Ok(amended));
    let removed = Event::TestRemoved { test: test_id(1) };
    check(vec![registered(), recorded(), removed.clone()], amend(), Err(Refusal::TestNotFound));
    check(vec![registered(), recorded(), removed], record(), Err(Refusal::IdTaken));
}
