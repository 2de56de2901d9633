//! The verdict in plain words, and as facts for machines.

use audit_verify::report::{Finding, Report as Engine};
use serde_json::{Value, json};

use super::Verified;
use crate::{
    evidence::{Cosigned, short},
    output::{Failure, Outcome, Report, Tampered},
};

/// Findings that are spelled out.
const SHOWN: usize = 10;

/// What a person and a script are told.
pub(super) fn of(verified: Verified) -> Outcome {
    let Verified { report, what, cosigned, compared, unchecked, .. } = verified;
    let mut lines = Vec::new();
    match report.findings.first() {
        None => lines.push(format!("INTACT: {what}, {}", extent(&report))),
        Some(first) => {
            lines.push(format!("{what}, ledger {}", report.origin));
            lines.push(named(first));
            let others = report.findings.iter().skip(1).take(SHOWN - 1);
            lines.extend(others.map(|finding| format!("also: {}", finding.problem)));
            if report.findings.len() > SHOWN {
                lines.push(format!("and {} more findings", report.findings.len() - SHOWN));
            }
            if report.records > 0 {
                lines.push(format!(
                    "up to there each record follows from the one before: {}",
                    extent(&report)
                ));
            }
        }
    }
    lines.push(checked(&report));
    // Of many anchored ones the newest says what the others do.
    for agreed in report.agreed.iter().rev().take(SHOWN) {
        let by = agreed.key.as_ref().map(|key| format!(", signed by {}", short(key)));
        let (name, size) = (&agreed.name, agreed.size);
        lines.push(format!("agrees with {name} of {size} records{}", by.unwrap_or_default()));
    }
    lines.extend(compared);
    lines.extend(unchecked.iter().map(|what| format!("not checked: {what}")));
    let words = lines.join("\n") + &Cosigned::words(&cosigned);
    let report_out = facts(Report::new(words), &report, &cosigned, &unchecked);
    match report.findings.first() {
        None => Ok(report_out),
        Some(first) => Err(Failure::Tampered(Box::new(Tampered {
            // Where one of several may be the first bad one, the findings say which.
            seq: first.is_exact().then_some(first.first),
            report: report_out,
        }))),
    }
}

fn extent(report: &Engine) -> String {
    let origin = &report.origin;
    let (Some(from), Some(to)) = (report.from_time, report.to_time) else {
        return format!("ledger {origin}: no records");
    };
    let last = report.head.size.saturating_sub(1);
    format!(
        "ledger {origin}: {} records, {} to {last}, recorded {from} to {to}, Merkle root {}",
        report.records, report.from, report.head.root
    )
}

fn named(finding: &Finding) -> String {
    let Finding { first, last, problem } = finding;
    if first == last {
        format!("first bad record: {first}: {problem}")
    } else {
        format!("first bad record: one of {first} to {last}: {problem}")
    }
}

fn checked(report: &Engine) -> String {
    let records = "checked: canonical form, hash, link, place, time and ledger of every record; the \
                   versions of every stream; the keys that the ledger names; the Merkle tree";
    if report.blocks == 0 {
        return records.to_owned();
    }
    let seals = if report.seals { ", and their seals" } else { "" };
    format!("{records}; roots and lookup entries of {} stored blocks{seals}", report.blocks)
}

fn facts(out: Report, report: &Engine, cosigned: &[Cosigned], unchecked: &[String]) -> Report {
    let findings: Vec<Value> = report.findings.iter().map(finding_json).collect();
    let agreed: Vec<Value> = report
        .agreed
        .iter()
        .map(|agreed| {
            json!({
                "name": agreed.name,
                "size": agreed.size,
                "key": agreed.key.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let keys: Vec<Value> = report
        .keys
        .iter()
        .map(|(from, key)| json!({ "fromSize": from, "key": key.to_string() }))
        .collect();
    out.fact("ledger", report.origin.to_string())
        .fact("from", report.from)
        .fact("size", report.head.size)
        .fact("records", report.records)
        .fact("root", report.head.root.to_string())
        .fact("fromTime", report.from_time.map(|time| time.to_string()))
        .fact("toTime", report.to_time.map(|time| time.to_string()))
        .fact("agreed", agreed)
        .fact("keys", keys)
        .fact("cosigned", Cosigned::json(cosigned))
        .fact("unchecked", unchecked.to_vec())
        .fact("findings", findings)
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "first": finding.first,
        "last": finding.last,
        "problem": finding.problem.to_string(),
    })
}
