//! What a command found, and the one place that prints it: words for people or JSON for machines.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::{Map, Value, json};

/// What a command found, or why it could not tell.
pub(crate) type Outcome = Result<Report, Failure>;

/// What a command found that went as it should.
#[derive(Debug)]
pub(crate) struct Report {
    words: String,
    facts: Map<String, Value>,
}

/// Why a command does not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something is not as it was.
    Tampered(Box<Tampered>),
    /// Nothing can be said about it.
    CouldNotTell(anyhow::Error),
}

/// What is not as it was.
#[derive(Debug)]
pub(crate) struct Tampered {
    /// The first record that is wrong, where one can be named.
    pub(crate) seq: Option<u64>,
    /// What is wrong.
    pub(crate) report: Report,
}

impl Report {
    /// A result in plain words, without a final full stop; may have several lines.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), facts: Map::new() }
    }

    /// A result about which there is nothing to say: the work was something else.
    pub(crate) fn nothing() -> Self {
        Self::new("")
    }

    /// Adds a member to the JSON form.
    pub(crate) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

impl Failure {
    /// Something is wrong, with this record first where one can be named.
    pub(crate) fn tampered(seq: impl Into<Option<u64>>, words: impl Into<String>) -> Self {
        Self::Tampered(Box::new(Tampered { seq: seq.into(), report: Report::new(words) }))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::CouldNotTell(error)
    }
}

/// Prints an outcome and says with which code the process ends.
pub(crate) fn print(as_json: bool, command: &str, outcome: Outcome) -> ExitCode {
    let code = match &outcome {
        Ok(_) => 0,
        Err(Failure::Tampered(_)) => 1,
        Err(Failure::CouldNotTell(_)) => 2,
    };
    let printed =
        if as_json { print_json(command, outcome) } else { print_words(command, outcome) };
    // A result that nobody could read is none.
    if printed.is_ok() { ExitCode::from(code) } else { ExitCode::from(2) }
}

/// Says something on the way, which is no result.
pub(crate) fn note(words: &str) {
    // Nothing depends on it, so a closed standard error is no failure.
    let _ = writeln!(io::stderr(), "{words}");
}

/// Without what could disturb a terminal: some of it is from stores and servers that are not
/// believed.
fn printable(words: &str) -> String {
    words.chars().filter(|character| *character == '\n' || !character.is_control()).collect()
}

fn print_words(command: &str, outcome: Outcome) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match outcome {
        Ok(report) if report.words.is_empty() => {}
        Ok(report) => writeln!(out, "{}", printable(&report.words))?,
        Err(Failure::Tampered(found)) => {
            writeln!(out, "TAMPERED: {}", printable(&found.report.words))?;
        }
        Err(Failure::CouldNotTell(error)) => {
            let words = format!("audit {command} could not tell: {error:#}");
            writeln!(io::stderr(), "{}", printable(&words))?;
        }
    }
    out.flush()
}

fn print_json(command: &str, outcome: Outcome) -> io::Result<()> {
    let (verdict, mut report) = match outcome {
        Ok(report) => ("intact", report),
        Err(Failure::Tampered(found)) => {
            let report = found.report;
            ("tampered", if let Some(seq) = found.seq { report.fact("seq", seq) } else { report })
        }
        Err(Failure::CouldNotTell(error)) => ("couldNotTell", Report::new(format!("{error:#}"))),
    };
    let mut object = Map::new();
    object.insert("command".to_owned(), json!(command));
    object.insert("verdict".to_owned(), json!(verdict));
    object.insert("words".to_owned(), json!(report.words));
    object.append(&mut report.facts);
    let mut out = io::stdout().lock();
    writeln!(out, "{}", Value::Object(object))?;
    out.flush()
}
