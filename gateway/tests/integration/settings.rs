//! Settings of the program as its environment has them.

use std::process::Command;

#[test]
fn an_empty_variable_is_none_at_all() {
    let started = |trusted: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--listen=127.0.0.1:0", "--subscriptions=s.toml", "--pepper=env:NO_KEY"])
            .args(["--patient-key=env:NO_KEY", "--audit-key=env:NO_KEY"])
            .env_clear()
            .env("VITALOG_TRUSTED_PROXIES", trusted)
            .envs(["VITALOG_CORS_ORIGINS", "VITALOG_OIDC_ISSUER"].map(|name| (name, "")))
            .envs(["VITALOG_OIDC_AUDIENCE", "VITALOG_OIDC_SCOPE_MAP"].map(|name| (name, "")))
            .envs(["VITALOG_ALLOW_NETWORKS", "VITALOG_TOKEN_RATE"].map(|name| (name, "")))
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    // All that is wrong is what comes after the settings were read.
    for usable in ["", "10.0.0.0/8"] {
        let said = started(usable);
        assert!(said.contains("NO_KEY") && !said.contains("invalid value"), "{said}");
    }
    assert!(started("proxy").contains("invalid value"));
}
