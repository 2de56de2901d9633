-- What the first version of the embedded store wrote. Never changed.
CREATE TABLE generations (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    next_seq INTEGER, hash TEXT, at INTEGER
) STRICT;
CREATE TABLE serving (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;
CREATE TABLE patients_g1 (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL, kid TEXT,
    revision INTEGER, last_updated INTEGER, first_name TEXT, last_name TEXT,
    full_name TEXT, gender TEXT, date_of_birth TEXT, birth_day TEXT, post_code TEXT,
    insurance_number TEXT, preferred_contact_number TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX patients_g1_insurance_number ON patients_g1 (insurance_number) WHERE insurance_number IS NOT NULL;
CREATE INDEX patients_g1_last_name ON patients_g1 (last_name) WHERE last_name IS NOT NULL;
CREATE INDEX patients_g1_full_name ON patients_g1 (full_name) WHERE full_name IS NOT NULL;
CREATE INDEX patients_g1_preferred_contact_number ON patients_g1 (preferred_contact_number) WHERE preferred_contact_number IS NOT NULL;
CREATE INDEX patients_g1_first_name ON patients_g1 (first_name) WHERE first_name IS NOT NULL;
CREATE INDEX patients_g1_birth_day ON patients_g1 (birth_day) WHERE birth_day IS NOT NULL;
CREATE TABLE tests_g1 (
    id TEXT PRIMARY KEY, patient_id TEXT NOT NULL, version INTEGER NOT NULL,
    first INTEGER NOT NULL, status TEXT NOT NULL, revision INTEGER,
    last_updated INTEGER, performer TEXT, order_reference TEXT, observations TEXT
) STRICT;
CREATE INDEX tests_g1_patient ON tests_g1 (patient_id, first);
CREATE TABLE activity_g1 (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, type TEXT NOT NULL,
    outcome TEXT NOT NULL, purpose TEXT NOT NULL, actor TEXT NOT NULL,
    source TEXT NOT NULL, client TEXT, trace TEXT, test TEXT, patients TEXT NOT NULL
) STRICT;
CREATE TABLE activity_patients_g1 (
    patient TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (patient, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE patients_g2 (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL, kid TEXT,
    revision INTEGER, last_updated INTEGER, first_name TEXT, last_name TEXT,
    full_name TEXT, gender TEXT, date_of_birth TEXT, birth_day TEXT, post_code TEXT,
    insurance_number TEXT, preferred_contact_number TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX patients_g2_insurance_number ON patients_g2 (insurance_number) WHERE insurance_number IS NOT NULL;
CREATE INDEX patients_g2_last_name ON patients_g2 (last_name) WHERE last_name IS NOT NULL;
CREATE INDEX patients_g2_full_name ON patients_g2 (full_name) WHERE full_name IS NOT NULL;
CREATE INDEX patients_g2_preferred_contact_number ON patients_g2 (preferred_contact_number) WHERE preferred_contact_number IS NOT NULL;
CREATE INDEX patients_g2_first_name ON patients_g2 (first_name) WHERE first_name IS NOT NULL;
CREATE INDEX patients_g2_birth_day ON patients_g2 (birth_day) WHERE birth_day IS NOT NULL;
CREATE TABLE tests_g2 (
    id TEXT PRIMARY KEY, patient_id TEXT NOT NULL, version INTEGER NOT NULL,
    first INTEGER NOT NULL, status TEXT NOT NULL, revision INTEGER,
    last_updated INTEGER, performer TEXT, order_reference TEXT, observations TEXT
) STRICT;
CREATE INDEX tests_g2_patient ON tests_g2 (patient_id, first);
CREATE TABLE activity_g2 (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, type TEXT NOT NULL,
    outcome TEXT NOT NULL, purpose TEXT NOT NULL, actor TEXT NOT NULL,
    source TEXT NOT NULL, client TEXT, trace TEXT, test TEXT, patients TEXT NOT NULL
) STRICT;
CREATE TABLE activity_patients_g2 (
    patient TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (patient, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO generations (next_seq, hash, at) VALUES (5, '0101010101010101010101010101010101010101010101010101010101010101', 1700000004004);
INSERT INTO generations DEFAULT VALUES;
INSERT INTO serving VALUES (1, 2);
INSERT INTO patients_g1 VALUES (
    '00000000-0000-0000-0000-000000000001', 3, 'active', '00000000-0000-0000-0000-0000000000aa',
    1, 1700000001001, 'ANN', NULL, NULL, 'female', '1980-07', '1980-07-01', '1234', NULL, NULL
);
INSERT INTO activity_g1 VALUES (
    4, 1700000004004, 'PatientRead', 'success', 'TREAT',
    '{"id":"clinic","kind":"subscription","roles":[]}', 'patient-service', NULL, NULL, NULL,
    '["00000000-0000-0000-0000-000000000001"]'
);
INSERT INTO activity_patients_g1 VALUES ('00000000-0000-0000-0000-000000000001', 4);
PRAGMA user_version = 1;
