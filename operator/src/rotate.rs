//! Replacing secrets that are in use.

use std::time::Duration;

use runtime::secrets::{Secret, random_key_hex};

use crate::{
    Error,
    azure::Azure,
    deployment::{DeploymentOptions, StoreKind},
    make::write_copy,
    names::{self, Rotated, ServiceKey},
    stores::{self, Which},
};

/// What comes next when a service key is replaced, from what its three secrets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All three are alike: the callee is to take a new key as well.
    TakeNew,
    /// The callee takes two keys, and the caller shows the older one.
    ShowNew,
    /// The caller shows the new key, and the callee still takes the older one.
    DropOld,
    /// The caller shows a key that the callee does not take.
    Astray,
}

/// The step that comes next.
pub fn step<T: PartialEq>(shown: &T, current: &T, next: &T) -> Step {
    match (current == next, shown == current, shown == next) {
        (true, true, _) => Step::TakeNew,
        (false, true, _) => Step::ShowNew,
        (false, _, true) => Step::DropOld,
        _ => Step::Astray,
    }
}

/// Replaces a secret; `pause` is how long until every service has certainly read what was written.
/// An interrupted run is finished by running it again. Returns the names of what was written.
pub async fn rotate(
    azure: &Azure,
    deployment: &DeploymentOptions,
    what: Rotated,
    pause: Duration,
) -> Result<Vec<String>, Error> {
    match what {
        Rotated::ServiceKey(key) => service_key(azure, key, pause).await,
        Rotated::Store(store) => database(azure, deployment, store, pause).await,
    }
}

async fn service_key(
    azure: &Azure,
    key: ServiceKey,
    pause: Duration,
) -> Result<Vec<String>, Error> {
    let mut written = Vec::new();
    loop {
        let shown = azure.need(&key.shown()).await?;
        let current = azure.need(&key.current()).await?;
        let next = azure.need(&key.next()).await?;
        let step = step(&shown, &current, &next);
        let (name, value) = match step {
            Step::TakeNew => (key.next(), Secret::new(random_key_hex())),
            Step::ShowNew => (key.shown(), next),
            Step::DropOld => (key.current(), next),
            Step::Astray => {
                let reason = "none of the two keys that the callee takes; write one of these there";
                return Err(Error::Unusable { name: key.shown(), reason });
            }
        };
        if step != Step::TakeNew {
            tokio::time::sleep(pause).await;
        }
        azure.set(&name, &value, true).await?;
        written.push(name);
        if step == Step::DropOld {
            return Ok(written);
        }
    }
}

async fn database(
    azure: &Azure,
    deployment: &DeploymentOptions,
    store: &'static str,
    pause: Duration,
) -> Result<Vec<String>, Error> {
    let name = names::store(store, false);
    let missing = || Error::Missing(name.clone());
    let id = deployment.stores.id(store).ok_or_else(missing)?;
    azure.need(&name).await?;
    let (uri, old) = match deployment.store_kind {
        StoreKind::Vcore => {
            let password = stores::new_password();
            // Asked for first: what can fail without harm fails before the password counts.
            let uri = stores::cluster_uri(azure, id, &password).await?;
            stores::set_password(azure, id, &password).await?;
            (uri, None)
        }
        StoreKind::Ru => {
            let used: Which = stores::used_key(azure, id, store).await?;
            (stores::regenerate(azure, id, used.other()).await?, Some(used))
        }
    };
    azure.set(&name, &uri, true).await?;
    let mut written = vec![name.clone()];
    let copy = deployment.replicas.as_ref().and_then(|replicas| replicas.id(store));
    if let Some(copy) = copy {
        let copy_name = names::store(store, true);
        write_copy(azure, deployment.store_kind, &name, &uri, &copy_name, copy).await?;
        written.push(copy_name);
    }
    if let Some(old) = old {
        tokio::time::sleep(pause).await;
        stores::regenerate(azure, id, old).await?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_the_three_secrets_has_one_next_step() {
        // Shown, current, next.
        assert_eq!(step(&1, &1, &1), Step::TakeNew);
        assert_eq!(step(&1, &1, &2), Step::ShowNew);
        assert_eq!(step(&2, &1, &2), Step::DropOld);
        assert_eq!(step(&3, &1, &2), Step::Astray);
        assert_eq!(step(&3, &1, &1), Step::Astray);
    }

    #[test]
    fn the_steps_lead_to_a_new_key_and_the_caller_never_shows_one_that_is_not_taken() {
        let (mut shown, mut current, mut next) = (1, 1, 1);
        for expected in [Step::TakeNew, Step::ShowNew, Step::DropOld] {
            let step = step(&shown, &current, &next);
            assert_eq!(step, expected);
            match step {
                Step::TakeNew => next = 2,
                Step::ShowNew => shown = next,
                Step::DropOld => current = next,
                Step::Astray => {}
            }
            assert!(shown == current || shown == next);
        }
        assert_eq!((shown, current, next), (2, 2, 2));
    }
}
