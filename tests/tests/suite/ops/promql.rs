//! Which metrics a query names.

use std::collections::BTreeSet;

/// What stands before a list of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// The names of the metrics in a query: words that are neither in braces, brackets, quotes or a
/// list of labels, nor functions or operators.
pub(super) fn metrics(query: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '{' => after(rest, '}'),
            '[' => after(rest, ']'),
            '"' => quoted(rest),
            _ if is_of_word(first) => {
                let (word, more) =
                    rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
                let more = more.trim_start();
                let is_name =
                    !first.is_ascii_digit() && !is_applied(more) && !OPERATORS.contains(&word);
                if is_name {
                    names.insert(word);
                }
                if GROUPING.contains(&word) { after(more, ')') } else { more }
            }
            _ => &rest[first.len_utf8()..],
        };
    }
    names
}

/// Whether what stands before this is a function or an aggregation.
fn is_applied(text: &str) -> bool {
    let word = text.split(|c| !is_of_word(c)).next();
    text.starts_with('(') || matches!(word, Some("by" | "without"))
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')
}

/// What follows the next `end` that is not quoted.
fn after(text: &str, end: char) -> &str {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == end {
            return &rest[end.len_utf8()..];
        }
        rest = if first == '"' { quoted(rest) } else { &rest[first.len_utf8()..] };
    }
    rest
}

/// What follows a quoted text.
fn quoted(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return &text[at + 1..],
            _ => escaped = c == '\\' && !escaped,
        }
    }
    ""
}

#[track_caller]
fn check(query: &str, names: &[&str]) {
    assert_eq!(metrics(query), names.iter().copied().collect(), "{query}");
}

#[test]
fn metrics_are_told_from_labels_functions_and_operators() {
    check("up == 0", &["up"]);
    check(
        r#"sum by (job, le) (rate(a_total{x="b{c}\"d",y=~"e|f"}[5m])) > 14.4 * 0.001"#,
        &["a_total"],
    );
    check("a:b:rate5m and on (job) c unless sum(d) by (e) or vector(0)", &["a:b:rate5m", "c", "d"]);
    check(
        r"histogram_quantile(0.95, sum by (le) (rate(f_bucket[$__rate_interval])))",
        &["f_bucket"],
    );
    check("absent(g == 1) / 1e3 offset 5m", &["g"]);
}
