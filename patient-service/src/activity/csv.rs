//! Activity as CSV (RFC 4180), for spreadsheets.

use http::{HeaderMap, header::ACCEPT};
use projections::documents::ActivityDoc;

/// With a header line.
pub(super) const MEDIA_TYPE: &str = "text/csv; charset=utf-8; header=present";

const HEADER: [&str; 13] = [
    "seq",
    "at",
    "type",
    "outcome",
    "purpose",
    "actor",
    "actorKind",
    "actorRoles",
    "source",
    "client",
    "trace",
    "test",
    "patients",
];

/// Whether a client would rather have CSV than JSON (RFC 9110 §12.5.1). What it names besides does
/// not matter: whoever wants neither gets JSON, as everywhere.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let (mut csv, mut json) = (0.0, 0.0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
        let best: &mut f32 = match name.trim().to_ascii_lowercase().as_str() {
            "text/csv" | "text/*" => &mut csv,
            "application/json" | "application/*" | "*/*" => &mut json,
            _ => continue,
        };
        *best = best.max(weight(parameters));
    }
    csv > json
}

fn weight(parameters: &str) -> f32 {
    let q = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
    });
    q.unwrap_or(1.0)
}

/// The documents as a table; several roles or patients of one are joined by spaces.
pub(super) fn table(documents: &[ActivityDoc]) -> String {
    let mut table = String::new();
    push_line(&mut table, HEADER.map(str::to_owned));
    for document in documents {
        let ActivityDoc { actor, .. } = document;
        let optional = |it: Option<String>| it.unwrap_or_default();
        let cells = [
            document.seq.to_string(),
            document.at.to_string(),
            document.record_type.to_string(),
            document.outcome.to_string(),
            document.purpose.to_string(),
            actor.id.to_string(),
            super::kind_of(actor.kind).to_owned(),
            joined(&actor.roles),
            document.source.to_string(),
            optional(document.client.map(|it| it.to_string())),
            optional(document.trace.map(|it| it.to_string())),
            optional(document.test.map(|it| it.to_string())),
            joined(&document.patients),
        ];
        push_line(&mut table, cells);
    }
    table
}

fn joined(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn push_line(table: &mut String, cells: [String; HEADER.len()]) {
    for (column, cell) in cells.into_iter().enumerate() {
        if column > 0 {
            table.push(',');
        }
        push_cell(table, &cell);
    }
    table.push_str("\r\n");
}

/// Cells are words of closed lists, numbers, ids and names. A name may begin with a hyphen, which
/// spreadsheets take for a formula: an apostrophe makes it text. Nothing here needs quotes today;
/// whatever comes, the table stays a table.
fn push_cell(table: &mut String, cell: &str) {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let quoted = cell.contains(['"', ',', '\r', '\n']);
    let quote = if quoted { "\"" } else { "" };
    table.push_str(quote);
    table.push_str(if formula { "'" } else { "" });
    table.push_str(&cell.replace('"', "\"\""));
    table.push_str(quote);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::{
        actor::{Actor, ActorKind, Outcome, Purpose},
        record::RecordType,
        time::Timestamp,
    };

    #[test]
    fn csv_is_for_those_who_prefer_it() {
        #[track_caller]
        fn check(accept: &[&str], expected: bool) {
            let values = accept.iter().map(|value| (ACCEPT, value.parse().unwrap()));
            assert_eq!(is_asked_for(&values.collect()), expected, "{accept:?}");
        }
        check(&[], false);
        check(&["text/csv"], true);
        check(&["Text/CSV; header=present"], true);
        check(&["text/csv, */*;q=0.1"], true);
        check(&["application/json;q=0.5", "text/csv;q=0.9"], true);
        check(&["*/*"], false);
        check(&["text/csv;q=0"], false);
        check(&["text/csv;q=0.5, application/json"], false);
        check(&["text/html"], false);
        check(&["text/csv;q=x"], false);
    }

    #[test]
    fn cells_are_neutral_and_quoted_where_they_must_be() {
        #[track_caller]
        fn check(cell: &str, expected: &str) {
            let mut table = String::new();
            push_cell(&mut table, cell);
            assert_eq!(table, expected);
        }
        check("clinic", "clinic");
        check("", "");
        check("-1", "'-1");
        for start in ["=", "+", "@", "\t"] {
            check(&format!("{start}cmd"), &format!("'{start}cmd"));
        }
        check("a,b", "\"a,b\"");
        check("a\"b", "\"a\"\"b\"");
        check("\r\n", "\"'\r\n\"");
    }

    #[test]
    fn a_record_is_a_line() {
        let document = ActivityDoc {
            seq: 7,
            at: Timestamp::from_millis(0),
            record_type: RecordType::PatientsSearched,
            outcome: Outcome::Success,
            purpose: Purpose::Research,
            actor: Actor {
                id: "-rm".parse().unwrap(),
                kind: ActorKind::User,
                roles: vec!["nurse".parse().unwrap(), "ward.3".parse().unwrap()],
            },
            source: "patient-service".parse().unwrap(),
            client: Some("2001:db8::7".parse().unwrap()),
            trace: None,
            test: None,
            patients: vec![
                "6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse().unwrap(),
                "6f9619ff-8b86-d011-b42d-00cf4fc964fe".parse().unwrap(),
            ],
        };
        let expected = "seq,at,type,outcome,purpose,actor,actorKind,actorRoles,source,client,\
            trace,test,patients\r\n\
            7,1970-01-01T00:00:00.000Z,PatientsSearched,success,HRESCH,'-rm,user,nurse ward.3,\
            patient-service,2001:db8::7,,,6f9619ff-8b86-d011-b42d-00cf4fc964ff \
            6f9619ff-8b86-d011-b42d-00cf4fc964fe\r\n";
        assert_eq!(table(&[document]), expected);
    }
}
