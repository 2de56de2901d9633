//! What each caller may do, by the name that its service key gives it.

use domain::record::{Kind, RecordType};

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `patient-service`: appends events and accesses; reads.
    PatientService,
    /// `gateway`: reads for clients, which is recorded; appends refusals.
    Gateway,
    /// `projections` and `audit`: read.
    Reader,
    /// `operator`: appends rotations of the ledger's signing key and changes of subscriptions; sees
    /// keys and checkpoints. Its reads would not be recorded, so it reads nothing else.
    Operator,
    /// Any other name: reports its accesses in the older system's form, and nothing else.
    External,
}

impl Role {
    /// The role of a caller.
    pub fn of(caller: &str) -> Self {
        match caller {
            "patient-service" => Self::PatientService,
            "gateway" => Self::Gateway,
            "projections" | "audit" => Self::Reader,
            "operator" => Self::Operator,
            _ => Self::External,
        }
    }

    /// Whether the caller may read the ledger.
    pub fn may_read(self) -> bool {
        !matches!(self, Self::Operator | Self::External)
    }

    /// Whether the caller may see the ledger's keys and newest checkpoint.
    pub fn may_see_head(self) -> bool {
        self.may_read() || self == Self::Operator
    }

    /// Whether the caller may ask for records of a type. `LedgerRead` and `ExternalAccess` are
    /// made by this service itself.
    pub fn may_append(self, record_type: RecordType) -> bool {
        match self {
            Self::PatientService => {
                let own =
                    matches!(record_type, RecordType::LedgerRead | RecordType::ExternalAccess);
                record_type.kind() != Kind::Admin && !own
            }
            Self::Gateway => record_type == RecordType::AccessRefused,
            Self::Operator => record_type.kind() == Kind::Admin,
            Self::Reader | Self::External => false,
        }
    }
}
