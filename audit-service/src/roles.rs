//! What each caller may do, by the name that its service key gives it.

use domain::record::{Kind, RecordType};

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `patient-service`: appends events and accesses; reads.
    PatientService,
    /// `gateway`: reads for clients, which is recorded; appends refusals.
    Gateway,
    /// `projections`: reads.
    Projections,
    /// `audit`: reads what proves the ledger.
    Auditor,
    /// `operator`: appends rotations of the ledger's signing key and changes of subscriptions; sees
    /// keys and checkpoints. Its reads would not be recorded, so it reads nothing else.
    Operator,
    /// Any other name: reports its accesses in the older system's form, and nothing else.
    External,
}

/// What there is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Lines from a position on, of all streams.
    Lines,
    /// One line by its position.
    Line,
    /// The lines of one patient's stream.
    PatientStream,
    /// The lines of a stream that is no patient's.
    OtherStream,
    /// The line that a command caused.
    Command,
    /// That a line is in the ledger.
    Proof,
    /// That one tree begins with another.
    Consistency,
    /// Tiles, of hashes and of entries.
    Tile,
    /// The newest checkpoint and verifier key.
    Head,
    /// The key history.
    Keys,
}

impl Role {
    /// The role of a caller.
    pub fn of(caller: &str) -> Self {
        match caller {
            "patient-service" => Self::PatientService,
            "gateway" => Self::Gateway,
            "projections" => Self::Projections,
            "audit" => Self::Auditor,
            "operator" => Self::Operator,
            _ => Self::External,
        }
    }

    /// Whether the caller may read this: what its work needs, and nothing else.
    pub fn may_read(self, what: Readable) -> bool {
        use Readable as R;
        match self {
            // The lines from a position on are for erasures that a restored key ring misses at start.
            Self::PatientService => {
                matches!(what, R::Lines | R::Line | R::PatientStream | R::Command | R::Head)
            }
            // What clients with `audit:read` may ask for, each of which is recorded.
            Self::Gateway | Self::Auditor => matches!(
                what,
                R::Lines | R::Line | R::Proof | R::Consistency | R::Tile | R::Head | R::Keys
            ),
            Self::Projections => matches!(
                what,
                R::Lines | R::Line | R::PatientStream | R::OtherStream | R::Proof | R::Head
            ),
            Self::Operator => matches!(what, R::Head | R::Keys),
            Self::External => false,
        }
    }

    /// Whether the caller may report accesses in the older system's form. Services record theirs as
    /// what they are.
    pub fn may_report(self) -> bool {
        self == Self::External
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
            Self::Projections | Self::Auditor | Self::External => false,
        }
    }
}
