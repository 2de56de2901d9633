//! What each type of record is in FHIR: the table. Pure.

use domain::{actor::Outcome, record::RecordType};

/// A code with its system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) system: &'static str,
    pub(super) code: &'static str,
}

const REST_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";
const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const INTERACTION: &str = "http://hl7.org/fhir/restful-interaction";
const LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
const PARTICIPANT: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
pub(super) const OUTCOME: &str = "http://terminology.hl7.org/CodeSystem/audit-event-outcome";

/// Our own: the type of the record, as a tag.
pub(super) const RECORD_TYPE: &str = "urn:vitalog:record-type";

const fn dicom(code: &'static str) -> Code {
    Code { system: DICOM, code }
}

const REST: Code = Code { system: REST_TYPE, code: "rest" };
const AUDIT_LOG_USED: Code = dicom("110101");
const SECURITY_ALERT: Code = dicom("110113");
const APPLICATION: Code = dicom("110150");
const DESTINATION: Code = dicom("110152");
const SOURCE: Code = dicom("110153");
const CUSTODIAN: Code = Code { system: PARTICIPANT, code: "custodian" };
const RECIPIENT: Code = Code { system: PARTICIPATION, code: "IRCP" };
const AUTHOR: Code = Code { system: PARTICIPATION, code: "AUT" };

/// What the act was about, besides the patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    /// The test, or else the patient.
    Resource,
    /// The same, destroyed for good.
    Destroyed,
    /// A query, whose criteria are sealed in the ledger.
    Search,
    /// A query for the tests of the patient.
    Tests,
    /// A security resource of this name.
    Security(&'static str),
}

/// The two applications of an exchange, and the person behind the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) client: Code,
    pub(super) server: Code,
    pub(super) user: Code,
}

/// The client sends data.
const SENT: Roles = Roles { client: SOURCE, server: DESTINATION, user: AUTHOR };
/// The client gets data.
const FETCHED: Roles = Roles { client: DESTINATION, server: SOURCE, user: RECIPIENT };
/// The client asks: in a query the question is what flows.
const ASKED: Roles = Roles { client: SOURCE, server: DESTINATION, user: RECIPIENT };
/// The client has something deleted.
const DELETED: Roles = Roles { client: APPLICATION, server: CUSTODIAN, user: AUTHOR };

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) kind: Code,
    pub(super) subtype: Option<Code>,
    pub(super) action: &'static str,
    pub(super) roles: Roles,
    pub(super) object: Object,
    /// The pattern of BALP, such as `Read`, where there is one.
    pub(super) balp: Option<&'static str>,
}

const fn rest(
    interaction: &'static str,
    action: &'static str,
    roles: Roles,
    object: Object,
    balp: Option<&'static str>,
) -> Pattern {
    let subtype = Some(Code { system: INTERACTION, code: interaction });
    Pattern { kind: REST, subtype, action, roles, object, balp }
}

const fn security(subtype: Option<Code>, kind: Code, action: &'static str, o: Object) -> Pattern {
    Pattern { kind, subtype, action, roles: ASKED, object: o, balp: None }
}

const CREATE: Pattern = rest("create", "C", SENT, Object::Resource, Some("Create"));
const UPDATE: Pattern = rest("update", "U", SENT, Object::Resource, Some("Update"));
const DELETE: Pattern = rest("delete", "D", DELETED, Object::Resource, Some("Delete"));
const READ: Pattern = rest("read", "R", FETCHED, Object::Resource, Some("Read"));

/// The row of a type.
#[rustfmt::skip]
pub(super) const fn of(record_type: RecordType) -> Pattern {
    use RecordType as T;
    match record_type {
        T::PatientRegistered | T::TestRecorded => CREATE,
        T::PatientAmended | T::TestAmended => UPDATE,
        T::PatientRemoved | T::TestRemoved => DELETE,
        // BALP's pattern of deletion leaves no room to say that it is for good.
        T::PatientErased => rest("delete", "D", DELETED, Object::Destroyed, None),
        T::PatientRead | T::TestRead => READ,
        T::TestsListed => rest("search-type", "E", ASKED, Object::Tests, Some("Query")),
        T::PatientsSearched => rest("search-type", "E", ASKED, Object::Search, Some("Query")),
        T::HistoryRead => rest("history-instance", "R", FETCHED, Object::Resource, None),
        T::ActivityRead | T::LedgerRead =>
            security(None, AUDIT_LOG_USED, "R", Object::Security("Security Audit Log")),
        // Use of restricted function.
        T::AccessRefused => security(Some(dicom("110132")), SECURITY_ALERT, "E", Object::Resource),
        T::ExternalAccess => {
            // What was done in the other system stands in the ledger alone.
            let access = Code { system: LIFECYCLE, code: "access" };
            security(None, access, "E", Object::Resource)
        }
        // Security configuration; user security attributes changed.
        T::KeyRotated =>
            security(Some(dicom("110129")), SECURITY_ALERT, "U", Object::Security("ledger/keys")),
        T::SubscriptionChanged =>
            security(Some(dicom("110137")), SECURITY_ALERT, "U", Object::Security("gateway/subscriptions")),
    }
}

/// One code for each outcome, so that either tells the other.
pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "0",
        Outcome::NotFound => "4",
        Outcome::Denied => "8",
        Outcome::Failed => "12",
    }
}
