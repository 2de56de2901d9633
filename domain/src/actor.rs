//! Who acts, why, and with what outcome: closed lists and names only.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ids::Name,
    validation::{Fields, Invalid, valid_or},
};

/// Who caused a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Subscription name, opaque token subject or service name.
    pub id: Name,
    /// What `id` names.
    pub kind: ActorKind,
    /// Roles from the actor's token; absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
}

/// What an [`Actor`]'s id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// An account at the gateway.
    Subscription,
    /// A person, by an opaque token subject.
    User,
    /// One of the services, acting for itself.
    Service,
}

/// Defines an enum whose variants are a closed list of words.
macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident, $error:ident, $message:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every member of the list.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that stands in records.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[doc = concat!("A word that is not in the list of [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error;

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or($error)
            }
        }
    };
}
pub(crate) use closed_list;

closed_list!(
    /// Why a patient's data was erased: the grounds of GDPR Article 17(1), and the one that
    /// software adds.
    ErasureReason, UnknownErasureReason, "must be one of [noLongerNecessary, consentWithdrawn, objection, unlawfulProcessing, legalObligation, childConsent, registeredInError]" {
        /// The data is not needed any more, such as after its retention period (1a).
        NoLongerNecessary = "noLongerNecessary",
        /// Consent was withdrawn (1b).
        ConsentWithdrawn = "consentWithdrawn",
        /// The patient objected (1c).
        Objection = "objection",
        /// The data was processed unlawfully (1d).
        UnlawfulProcessing = "unlawfulProcessing",
        /// A law demands it (1e).
        LegalObligation = "legalObligation",
        /// The data was collected from a child (1f).
        ChildConsent = "childConsent",
        /// There is no such patient, or she is registered twice.
        RegisteredInError = "registeredInError",
    }
);

impl ErasureReason {
    /// Reads the body of `POST /patient/{id}/erase`.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut fields = Fields::new(body, "");
        let wording = UnknownErasureReason.to_string();
        let reason = fields.required_parsed("reason", &wording, |text| text.parse().ok());
        valid_or(reason, fields.finish())
    }
}

closed_list!(
    /// Why data was touched: codes of HL7 v3 value set `PurposeOfUse`.
    Purpose, UnknownPurpose, "must be an HL7 PurposeOfUse code such as TREAT, ETREAT, HPAYMT, HOPERAT, HRESCH, PUBHLTH, PATRQT, COVERAGE, HLEGAL, HSYSADMIN" {
        /// Treatment, the default.
        Treatment = "TREAT",
        /// Emergency treatment.
        EmergencyTreatment = "ETREAT",
        /// Break the glass.
        BreakTheGlass = "BTG",
        /// Care management.
        CareManagement = "CAREMGT",
        /// Healthcare payment.
        Payment = "HPAYMT",
        /// Healthcare operations.
        Operations = "HOPERAT",
        /// Healthcare quality improvement.
        Quality = "HQUALIMP",
        /// Healthcare research.
        Research = "HRESCH",
        /// Public health.
        PublicHealth = "PUBHLTH",
        /// Threat to health or safety.
        Threat = "THREAT",
        /// At the patient's request.
        PatientRequest = "PATRQT",
        /// At the family's request.
        FamilyRequest = "FAMRQT",
        /// Coverage under policy or program.
        Coverage = "COVERAGE",
        /// Legal.
        Legal = "HLEGAL",
        /// Healthcare compliance.
        Compliance = "HCOMPL",
        /// System administration.
        SystemAdministration = "HSYSADMIN",
    }
);

closed_list!(
    /// What came of the act.
    Outcome, UnknownOutcome, "must be success, notFound, denied or failed" {
        /// It was done.
        Success = "success",
        /// What it asked for does not exist.
        NotFound = "notFound",
        /// The caller may not.
        Denied = "denied",
        /// It was tried and failed.
        Failed = "failed",
    }
);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_erasure_needs_a_reason_of_the_list() {
        #[track_caller]
        fn check(body: &Value, expected: Result<ErasureReason, &str>) {
            let read = ErasureReason::from_body(body.as_object().unwrap());
            assert_eq!(read.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        }
        for reason in ErasureReason::ALL {
            check(&json!({ "reason": reason.as_str() }), Ok(*reason));
        }
        check(&json!({}), Err("\"reason\" is required"));
        check(&json!({"reason": 7}), Err("\"reason\" must be a string"));
        let other = ErasureReason::from_body(json!({"reason": "Jane"}).as_object().unwrap());
        let text = other.unwrap_err().to_string();
        assert!(text.starts_with("\"reason\" must be one of [noLonger"), "{text}");
        assert!(!text.contains("Jane"), "{text}");
        let more = json!({"reason": "objection", "note": "x"});
        check(&more, Err("\"note\" is not allowed"));
    }
}
