//! Content for requests.

use serde_json::{Value, json};

pub(crate) const UNKNOWN: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";

pub(crate) fn patient() -> Value {
    json!({
        "firstName": "JANE", "lastName": "DOE", "gender": "female",
        "dateOfBirth": "1980-07-14", "postCode": "1234", "insuranceNumber": "99",
    })
}

/// The body of a PUT: what was loaded, with another post code.
pub(crate) fn moved(loaded: &Value, post_code: &str) -> Value {
    let mut body = loaded.clone();
    body["postCode"] = post_code.into();
    body
}

pub(crate) fn test() -> Value {
    json!({
        "performer": "Laboratory 7", "orderReference": "order-1",
        "observations": [{
            "id": "o-1", "code": "2093-3", "measurement": "5.1", "interpretation": "N",
            "status": "final", "issued": "2002-02-15T10:00:00+02:00",
        }],
    })
}
