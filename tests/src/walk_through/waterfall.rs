//! A trace as a picture: one bar a span, in the order of the tree, and arrows where spans are linked.

use std::fmt::{self, Write as _};

use crate::otlp::{Span, Trace};

/// Sizes, in pixels.
const WIDTH: f64 = 1_200.0;
const NAMES: f64 = 420.0;
const MARGIN: f64 = 12.0;
const HEAD: f64 = 64.0;
const ROW: f64 = 20.0;
const INDENT: f64 = 13.0;
/// Room for a duration behind the longest bar.
const BEHIND: f64 = 70.0;

/// Steps of the time axis.
const STEPS: u32 = 5;

/// A colour for each service.
const COLOURS: [(&str, &str); 4] = [
    ("gateway", "#4e79a7"),
    ("patient-service", "#59a14f"),
    ("audit-service", "#e15759"),
    ("projections", "#b07aa1"),
];

const FONT: &str = r#"font-family="DejaVu Sans, Verdana, sans-serif" font-size="12""#;

/// Attributes that say more than the name, and what is written before them.
const TOLD: [(&str, &str); 6] = [
    ("db.system.name", ""),
    ("db.namespace", ""),
    ("vitalog.record.type", ""),
    ("vitalog.commit.first", "first="),
    ("vitalog.commit.records", "records="),
    ("vitalog.commit.result", ""),
];

/// Draws a trace as SVG.
pub fn draw(trace: &Trace) -> String {
    let drawing = Drawing::of(trace);
    let mut svg = String::new();
    // Writing to a text cannot fail.
    let _ = drawing.write(&mut svg, &trace.id);
    svg
}

struct Drawing<'a> {
    /// Spans with their depth, in the order of the tree.
    rows: Vec<(usize, &'a Span)>,
    began: u64,
    nanoseconds: u64,
}

impl<'a> Drawing<'a> {
    fn of(trace: &'a Trace) -> Self {
        let mut rows = Vec::with_capacity(trace.spans.len());
        for root in trace.roots() {
            add(trace, root, 0, &mut rows);
        }
        let began = trace.spans.iter().map(|span| span.started).min().unwrap_or_default();
        let ended = trace.spans.iter().map(|span| span.ended).max().unwrap_or_default();
        Self { rows, began, nanoseconds: ended.saturating_sub(began).max(1) }
    }

    fn write(&self, svg: &mut String, id: &str) -> fmt::Result {
        #[allow(clippy::cast_precision_loss, reason = "some dozens")]
        let bottom = HEAD + ROW * self.rows.len() as f64;
        let height = bottom + MARGIN;
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>"#
        )?;
        writeln!(svg, "{ARROW}")?;
        writeln!(svg, r#"<rect width="{WIDTH}" height="{height}" fill="white"/>"#)?;
        let total = milliseconds(self.nanoseconds);
        writeln!(
            svg,
            r#"<text x="{MARGIN}" y="20">trace {id}, {} spans, {total}</text>"#,
            self.rows.len()
        )?;
        let here = |(service, _): &(&str, &str)| {
            self.rows.iter().any(|(_, span)| span.service == *service)
        };
        for (number, (service, colour)) in (0_u32..).zip(COLOURS.into_iter().filter(here)) {
            let x = NAMES + MARGIN + 160.0 * f64::from(number);
            writeln!(svg, r#"<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>"#)?;
            writeln!(svg, r#"<text x="{}" y="20">{service}</text>"#, x + 17.0)?;
        }
        for step in 0..=STEPS {
            let at = self.nanoseconds / u64::from(STEPS) * u64::from(step);
            let (x, top) = (self.x(self.began + at), HEAD - 6.0);
            let line = r##"stroke="#ddd""##;
            writeln!(svg, r#"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}" {line}/>"#)?;
            let text = milliseconds(at);
            writeln!(svg, r##"<text x="{x:.1}" y="{}" fill="#777">{text}</text>"##, top - 5.0)?;
        }
        for row in 0..self.rows.len() {
            self.row(svg, row)?;
        }
        for row in 0..self.rows.len() {
            self.links(svg, row)?;
        }
        writeln!(svg, "</svg>")
    }

    fn row(&self, svg: &mut String, row: usize) -> fmt::Result {
        let (depth, span) = self.rows[row];
        let y = top(row);
        #[allow(clippy::cast_precision_loss, reason = "some dozens")]
        let x = MARGIN + INDENT * depth as f64;
        let told = TOLD.iter().filter_map(|(name, before)| {
            let value = span.attributes.get(*name)?;
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(format!("{before}{value}"))
        });
        let told: Vec<String> = told.collect();
        let (name, told) = (escaped(&span.name), escaped(&told.join(" ")));
        let error = if span.is_error { " ERROR" } else { "" };
        writeln!(
            svg,
            r##"<text x="{x}" y="{}">{name}{error} <tspan fill="#777" font-size="10">{told}</tspan></text>"##,
            y + 14.0
        )?;
        let (from, to) = (self.x(span.started), self.x(span.ended));
        let colour = COLOURS.iter().find(|(service, _)| *service == span.service);
        let colour = colour.map_or("#999", |(_, colour)| *colour);
        writeln!(
            svg,
            r#"<rect x="{from:.1}" y="{}" width="{:.1}" height="12" fill="{colour}"/>"#,
            y + 4.0,
            (to - from).max(1.5)
        )?;
        let took = milliseconds(span.ended.saturating_sub(span.started));
        writeln!(svg, r#"<text x="{:.1}" y="{}">{took}</text>"#, to.max(from + 1.5) + 4.0, y + 14.0)
    }

    /// Arrows to what a span is linked to, where that is in the picture.
    fn links(&self, svg: &mut String, row: usize) -> fmt::Result {
        let (_, span) = self.rows[row];
        for other in 0..self.rows.len() {
            if !span.is_linked_to(self.rows[other].1) {
                continue;
            }
            let (x1, y1) = (self.x(span.started), top(row) + 10.0);
            let (x2, y2) = (self.x(self.rows[other].1.started), top(other) + 10.0);
            // Beside the bars: those of a trace are below one another.
            let side = x1.min(x2) - 14.0 - (y2 - y1).abs() / 6.0;
            writeln!(
                svg,
                r##"<path d="M{x1:.1} {y1} C{side:.1} {y1} {side:.1} {y2} {:.1} {y2}" fill="none" stroke="#333" stroke-dasharray="4 3" marker-end="url(#to)"/>"##,
                x2 - 1.0
            )?;
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "a picture")]
    fn x(&self, time: u64) -> f64 {
        let room = WIDTH - NAMES - MARGIN - BEHIND;
        let part = time.saturating_sub(self.began) as f64 / self.nanoseconds as f64;
        NAMES + MARGIN + room * part
    }
}

const ARROW: &str = r##"<marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#333"/></marker>"##;

fn add<'a>(trace: &'a Trace, span: &'a Span, depth: usize, rows: &mut Vec<(usize, &'a Span)>) {
    // Spans that form a ring would never end.
    if rows.len() >= trace.spans.len() {
        return;
    }
    rows.push((depth, span));
    for child in trace.children(span) {
        add(trace, child, depth + 1, rows);
    }
}

#[allow(clippy::cast_precision_loss, reason = "some dozens")]
fn top(row: usize) -> f64 {
    HEAD + ROW * row as f64
}

#[allow(clippy::cast_precision_loss, reason = "a picture")]
fn milliseconds(nanoseconds: u64) -> String {
    let value = nanoseconds as f64 / 1e6;
    if value < 10.0 { format!("{value:.1} ms") } else { format!("{value:.0} ms") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::otlp::{Context, Kind};

    fn span(name: &str, id: &str, parent: Option<&str>, links: &[&str]) -> Span {
        let link = |span: &&str| Context { trace: "t".to_owned(), span: (*span).to_owned() };
        Span {
            service: "audit-service".to_owned(),
            name: name.to_owned(),
            kind: Kind::Internal,
            trace: "t".to_owned(),
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            links: links.iter().map(link).collect(),
            attributes: BTreeMap::from([("vitalog.commit.first".to_owned(), json!(7))]),
            is_error: false,
            started: 1_000_000,
            ended: 301_000_000,
        }
    }

    #[test]
    fn a_drawing_has_a_bar_a_span_and_an_arrow_a_link_within_it() {
        let spans = vec![
            span("a < b", "1", None, &[]),
            span("append", "2", Some("1"), &["3", "of another trace"]),
            span("commit", "3", Some("2"), &["2"]),
        ];
        let svg = draw(&Trace { id: "t".to_owned(), spans });
        assert_eq!(svg.matches(r##"height="12" fill="#e15759""##).count(), 3 + 1, "{svg}");
        assert_eq!(svg.matches("marker-end").count(), 2, "{svg}");
        for text in ["a &lt; b", "300 ms", "first=7", "trace t, 3 spans"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
