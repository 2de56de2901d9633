//! The `audit` program, run as people run it.

use std::{path::PathBuf, process::Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{fake_ledger::KEY, fixture::PATIENCE};

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A folder with a key file, in which the program runs.
pub(crate) struct Desk(TempDir);

impl Desk {
    /// A folder with `key`, the key that every server here takes.
    pub(crate) fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("key", format!("{KEY}\n"));
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_audit"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the program; the words of the line are its arguments.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Runs the program to its end. It never shows the key.
    pub(crate) async fn audit(&self, line: &str) -> Ran {
        let running = self.command(line).output();
        // Several times what the tries and pauses of one request may take.
        let output = tokio::time::timeout(PATIENCE * 6, running).await.expect("it ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("it ends by itself");
        let ran = Ran { code, out: text(output.stdout), err: text(output.stderr) };
        assert!(!format!("{ran:?}").contains(KEY), "the key shows: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{ran:?}");
        ran
    }
}

impl Ran {
    /// It ended well.
    #[track_caller]
    pub(crate) fn is_intact(&self) -> &Self {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(!self.out.is_empty() && self.err.is_empty(), "{self:?}");
        self
    }

    /// It found this.
    #[track_caller]
    pub(crate) fn is_tampered(&self, words: &str) -> &Self {
        assert_eq!(self.code, 1, "{self:?}");
        assert!(self.out.starts_with("TAMPERED: ") && self.out.contains(words), "{self:?}");
        self
    }

    /// It could not tell, and says why.
    #[track_caller]
    pub(crate) fn could_not_tell(&self, words: &str) -> &Self {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.out.is_empty() && self.err.contains(words), "{self:?}");
        self
    }

    /// The one JSON object.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

#[tokio::test]
async fn exit_codes_are_in_every_help() {
    let desk = Desk::new();
    for command in [
        "",
        "verify",
        "export",
        "prove",
        "check",
        "checkpoint",
        "checkpoint show",
        "checkpoint compare",
    ] {
        let ran = desk.audit(&format!("{command} --help")).await;
        assert_eq!(ran.code, 0, "{command}");
        assert!(
            ran.out.contains("1  tampered") && ran.out.contains("2  could not tell"),
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn wrong_usage_is_code_2_and_shows_no_value() {
    let desk = Desk::new();
    for line in [
        "",
        "exprot",
        "export --url http://127.0.0.1:1 --key-file key",
        "export --url http://me:canary@127.0.0.1:1 --key-file key --out x",
        "export --url http://127.0.0.1:1/?canary --key-file key --out x",
        "export --url ftp://canary --key-file key --out x",
        "prove canary --url http://127.0.0.1:1 --key-file key --out x",
        "check proof",
        "check proof --hash canary",
        "check proof --line a --hash 0000000000000000000000000000000000000000000000000000000000000000",
        "checkpoint compare key",
        "checkpoint --url http://127.0.0.1:1",
    ] {
        let ran = desk.audit(line).await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line}: {ran:?}");
        assert!(!ran.err.contains("canary"), "{ran:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_code_2_and_says_so() {
    let desk = Desk::new();
    desk.write("empty", "");
    desk.write("strange", "key\u{1}");
    let check = async |line: &str, words: &str| {
        desk.audit(line).await.could_not_tell(words);
    };
    let unreachable = "--url http://127.0.0.1:1";
    check(&format!("export {unreachable} --key-file key --out x"), "cannot be reached").await;
    check(&format!("export {unreachable} --key-file none --out x"), "file:none cannot be read")
        .await;
    check(&format!("export {unreachable} --key-file empty --out x"), "file:empty is empty").await;
    check(&format!("export {unreachable} --key-file strange --out x"), "cannot be sent").await;
    check("checkpoint show none", "none cannot be read").await;
    check("checkpoint", "--url").await;
    let same = format!("{unreachable} --key-file key --out x");
    check(&format!("export {same} --checkpoint-out x"), "are the same file").await;
    check(&format!("prove 1 {same} --line-out x"), "are the same file").await;
    check("check key --line key", "--verifier-key").await;
    check("check none --line key --verifier-key key", "not a verifier key").await;
    assert!(!desk.path("x").exists());
}
