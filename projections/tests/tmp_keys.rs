//! Temporary.
#![allow(clippy::unwrap_used)]
#[path = "../../tests/tests/suite/jose.rs"]
mod jose;
#[path = "../../tests/tests/suite/key_pool.rs"]
mod key_pool;
#[path = "../../tests/tests/suite/key_ring.rs"]
mod key_ring;
#[path = "../../tests/tests/suite/sealing.rs"]
mod sealing;
#[tokio::test]
async fn aa_initiate() {
    let client = mongodb::Client::with_uri_str("mongodb://127.0.0.1:27391/?directConnection=true")
        .await
        .unwrap();
    let r = client.database("admin").run_command(mongodb::bson::doc! {"replSetInitiate": {"_id": "rs0", "members": [{"_id": 0, "host": "127.0.0.1:27391"}]}}).await;
    println!("{r:?}");
}
#[tokio::test(flavor = "multi_thread")]
async fn zz_speed() {
    use projections::key_ring::*;
    use std::sync::Arc;
    let d = tempfile::tempdir().unwrap();
    let client =
        mongodb::Client::with_uri_str("mongodb://127.0.0.1:27391/?replicaSet=rs0").await.unwrap();
    let stores: [(&str, Arc<dyn store::KeyStore>); 3] = [
        ("mongo", Arc::new(mongo::MongoKeys::new(&client, "speed"))),
        ("sqlite", Arc::new(sqlite::SqliteKeys::open(&d.path().join("keys.db")).unwrap())),
        ("memory", Arc::new(memory::MemoryKeys::default())),
    ];
    for (name, store) in stores {
        let ring = KeyRing::new(store, kek::Kek::new(zeroize::Zeroizing::new([1; 32])));
        let t = std::time::Instant::now();
        ring.fresh().await.unwrap();
        let first = t.elapsed();
        let t = std::time::Instant::now();
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let ring = ring.clone();
                tokio::spawn(async move {
                    for _ in 0..1000 {
                        ring.fresh().await.unwrap();
                    }
                })
            })
            .collect();
        for t in tasks {
            t.await.unwrap();
        }
        println!("{name}: first {first:?}, {:.0} keys/s", 64_000.0 / t.elapsed().as_secs_f64());
    }
}
