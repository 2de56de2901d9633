//! The answer of List Blobs.

use quick_xml::{Reader, events::Event};

/// One page of names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Names of blobs.
    pub(super) names: Vec<String>,
    /// Where the next page begins; empty at the end.
    pub(super) next: String,
}

/// Reads a page; `None` if it is none.
pub(super) fn parse(xml: &[u8]) -> Option<Page> {
    let xml = std::str::from_utf8(xml).ok()?.trim_start_matches('\u{feff}');
    let mut reader = Reader::from_str(xml);
    let mut page = Page::default();
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut complete = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => {
                path.push(element.local_name().as_ref().to_owned());
                text.clear();
            }
            Event::Text(part) => text.push_str(&part),
            Event::GeneralRef(name) => text.push(character(&name)?),
            Event::End(_) => {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                match names.as_slice() {
                    ["EnumerationResults", "Blobs", "Blob", "Name"] => {
                        page.names.push(std::mem::take(&mut text));
                    }
                    ["EnumerationResults", "NextMarker"] => page.next = std::mem::take(&mut text),
                    ["EnumerationResults"] => complete = true,
                    _ => {}
                }
                path.pop();
            }
            Event::Eof => return complete.then_some(page),
            _ => {}
        }
    }
}

/// The character of a reference such as `&amp;` or `&#39;`.
fn character(name: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    if let Some(character) = name.resolve_char_ref().ok()? {
        return Some(character);
    }
    let text = quick_xml::escape::resolve_xml_entity(name)?;
    text.chars().next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_page_as_the_service_writes_it_is_read() {
        let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
            <EnumerationResults ServiceEndpoint=\"https://a/\" ContainerName=\"c\">\
            <Prefix>o/</Prefix><MaxResults>2</MaxResults><Blobs>\
            <Blob><Name>o/1</Name><Properties><Etag>0x8</Etag><Name>no</Name></Properties></Blob>\
            <Blob><Name>o/a&amp;&#98;&lt;</Name><OrMetadata /></Blob>\
            <BlobPrefix><Name>no</Name></BlobPrefix></Blobs>\
            <NextMarker>2!8&amp;x==</NextMarker></EnumerationResults>";
        let names = vec!["o/1".to_owned(), "o/a&b<".to_owned()];
        assert_eq!(parse(xml.as_bytes()), Some(Page { names, next: "2!8&x==".to_owned() }));
        let empty = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert_eq!(parse(empty.as_bytes()), Some(Page::default()));
    }

    #[test]
    fn what_breaks_off_is_no_page() {
        for xml in ["", "<EnumerationResults><Blobs>", "<Error></Error>", "rubbish", "<a></b>"] {
            assert_eq!(parse(xml.as_bytes()), None, "{xml}");
        }
        assert_eq!(parse(b"\xff"), None);
    }
}
