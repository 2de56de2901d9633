//! A way to MongoDB on which an insert can get stuck: the client's side is cut, and the server
//! gets the bytes whenever the test says so.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mongodb::options::ClientOptions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// The start of an insert into the ledger's collection, in BSON: a string member.
const INSERT: &[u8] = b"insert\0\x07\0\0\0blocks\0";

/// How long the server may take for an insert, and a process until it sends one.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct HoldingProxy {
    port: u16,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    /// Inserts that will still be held.
    to_hold: Mutex<usize>,
    held: Mutex<Vec<Held>>,
}

/// An insert on its way, with the connection that it is on.
struct Held {
    message: Vec<u8>,
    to_server: OwnedWriteHalf,
    from_server: OwnedReadHalf,
}

impl HoldingProxy {
    /// Forwards to the first server of a URI.
    pub(super) async fn start(uri: &str) -> Self {
        let target = ClientOptions::parse(uri).await.unwrap().hosts[0].to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control::default());
        let proxy = Self { port, control: control.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                tokio::spawn(forward(client, server, control.clone()));
            }
        });
        proxy
    }

    /// Where to find the server through this.
    pub(super) fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    pub(super) fn hold_next_insert(&self) {
        *self.control.to_hold.lock().unwrap() = 1;
    }

    pub(super) fn hold_every_insert(&self) {
        *self.control.to_hold.lock().unwrap() = usize::MAX;
    }

    pub(super) fn held(&self) -> usize {
        self.control.held.lock().unwrap().len()
    }

    pub(super) async fn wait_for_held(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.held() < count {
            assert!(Instant::now() < deadline, "no insert was sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets the first insert that is held land; the server's answer to it.
    pub(super) async fn deliver(&self) -> String {
        let mut held = self.control.held.lock().unwrap().remove(0);
        held.to_server.write_all(&held.message).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, message(&mut held.from_server)).await;
        String::from_utf8_lossy(&answer.unwrap().unwrap()).into_owned()
    }
}

impl Control {
    fn holds(&self, message: &[u8]) -> bool {
        let mut to_hold = self.to_hold.lock().unwrap();
        if *to_hold == 0 || !message.windows(INSERT.len()).any(|bytes| bytes == INSERT) {
            return false;
        }
        *to_hold -= 1;
        true
    }
}

async fn forward(client: TcpStream, server: TcpStream, control: Arc<Control>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Answers end before an insert is held: its answer is for the test.
    let (cut, mut is_cut) = watch::channel(false);
    let answers = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = is_cut.changed() => return from_server,
                answer = message(&mut from_server) => {
                    let Some(answer) = answer else { return from_server };
                    if to_client.write_all(&answer).await.is_err() {
                        return from_server;
                    }
                }
            }
        }
    });
    while let Some(message) = message(&mut from_client).await {
        if control.holds(&message) {
            cut.send_replace(true);
            if let Ok(from_server) = answers.await {
                control.held.lock().unwrap().push(Held { message, to_server, from_server });
            }
            return;
        }
        if to_server.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// One message of the wire protocol: its first four bytes are its length.
async fn message(from: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_i32_le().await.ok()?;
    let mut message = vec![0; usize::try_from(length).ok()?];
    message[..4].copy_from_slice(&length.to_le_bytes());
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}
