//! What the load test asks, how often, and what must be answered: the older system's mix.
//!
//! Eight groups of equal weight; in a group with an invalid or unknown case, every tenth task is
//! that one.

use bytes::Bytes;
use reqwest::Method;

use super::samples;

/// A task: one request, or one and another that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The key is checked, nothing else.
    Echo,
    /// A patient is created.
    CreatePatient,
    /// A patient without a first name is refused.
    CreateInvalidPatient,
    /// A patient is loaded.
    LoadPatient,
    /// A patient that does not exist is not found.
    LoadUnknownPatient,
    /// A patient is loaded and put back.
    UpdatePatient,
    /// A patient is found by its id, and then everybody is searched.
    Search,
    /// A test is created.
    CreateTest,
    /// A test of an impossible patient is refused.
    CreateTestOfUnknown,
    /// A patient's tests are listed.
    ListTests,
    /// Tests of a patient that does not exist are not found.
    ListTestsOfUnknown,
    /// A test is loaded.
    LoadTest,
    /// A test that does not exist is not found.
    LoadUnknownTest,
}

/// What one user knows and asks for.
#[derive(Debug, Clone)]
pub struct Known {
    /// A patient with one test, so that listing its tests costs the same at every time.
    pub patient: String,
    /// That test.
    pub test: String,
    /// Another patient, who is given tests.
    pub receiver: String,
}

/// A request and the status that it must be answered with.
#[derive(Debug)]
pub struct Call {
    /// What it is called in reports.
    pub name: &'static str,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// Its body, JSON.
    pub body: Option<Bytes>,
    /// The status.
    pub expected: u16,
}

/// An id that nothing has, and no UUID.
const UNKNOWN: &str = "1";

/// A group of tasks.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What it is called in reports.
    pub name: &'static str,
    /// Nine of ten tasks, or all of them.
    pub usual: Task,
    /// One of ten tasks.
    pub tenth: Option<Task>,
}

/// The groups, of which each has the same weight.
pub const GROUPS: [Group; 8] = [
    group("echo", Task::Echo, None),
    group("create patient", Task::CreatePatient, Some(Task::CreateInvalidPatient)),
    group("load patient", Task::LoadPatient, Some(Task::LoadUnknownPatient)),
    group("update patient", Task::UpdatePatient, None),
    group("search", Task::Search, None),
    group("create test", Task::CreateTest, Some(Task::CreateTestOfUnknown)),
    group("list tests", Task::ListTests, Some(Task::ListTestsOfUnknown)),
    group("load test", Task::LoadTest, Some(Task::LoadUnknownTest)),
];

const fn group(name: &'static str, usual: Task, tenth: Option<Task>) -> Group {
    Group { name, usual, tenth }
}

impl Group {
    /// The task of a turn, where the group's turns are counted.
    pub fn task(&self, turn: u32) -> Task {
        self.tenth.filter(|_| turn % 10 == 9).unwrap_or(self.usual)
    }
}

/// The task whose turn it is when tasks of all groups are dealt out one by one: 80 that follow one
/// another are ten of each group, and unusual ones do not come together.
pub fn nth(number: u32) -> Task {
    let place = number % 8;
    let group = GROUPS[usize::try_from(place).unwrap_or_default()];
    group.task(number / 8 + place)
}

/// Requests of the whole mix for each task, on average.
pub fn requests_each() -> f64 {
    let requests: u32 = (0..80).map(|number| nth(number).requests()).sum();
    f64::from(requests) / 80.0
}

impl Task {
    /// What its first request is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::CreatePatient => "create patient",
            Self::CreateInvalidPatient => "create patient, invalid",
            Self::LoadPatient => "load patient",
            Self::LoadUnknownPatient => "load patient, unknown",
            Self::UpdatePatient => "update patient, load",
            Self::Search => "search by id",
            Self::CreateTest => "create test",
            Self::CreateTestOfUnknown => "create test, unknown patient",
            Self::ListTests => "list tests",
            Self::ListTestsOfUnknown => "list tests, unknown patient",
            Self::LoadTest => "load test",
            Self::LoadUnknownTest => "load test, unknown",
        }
    }

    /// Its first request.
    pub fn first(self, known: &Known) -> Call {
        let Known { patient, test, receiver } = known;
        let name = self.name();
        let get = |path: String, expected| call(name, Method::GET, path, None, expected);
        let post =
            |path: String, body, expected| call(name, Method::POST, path, Some(body), expected);
        match self {
            Self::Echo => get("/echo/resource?param1=sample".to_owned(), 200),
            Self::CreatePatient => post("/patient".to_owned(), samples::patient(), 201),
            Self::CreateInvalidPatient => {
                post("/patient".to_owned(), samples::invalid_patient(), 400)
            }
            Self::LoadPatient | Self::UpdatePatient => get(format!("/patient/{patient}"), 200),
            Self::LoadUnknownPatient => get(format!("/patient/{UNKNOWN}"), 404),
            Self::Search => post(SEARCH.to_owned(), format!(r#"{{"id":"{patient}"}}"#), 200),
            Self::CreateTest => post(format!("/patient/{receiver}/tests"), samples::test(), 201),
            Self::CreateTestOfUnknown => {
                post(format!("/patient/{UNKNOWN}/tests"), samples::test(), 400)
            }
            Self::ListTests => get(format!("/patient/{patient}/tests"), 200),
            Self::ListTestsOfUnknown => get(format!("/patient/{UNKNOWN}/tests"), 404),
            Self::LoadTest => get(format!("/patient/{patient}/tests/{test}"), 200),
            Self::LoadUnknownTest => get(format!("/patient/{patient}/tests/{UNKNOWN}"), 404),
        }
    }

    /// Its second request, where it has one, made from the answer to the first. `number` says how
    /// many were answered.
    pub fn next(self, known: &Known, answered: u32, answer: Bytes) -> Option<Call> {
        match (self, answered) {
            (Self::UpdatePatient, 1) => Some(Call {
                name: "update patient, put",
                method: Method::PUT,
                path: format!("/patient/{}", known.patient),
                body: Some(answer),
                expected: 200,
            }),
            (Self::Search, 1) => {
                let body = Some("{}".to_owned());
                Some(call("search all", Method::POST, SEARCH.to_owned(), body, 200))
            }
            _ => None,
        }
    }

    /// How many requests it is.
    pub fn requests(self) -> u32 {
        if matches!(self, Self::UpdatePatient | Self::Search) { 2 } else { 1 }
    }
}

const SEARCH: &str = "/patient/search";

fn call(
    name: &'static str,
    method: Method,
    path: String,
    body: Option<String>,
    expected: u16,
) -> Call {
    Call { name, method, path, body: body.map(Bytes::from), expected }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn known() -> Known {
        let text = str::to_owned;
        Known { patient: text("p"), test: text("t"), receiver: text("r") }
    }

    #[test]
    fn any_eighty_tasks_in_a_row_are_the_mix() {
        for start in [0, 1, 79, 12_345] {
            let mut dealt: HashMap<&str, usize> = HashMap::new();
            for number in start..start + 80 {
                *dealt.entry(nth(number).name()).or_default() += 1;
            }
            for Group { usual, tenth, .. } in GROUPS {
                let one = tenth.map_or(0, |task| dealt[task.name()]);
                assert_eq!(one, usize::from(tenth.is_some()), "{tenth:?} from {start}");
                assert_eq!(dealt[usual.name()] + one, 10, "{usual:?} from {start}");
            }
        }
    }

    #[test]
    fn a_group_has_nine_usual_tasks_of_ten() {
        for group in GROUPS {
            let unusual = (0..10).filter(|turn| group.task(*turn) != group.usual).count();
            assert_eq!(unusual, usize::from(group.tenth.is_some()), "{group:?}");
        }
    }

    #[test]
    fn requests_and_their_statuses_are_those_of_the_contract() {
        let expected = [
            ("GET", "/echo/resource?param1=sample", 200),
            ("POST", "/patient", 201),
            ("POST", "/patient", 400),
            ("GET", "/patient/p", 200),
            ("GET", "/patient/1", 404),
            ("GET", "/patient/p", 200),
            ("POST", "/patient/search", 200),
            ("POST", "/patient/r/tests", 201),
            ("POST", "/patient/1/tests", 400),
            ("GET", "/patient/p/tests", 200),
            ("GET", "/patient/1/tests", 404),
            ("GET", "/patient/p/tests/t", 200),
            ("GET", "/patient/p/tests/1", 404),
        ];
        let tasks = GROUPS.into_iter().flat_map(|group| [Some(group.usual), group.tenth]);
        let tasks: Vec<Task> = tasks.flatten().collect();
        assert_eq!(tasks.len(), expected.len());
        for (task, (method, path, status)) in tasks.into_iter().zip(expected) {
            let call = task.first(&known());
            assert_eq!(
                (call.method.as_str(), call.path.as_str(), call.expected),
                (method, path, status)
            );
            assert_eq!(call.body.is_some(), method == "POST", "{task:?}");
        }
    }

    #[test]
    fn what_was_loaded_is_put_back_and_everybody_is_searched() {
        let next = |task: Task, answered| task.next(&known(), answered, Bytes::from("loaded"));
        let put = next(Task::UpdatePatient, 1).expect("a request");
        assert_eq!((put.method, put.path.as_str(), put.expected), (Method::PUT, "/patient/p", 200));
        assert_eq!(put.body.as_deref(), Some(b"loaded".as_slice()));
        let search = next(Task::Search, 1).expect("a request");
        assert_eq!((search.path.as_str(), search.expected), ("/patient/search", 200));
        assert_eq!(search.body.as_deref(), Some(b"{}".as_slice()));
        for task in (0..80).map(nth) {
            let requests = (1..9).find(|answered| next(task, *answered).is_none());
            assert_eq!(requests, Some(task.requests()), "{task:?}");
        }
        assert!((requests_each() - 1.25).abs() < 1e-9);
    }
}
