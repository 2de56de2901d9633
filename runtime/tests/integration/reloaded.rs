//! Secrets that change while a service runs.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runtime::reloaded::Reloaded;
use runtime::secrets::{Secret, SecretError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

const INTERVAL: Duration = Duration::from_secs(1);

/// What was logged, and how loud.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(Level, String)>>>);

impl<S: Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_good_secret_stays_and_the_log_says_so_once() {
    let said = Said::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let one = Secret::new("canary-one");
    let there = Arc::new(Mutex::new(Some(one.clone())));
    let reloaded = Reloaded::new("the key", one.clone());
    let load = {
        let there = there.clone();
        move || there.lock().unwrap().clone().ok_or(SecretError::NotText)
    };
    let task = tokio::spawn(reloaded.keep_loading(INTERVAL, load));
    let becomes = async |secret: Option<&Secret>| {
        *there.lock().unwrap() = secret.cloned();
        tokio::time::sleep(3 * INTERVAL).await;
        Secret::clone(&reloaded.now())
    };
    let two = Secret::new("canary-two");
    for (secret, expected, levels) in [
        (Some(&one), &one, &[][..]),
        (Some(&two), &two, &[Level::INFO]),
        (None, &two, &[Level::ERROR]),
        (Some(&two), &two, &[Level::INFO]),
        (None, &two, &[Level::ERROR]),
        (Some(&one), &one, &[Level::INFO]),
    ] {
        assert!(becomes(secret).await == *expected);
        let lines = std::mem::take(&mut *said.0.lock().unwrap());
        assert_eq!(lines.iter().map(|(level, _)| *level).collect::<Vec<_>>(), levels, "{lines:?}");
        assert!(lines.iter().all(|(_, text)| text.contains("the key") && !text.contains("canary")));
    }
    assert!(!format!("{reloaded:?}").contains("canary"));

    drop(reloaded);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_loaded_for_what_nobody_holds() {
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = loads.clone();
    let reloaded = Reloaded::new("the key", 0);
    let task = tokio::spawn(reloaded.keep_loading(INTERVAL, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, SecretError>(0)
    }));
    drop(reloaded);
    task.await.unwrap();
    assert_eq!(loads.load(Ordering::SeqCst), 0);
}
