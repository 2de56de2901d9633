//! Secrets of a vault: had, refreshed, and kept when the vault fails.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use runtime::secrets::{
    SecretRef,
    vault::{VaultFailure, VaultOptions, VaultSecret, Vaults},
};

use crate::fake_vault::FakeVault;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn vaults(vault: &FakeVault) -> Vaults {
    let refresh = Duration::from_millis(50);
    Vaults::new(VaultOptions { refresh, ..VaultOptions::new(vault.http()) }).unwrap()
}

fn secret(vault: &FakeVault, name: &str) -> VaultSecret {
    match vault.reference(name).parse().unwrap() {
        SecretRef::Vault(secret) => secret,
        _ => panic!("a vault's secret"),
    }
}

#[track_caller]
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Loads a secret of a vault with one, then waits for `next`.
#[track_caller]
fn check_next(vaults: &Vaults, secret: &VaultSecret, next: &str) {
    eventually(next, || vaults.load(secret).unwrap().text().unwrap() == next);
}

#[test]
fn the_newest_version_is_given_or_the_one_that_is_named() {
    let vault = FakeVault::start();
    vault.set("seal", "v1", "first");
    vault.set("seal", "v2", "second");
    let vaults = vaults(&vault);
    for (name, value) in [("seal", "second"), ("seal/v1", "first"), ("seal/v2", "second")] {
        assert_eq!(vaults.load(&secret(&vault, name)).unwrap().text().unwrap(), value);
    }
    assert_eq!(vault.now().token_requests.len(), 1, "one token does for all");
}

#[test]
fn a_new_version_is_picked_up_and_a_named_one_stays() {
    let vault = FakeVault::start();
    vault.set("key", "v1", "first");
    let vaults = vaults(&vault);
    let (newest, named) = (secret(&vault, "key"), secret(&vault, "key/v1"));
    check_next(&vaults, &newest, "first");
    check_next(&vaults, &named, "first");
    vault.set("key", "v2", "second");
    check_next(&vaults, &newest, "second");
    check_next(&vaults, &named, "first");
}

#[test]
fn once_had_a_secret_is_answered_without_asking() {
    let vault = FakeVault::start();
    vault.set("key", "v1", "first");
    let refresh = Duration::from_hours(1);
    let options = VaultOptions { refresh, ..VaultOptions::new(vault.http()) };
    let vaults = Vaults::new(options).unwrap();
    for _ in 0..100 {
        vaults.load(&secret(&vault, "key")).unwrap();
    }
    assert_eq!(vault.now().answers, [200]);
}

#[test]
fn throttling_and_failures_of_the_vault_are_waited_out() {
    for (status, retry_after) in [(429, Some(1)), (429, None), (500, None), (503, Some(1))] {
        let vault = FakeVault::start();
        vault.set("key", "v1", "first");
        vault.now().refusals = vec![(status, retry_after)];
        let (vaults, started) = (vaults(&vault), Instant::now());
        assert_eq!(vaults.load(&secret(&vault, "key")).unwrap().text().unwrap(), "first");
        let asked = Duration::from_secs(retry_after.unwrap_or_default());
        assert!(started.elapsed() >= asked, "{status} was not given {asked:?}");
        assert_eq!(vault.now().answers[..2], [status, 200]);
    }
}

#[test]
fn refusals_are_answered_at_once_and_a_secret_that_comes_later_is_had() {
    let vault = FakeVault::start();
    let vaults = vaults(&vault);
    let secret = secret(&vault, "key");
    let started = Instant::now();
    assert_eq!(vaults.load(&secret).unwrap_err(), VaultFailure::Missing);
    assert!(started.elapsed() < Duration::from_secs(10));
    vault.set("key", "v1", "first");
    eventually("the secret is had", || vaults.load(&secret).is_ok());
}

#[test]
fn what_fails_keeps_the_last_value_and_is_followed_again_afterwards() {
    type Break = fn(&FakeVault);
    let ways: [(&str, Break, Break); 5] = [
        ("outage", |it| it.now().down = true, |it| it.now().down = false),
        ("403", |it| it.now().refusals = vec![(403, None); 3], |_| {}),
        ("5xx", |it| it.now().refusals = vec![(500, None); 3], |_| {}),
        ("deleted", |it| drop(it.now().secrets.remove("key")), |_| {}),
        // The token at hand is not taken any more, and there is no other for a while.
        (
            "identity",
            |it| {
                let mut vault = it.now();
                vault.no_identity = true;
                vault.refusals = vec![(401, None); 2];
            },
            |it| it.now().no_identity = false,
        ),
    ];
    for (way, fail, recover) in ways {
        let vault = FakeVault::start();
        vault.set("key", "v1", "first");
        let vaults = vaults(&vault);
        let secret = secret(&vault, "key");
        check_next(&vaults, &secret, "first");
        fail(&vault);
        let until = Instant::now() + Duration::from_millis(400);
        while Instant::now() < until {
            let value = vaults.load(&secret);
            assert_eq!(value.unwrap().text().unwrap(), "first", "{way}");
            std::thread::sleep(Duration::from_millis(5));
        }
        recover(&vault);
        vault.set("key", "v2", "second");
        check_next(&vaults, &secret, "second");
    }
}

#[test]
fn a_token_that_is_not_taken_is_an_error_and_another_one_is_asked_for() {
    let vault = FakeVault::start();
    vault.set("key", "v1", "first");
    vault.now().wrong_tokens = true;
    let vaults = vaults(&vault);
    let secret = secret(&vault, "key");
    assert_eq!(vaults.load(&secret).unwrap_err(), VaultFailure::Token);
    vault.now().wrong_tokens = false;
    eventually("the right token is taken", || vaults.load(&secret).is_ok());
}

#[test]
fn a_user_assigned_identity_is_named() {
    let vault = FakeVault::start();
    vault.set("key", "v1", "first");
    let client_id = Some("11111111-2222".to_owned());
    let options = VaultOptions { client_id: client_id.clone(), ..VaultOptions::new(vault.http()) };
    Vaults::new(options).unwrap().load(&secret(&vault, "key")).unwrap();
    assert_eq!(vault.now().token_requests, [client_id]);
}

#[test]
fn a_vault_that_does_not_answer_is_waited_for_once_and_not_for_ever() {
    let vault = FakeVault::start();
    vault.now().down = true;
    let patience = Duration::from_millis(300);
    let options = VaultOptions { patience, ..VaultOptions::new(vault.http()) };
    let vaults = Vaults::new(options).unwrap();
    let secret = secret(&vault, "key");
    let started = Instant::now();
    assert_eq!(vaults.load(&secret).unwrap_err(), VaultFailure::Unreachable);
    assert!(started.elapsed() >= patience);
    let started = Instant::now();
    assert!(vaults.load(&secret).is_err());
    assert!(started.elapsed() < patience, "waited twice");
}

#[test]
fn many_who_load_at_once_ask_once() {
    let vault = FakeVault::start();
    vault.set("key", "v1", "first");
    let options = VaultOptions { refresh: PATIENCE, ..VaultOptions::new(vault.http()) };
    let vaults = Arc::new(Vaults::new(options).unwrap());
    let secret = secret(&vault, "key");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(vaults.load(&secret).is_ok()));
        }
    });
    assert_eq!(vault.now().answers, [200]);
}

#[test]
fn references_name_secrets_of_known_vaults_alone() {
    for text in [
        "keyvault:https://clinic.vault.azure.net/secrets/seal-key",
        "keyvault:https://clinic.vault.azure.net/secrets/seal-key/0a1b2c",
        "keyvault:https://clinic.vault.azure.cn/secrets/k",
        "keyvault:https://clinic.vault.usgovcloudapi.net/secrets/k",
        "keyvault:https://127.0.0.1:8443/secrets/k",
    ] {
        let reference: SecretRef = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(format!("{reference:?}"), text);
    }
    for text in [
        "keyvault:",
        "keyvault:clinic/secrets/k",
        "keyvault:http://clinic.vault.azure.net/secrets/k",
        "keyvault:http://127.0.0.1/secrets/k",
        "keyvault:https://clinic.vault.azure.net:444/secrets/k",
        "keyvault:https://clinic.vault.azure.net.evil.example/secrets/k",
        "keyvault:https://evil.example/secrets/k",
        "keyvault:https://evilvault.azure.net/secrets/k",
        "keyvault:https://a.b.vault.azure.net/secrets/k",
        "keyvault:https://.vault.azure.net/secrets/k",
        "keyvault:https://user:canary@clinic.vault.azure.net/secrets/k",
        "keyvault:https://clinic.vault.azure.net/keys/k",
        "keyvault:https://clinic.vault.azure.net/secrets/",
        "keyvault:https://clinic.vault.azure.net/secrets/k/v/w",
        "keyvault:https://clinic.vault.azure.net/secrets/k%2F..",
        "keyvault:https://clinic.vault.azure.net/secrets/k?a=canary",
        "keyvault:https://clinic.vault.azure.net/secrets/k#canary",
    ] {
        let error = text.parse::<SecretRef>().expect_err(text);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}
