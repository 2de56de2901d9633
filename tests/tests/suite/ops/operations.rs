//! What `docs/operations.md` says, as far as it can be looked at.

use std::{collections::BTreeSet, fs};

use super::files;

fn doc(name: &str) -> String {
    let file = files::root().join("docs").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The anchors that GitHub gives headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

/// The metrics of the table, which `live` compares with those that are there.
pub(super) fn metrics() -> BTreeSet<String> {
    let text = doc("operations.md");
    let (_, table) = text.split_once("\n## Metrics\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_a_section_in_its_runbook_and_no_section_is_left_over() {
    let mut sections: BTreeSet<String> = anchors(&doc("operations.md"));
    sections.retain(|anchor| anchor.starts_with("alert-"));
    let mut runbooks = BTreeSet::new();
    for rule in files::rules().iter().filter(|rule| rule["alert"].is_string()) {
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        let (file, anchor) = runbook.split_once('#').unwrap();
        assert_eq!(file, "docs/operations.md", "{runbook}");
        runbooks.insert(anchor.to_owned());
    }
    assert_eq!(runbooks, sections);
}

#[test]
fn every_link_leads_somewhere() {
    let text = doc("operations.md");
    let mut looked_at = 0;
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let file = if file.is_empty() { "operations.md" } else { file };
        assert!(files::root().join("docs").join(file).is_file(), "{link}");
        assert!(anchor.is_empty() || anchors(&doc(file)).contains(anchor), "{link}");
        looked_at += 1;
    }
    assert!(looked_at > 20, "{looked_at} links");
}
