//! For which host a request is.
//!
//! The gateway is the same under every name, but what stands before it may not be: a request that
//! two servers could take for different hosts' is refused (RFC 9112 §3.2, RFC 9113 §8.3.1).

use axum::extract::Request;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri, Version};

/// Whether it is clear for which host a request is.
pub(crate) fn has_one_host(request: &Request) -> bool {
    is_one(request.version(), request.uri(), request.headers())
}

fn is_one(version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version != Version::HTTP_11,
        (Some(host), None) => {
            // In HTTP/1.1 a target with a host counts and the header does not (RFC 9112 §3.2.2).
            let other = uri.authority().filter(|_| version == Version::HTTP_2);
            is_host(host) && other.is_none_or(|other| is_same(other, host))
        }
        (Some(_), Some(_)) => false,
    }
}

/// A host with or without a port.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else { return false };
    let text = authority.as_str();
    let port = text.strip_prefix(authority.host()).unwrap_or(text);
    let port_is_one = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    !authority.host().is_empty() && port_is_one
}

fn is_same(authority: &Authority, host: &HeaderValue) -> bool {
    authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(version: Version, uri: &str, hosts: &[&[u8]], expected: bool) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        assert_eq!(is_one(version, &uri.parse().unwrap(), &headers), expected, "{hosts:?}");
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in ["a", "api.clinic.example", "a:", "a:8080", "127.0.0.1", "[::1]", "[::1]:80"] {
            check(Version::HTTP_11, "/", &[host.as_bytes()], true);
        }
        for host in ["", " ", "a b", "a/b", "u@a", "a:b", "a:80:80", ":80", "a,b", "a?b", "a#b"] {
            check(Version::HTTP_11, "/", &[host.as_bytes()], host == "a,b");
        }
        check(Version::HTTP_11, "/", &[b"a\xff"], false);
    }

    #[test]
    fn there_is_one_host_and_only_older_versions_need_none() {
        check(Version::HTTP_11, "/", &[], false);
        check(Version::HTTP_10, "/", &[], true);
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            check(version, "/", &[b"a", b"a"], false);
            check(version, "/", &[b"a", b"b"], false);
        }
        check(Version::HTTP_11, "http://b/", &[b"a"], true);
        check(Version::HTTP_2, "http://a:80/", &[], true);
        check(Version::HTTP_2, "http://a:80/", &[b"A:80"], true);
        check(Version::HTTP_2, "http://a:80/", &[b"b"], false);
    }
}
