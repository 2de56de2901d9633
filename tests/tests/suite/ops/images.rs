//! The roots of the images, made by the script that the Dockerfile runs, and the programs in them
//! under the images' user. Neither Docker nor a build of the Dockerfile runs here.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use runtime::secrets::random_key_hex;
use tests::{
    programs::{self, Program},
    system::{PATIENCE, free_address, wait_for_ready},
};

use super::{super::ledger_processes::ledger_secret, files};

const SERVICES: [&str; 4] = ["gateway", "patient-service", "audit-service", "projections"];
const USER: u32 = 10_001;

/// Makes the root of a service's image.
fn root_of(service: &str, folder: &Path) -> PathBuf {
    let root = folder.join(service);
    let made = Command::new(files::root().join("images/make-root"))
        .arg(&root)
        .arg(programs::built(service).unwrap())
        .status();
    assert!(made.unwrap().success());
    root
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The program that runs another one in a root, and what it is told before that one's path.
fn inside(root: &Path) -> (PathBuf, Vec<String>) {
    let root = root.display().to_string();
    if is_root() {
        let user = format!("--userspec={USER}:{USER}");
        ("/usr/sbin/chroot".into(), vec![user, root])
    } else {
        let words = ["--map-root-user", "chroot"].map(str::to_owned);
        ("/usr/bin/unshare".into(), words.into_iter().chain([root]).collect())
    }
}

fn all_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            all_below(&path, found);
        }
        found.push(path);
    }
}

#[test]
fn an_image_has_its_program_and_what_that_needs_and_nothing_that_its_user_may_change() {
    let folder = tempfile::tempdir().unwrap();
    // The user has to get at it.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for service in SERVICES {
        let root = root_of(service, folder.path());
        let mut found = Vec::new();
        all_below(&root, &mut found);
        let mut names = BTreeSet::new();
        for path in &found {
            let meta = path.symlink_metadata().unwrap();
            assert_eq!(meta.mode() & 0o6022, 0, "{} may be changed", path.display());
            assert_ne!(meta.uid(), USER);
            let name = path.file_name().unwrap().to_str().unwrap();
            if meta.is_file() && !name.contains(".so") {
                names.insert(name.to_owned());
            }
        }
        let others = ["ca-certificates.crt", "group", "nsswitch.conf", "passwd"];
        assert_eq!(names, others.into_iter().chain([service]).map(ToOwned::to_owned).collect());
        let (chroot, words) = inside(&root);
        let ran = Command::new(chroot)
            .args(words)
            .args([&format!("/usr/local/bin/{service}"), "--help"])
            .env_clear()
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{service}");
        assert!(String::from_utf8(ran.stdout).unwrap().contains("VITALOG_"), "{service}");
        fs::remove_dir_all(&root).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_serves_from_its_image_s_root_and_writes_to_its_volume_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = root_of("audit-service", folder.path());
    let state = root.join("state");
    fs::create_dir(&state).unwrap();
    if is_root() {
        chown(&state, Some(USER), Some(USER)).unwrap();
    }
    let (listen, url) = free_address().unwrap();
    let (chroot, mut arguments) = inside(&root);
    let program = ["/usr/local/bin/audit-service", "serve"].map(str::to_owned);
    arguments.extend(program);
    let environment = [
        ("VITALOG_AUDIT_LISTEN", listen),
        ("VITALOG_LEDGER_STORE", "sqlite:/state/ledger.db".to_owned()),
        ("VITALOG_CHECKPOINT_FILE", "/state/ledger.checkpoint".to_owned()),
        ("VITALOG_LEDGER_KEY", "env:A".to_owned()),
        ("A", ledger_secret().to_text().to_string()),
        ("VITALOG_SEAL_KEY", "env:B".to_owned()),
        ("B", random_key_hex()),
        ("VITALOG_AUDIT_CALLERS", "gateway=env:C".to_owned()),
        ("C", random_key_hex()),
    ];
    let log = folder.path().join("log");
    let service = Program::start_in(&chroot, &arguments, environment, &log).unwrap();
    let ready = wait_for_ready(&url, PATIENCE).await;
    ready.unwrap_or_else(|error| panic!("{error} {}", service.last_words()));
    if is_root() {
        let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
        assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n")), "{status}");
    }
    let kept = fs::read_dir(&state).unwrap().count();
    assert!(kept >= 2, "ledger and checkpoint: {kept}");
}
