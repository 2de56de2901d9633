//! A client's key, from the program that makes it into the vault, unseen.

use std::process::Stdio;

use runtime::secrets::Secret;
use tokio::process::Command;

use crate::{Error, azure::Azure};

/// The program that manages subscriptions; it is on the PATH of the image.
const PROGRAM: &str = "gateway";

/// Whether the subscription is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `gateway subscriptions add`.
    Add,
    /// `gateway subscriptions rotate`.
    Rotate,
}

/// The secret with a subscription's key.
pub fn secret_name(subscription: &str) -> String {
    // The vault's names have dashes alone.
    format!("subscription-{}", subscription.replace(['_', '.'], "-"))
}

/// Has the program make a key, and writes it to the vault. Returns the secret's name.
///
/// # Errors
/// [`Error::Exists`] before anything is changed. When the vault fails after the key was made, the key is lost:
/// `rotate` makes another one.
pub async fn keep(
    azure: &Azure,
    change: Change,
    subscription: &str,
    rest: &[String],
) -> Result<String, Error> {
    let name = secret_name(subscription);
    // Also shows that the vault answers, before a key is made that could not be kept.
    let is_there = azure.get(&name).await?.is_some();
    if is_there && change == Change::Add {
        return Err(Error::Exists(name));
    }
    let verb = match change {
        Change::Add => "add",
        Change::Rotate => "rotate",
    };
    let what = format!("{PROGRAM} subscriptions {verb}");
    let output = Command::new(PROGRAM)
        .args(["subscriptions", verb, subscription])
        .args(rest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(|_| Error::Program(what.clone()))?;
    let key = Secret::new(output.stdout.trim_ascii());
    if !output.status.success() || key.bytes().is_empty() {
        return Err(Error::Program(what));
    }
    azure.set(&name, &key, false).await?;
    Ok(name)
}
