//! The spans of one trace as a tree.

use std::{collections::HashSet, fmt};

use super::{Kind, Span};

/// The spans of one trace, in the order in which they began.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Its spans.
    pub spans: Vec<Span>,
}

impl Trace {
    pub(super) fn of(spans: &[Span], id: &str) -> Self {
        let mut spans: Vec<Span> = spans.iter().filter(|span| span.trace == id).cloned().collect();
        spans.sort_by_key(|span| (span.started, span.id.clone()));
        Self { id: id.to_owned(), spans }
    }

    /// The spans that are part of no span of this trace: of a tree that began here one without a
    /// parent, of one that a client began one whose parent the client has.
    pub fn roots(&self) -> Vec<&Span> {
        let all: HashSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        let is_root =
            |span: &&Span| span.parent.as_ref().is_none_or(|parent| !all.contains(parent.as_str()));
        self.spans.iter().filter(is_root).collect()
    }

    /// The root of a tree that is whole: every span was received once, and every parent but the
    /// root's is there. The root's parent must be `parent`.
    #[track_caller]
    pub fn root(&self, parent: Option<&str>) -> &Span {
        let ids: HashSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        assert_eq!(ids.len(), self.spans.len(), "a span was received twice:\n{self}");
        let roots = self.roots();
        assert_eq!(roots.len(), 1, "this is not one tree:\n{self}");
        assert_eq!(roots[0].parent.as_deref(), parent, "the root's parent:\n{self}");
        roots[0]
    }

    /// The parts of a span, in the order in which they began.
    pub fn children<'a>(&'a self, of: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(|span| span.parent.as_deref() == Some(&of.id))
    }

    /// Spans of a service by kind and name.
    pub fn find(&self, service: &str, kind: Kind, name: &str) -> Vec<&Span> {
        let is_it =
            |span: &&Span| span.service == service && span.kind == kind && span.name == name;
        self.spans.iter().filter(is_it).collect()
    }

    /// The one span of a service of this kind and name.
    #[track_caller]
    pub fn one(&self, service: &str, kind: Kind, name: &str) -> &Span {
        let found = self.find(service, kind, name);
        assert_eq!(found.len(), 1, "spans of {service}, {kind:?} {name:?}:\n{self}");
        found[0]
    }

    /// The service names in it.
    pub fn services(&self) -> HashSet<&str> {
        self.spans.iter().map(|span| span.service.as_str()).collect()
    }

    /// Whether `span` is a part of `of`, or a part of a part of it.
    pub fn is_below(&self, span: &Span, of: &Span) -> bool {
        let mut at = span;
        // As many steps as there are spans, should they form a ring.
        for _ in &self.spans {
            if at.parent.as_ref() == Some(&of.id) {
                return true;
            }
            let up = self.spans.iter().find(|up| at.parent.as_ref() == Some(&up.id));
            let Some(up) = up else { return false };
            at = up;
        }
        false
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, span: &Span, depth: usize) -> fmt::Result {
        let Span { service, name, kind, id, links, attributes, .. } = span;
        let error = if span.is_error { " ERROR" } else { "" };
        let took = span.ended.saturating_sub(span.started) / 1_000;
        write!(
            f,
            "{:indent$}{service} {kind:?} {name:?} {id} {took} µs{error}",
            "",
            indent = depth * 2
        )?;
        for (name, value) in attributes {
            write!(f, " {name}={value}")?;
        }
        for link in links {
            write!(f, " -> {}/{}", link.trace, link.span)?;
        }
        writeln!(f)?;
        if depth > self.spans.len() {
            return writeln!(f, "… a ring");
        }
        self.children(span).try_for_each(|child| self.write(f, child, depth + 1))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace {}, {} spans", self.id, self.spans.len())?;
        self.roots().into_iter().try_for_each(|root| self.write(f, root, 1))
    }
}
