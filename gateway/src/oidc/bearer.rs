//! Where a request carries its token (RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::TokenFault;

const SCHEME: &[u8] = b"Bearer";

/// The token of a request. `None` where no header is of the scheme Bearer: other schemes are not
/// for this gateway, and are ignored as they always were.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Result<&str, TokenFault>> {
    let values = headers.get_all(AUTHORIZATION);
    let token = values.iter().find_map(|value| of_bearer(value.as_bytes()))?;
    if values.iter().nth(1).is_some() {
        return Some(Err(TokenFault::Repeated));
    }
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
    Some(match std::str::from_utf8(token) {
        Ok(text) if !token.is_empty() && token.iter().all(is_token) => Ok(text),
        _ => Err(TokenFault::NoToken),
    })
}

/// What follows the scheme, which is read without regard to case (RFC 9110, section 11.1).
fn of_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    match rest {
        [] => Some(rest),
        [b' ' | b'\t', ..] => Some(rest.trim_ascii()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: Option<Result<&str, TokenFault>>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(bearer(&headers), expected, "{values:?}");
    }

    #[test]
    fn one_header_holds_one_token() {
        for value in ["Bearer a.b-c_d.e", "bearer a.b-c_d.e", "BEARER   a.b-c_d.e "] {
            check(&[value], Some(Ok("a.b-c_d.e")));
        }
        for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer \"a\""] {
            check(&[value], Some(Err(TokenFault::NoToken)));
        }
        for values in [&["Bearer a", "Bearer b"], &["Basic a", "Bearer b"], &["Bearer a", "x"]] {
            check(values, Some(Err(TokenFault::Repeated)));
        }
        check(&["Bearer a", "Bearer a"], Some(Err(TokenFault::Repeated)));
        for values in [&["Basic a"][..], &["Bearera"], &["a"], &[""], &["Basic a", "Basic b"], &[]]
        {
            check(values, None);
        }
    }
}
