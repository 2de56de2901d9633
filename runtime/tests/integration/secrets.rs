//! References, loading, and that nothing is printed.

use std::os::unix::fs::PermissionsExt;

use runtime::secrets::{Secret, SecretError, SecretRef, random_key_hex, write_secret_file};

const CANARY: &str = "canary-5f2c91-do-not-print";

#[test]
fn a_reference_is_env_or_file_and_reads_back_as_written() {
    for text in ["env:VITALOG_KEY", "env:_x1", "file:/run/secrets/key", "file:keys/a.key"] {
        let reference: SecretRef = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(format!("{reference:?}"), text);
    }
}

#[test]
fn what_is_no_reference_is_refused_without_repeating_it() {
    for text in [CANARY, "", "env:", "file:", &format!("env:{CANARY}"), &format!("vault:{CANARY}")]
    {
        let error = text.parse::<SecretRef>().unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(error.to_string().contains("env:NAME, file:/path or keyvault:https://"));
    }
}

#[test]
fn one_trailing_newline_is_not_part_of_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    for (content, secret) in
        [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("a\n\n", "a\n")]
    {
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        assert_eq!(SecretRef::File(path).load().unwrap().text().unwrap(), secret);
    }
}

#[test]
fn a_missing_empty_or_huge_secret_is_an_error_that_names_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let reference = SecretRef::File(path.clone());
    let missing = reference.load().unwrap_err();
    std::fs::write(&path, "\n").unwrap();
    let empty = reference.load().unwrap_err();
    std::fs::write(&path, vec![b'x'; 65 * 1024]).unwrap();
    let huge = reference.load().unwrap_err();
    assert!(matches!(missing, SecretError::Unreadable { .. }));
    assert!(matches!(empty, SecretError::Empty(_)));
    assert!(matches!(huge, SecretError::TooLong(_)));
    for error in [missing, empty, huge] {
        assert!(error.to_string().contains(&reference.to_string()));
    }
    let unset = SecretRef::Env("VITALOG_TEST_IS_NEVER_SET".into()).load().unwrap_err();
    assert!(unset.to_string().contains("env:VITALOG_TEST_IS_NEVER_SET"));
}

#[test]
fn a_key_is_64_hex_digits_or_the_base64_of_32_bytes() {
    let hex = "00ff".repeat(16);
    let base64 = "AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8=";
    let expected: Vec<u8> = [0x00, 0xff].repeat(16);
    assert_eq!(Secret::new(hex.clone()).key32().unwrap().to_vec(), expected);
    assert_eq!(Secret::new(base64).key32().unwrap().to_vec(), expected);
    for wrong in ["", "00ff", &hex[1..], "AP8A", &"zz".repeat(32)] {
        assert!(Secret::new(wrong).key32().is_err());
    }
}

#[test]
fn debug_never_shows_a_secret() {
    assert_eq!(format!("{:?}", Secret::new(CANARY)), "Secret(…)");
}

#[test]
fn a_random_key_is_a_key_and_never_the_same() {
    let (one, other) = (random_key_hex(), random_key_hex());
    assert!(one.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    assert!(Secret::new(one.clone()).key32().is_ok());
    assert_ne!(one, other);
}

#[test]
fn a_secret_file_is_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clinic.key");
    write_secret_file(&path, "first").unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = write_secret_file(&path, "second").unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
}
