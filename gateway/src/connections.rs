//! Connections to an upstream, kept open and driven by whoever uses them.
//!
//! hyper leaves it open who polls a connection. Clients spawn a task for each, so that every request
//! wakes another one, more often than not on another core. Here the request that waits polls the
//! connection as well, which halves what a hop costs. While it is idle, one task looks after all of
//! them, woken when a peer closes one.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use axum::body::HttpBody;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use runtime::client::{CONNECT_TIMEOUT, Connector, POOL_IDLE_TIMEOUT, POOL_MAX_IDLE_PER_HOST};
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use crate::exchange::Failure;

type Stream = <Connector as Service<Uri>>::Response;

/// The connections to one service.
pub(crate) struct Connections {
    connector: Connector,
    /// Scheme, host and port.
    to: Uri,
    host: HeaderValue,
    /// The one that was used last is at the end.
    idle: Mutex<VecDeque<(Instant, Box<Connection>)>>,
    stirred: Arc<Stirred>,
    /// Of `stirred`.
    waker: Waker,
}

/// Woken when something comes on an idle connection, which mostly is its end.
#[derive(Default)]
struct Stirred(Notify);

impl Wake for Stirred {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

/// One connection; boxed, because its some hundred bytes go from hand to hand with every request.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// Dropped at its end: only then does hyper hand back what it did not send.
struct Driver(Option<http1::Connection<Stream, Full<Bytes>>>);

impl Connections {
    /// `None` if `to` names no host.
    pub(crate) fn new(connector: Connector, to: Uri) -> Option<Arc<Self>> {
        let host = HeaderValue::from_str(to.authority()?.as_str()).ok()?;
        let stirred = Arc::<Stirred>::default();
        let waker = Arc::clone(&stirred).into();
        Some(Arc::new(Self { connector, to, host, idle: Mutex::default(), stirred, waker }))
    }

    /// Sends a request, whose URI is a path and a query, and waits for the head of the answer.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Answered>, Failure> {
        request.headers_mut().insert(HOST, self.host.clone());
        while let Some(connection) = self.take() {
            match connection.send(request).await {
                // It was closed at the moment when it was taken.
                Err(Some(unsent)) => request = unsent,
                Err(None) => return Err(Failure::Broken),
                Ok((response, connection)) => return Ok(self.answered(response, connection)),
            }
        }
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let connection = connected.ok().flatten().ok_or(Failure::Connecting)?;
        match connection.send(request).await {
            Ok((response, connection)) => Ok(self.answered(response, connection)),
            Err(Some(_unsent)) => Err(Failure::Connecting),
            Err(None) => Err(Failure::Broken),
        }
    }

    async fn connect(&self) -> Option<Box<Connection>> {
        let stream = self.connector.clone().oneshot(self.to.clone()).await.ok()?;
        let (sender, connection) = http1::handshake(stream).await.ok()?;
        Some(Box::new(Connection { sender, driver: Driver(Some(connection)) }))
    }

    fn take(&self) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.idle().pop_back()?;
            if since.elapsed() < POOL_IDLE_TIMEOUT && connection.is_usable(Waker::noop()) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, mut connection: Box<Connection>) {
        // Not before the end of the answer was read, whether it was wanted or not.
        if !connection.is_usable(&self.waker) {
            return;
        }
        let mut idle = self.idle();
        let gone = if idle.len() < POOL_MAX_IDLE_PER_HOST { None } else { idle.pop_front() };
        idle.push_back((Instant::now(), connection));
        drop(idle);
        drop(gone);
    }

    /// Closes those that the peer has closed or that were idle for too long, for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            let _ = timeout(POOL_IDLE_TIMEOUT, self.stirred.0.notified()).await;
            self.idle().retain_mut(|(since, connection)| {
                since.elapsed() < POOL_IDLE_TIMEOUT && connection.is_usable(&self.waker)
            });
        }
    }

    fn answered(
        self: &Arc<Self>,
        response: Response<Incoming>,
        connection: Box<Connection>,
    ) -> Response<Answered> {
        let home = Arc::clone(self);
        response.map(|body| Answered { body, connection: Some(connection), home })
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Instant, Box<Connection>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// The head of the answer; or the request, if nothing of it was sent.
    async fn send(
        mut self: Box<Self>,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Box<Self>), Option<Request<Full<Bytes>>>> {
        // Its turn is the connection's: it must not be put off, with a waker that does nothing.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let answered = poll_fn(|context| {
            self.driver.drive(context);
            // It is there, or not, through what was just driven: nobody else wakes this task.
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        match answered.await {
            Ok(response) => Ok((response, self)),
            Err(mut failed) => Err(failed.take_message()),
        }
    }

    /// Whether another request can be sent, as far as the peer has said by now.
    fn is_usable(&mut self, waker: &Waker) -> bool {
        self.driver.drive(&mut Context::from_waker(waker));
        self.driver.0.is_some() && self.sender.is_ready()
    }
}

impl Driver {
    /// Writes and reads as far as that goes. How it ended shows in the answer.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && Pin::new(connection).poll(context).is_ready()
        {
            self.0 = None;
        }
    }
}

/// The body of an answer. Its connection is kept for others once all of it was read.
pub(crate) struct Answered {
    body: Incoming,
    connection: Option<Box<Connection>>,
    home: Arc<Connections>,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(connection) = &mut this.connection {
            connection.driver.drive(context);
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.home.keep(connection);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::sleep;

    #[tokio::test]
    async fn what_could_not_be_sent_any_more_comes_back_at_once() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Connections::new(runtime::client::internal_connector(), to).unwrap();
        let request = || Request::get("/").body(Full::default()).unwrap();
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
            stream.write_all(ANSWER).await.unwrap();
            stream
        };
        let (answer, stream) = tokio::join!(connections.send(request()), peer);
        drop(answer.ok().unwrap());
        let connection = connections.take().expect("it was kept");

        // It ends between its being taken and its being used; the runtime turns once to learn of it.
        drop(stream);
        sleep(Duration::from_millis(10)).await;
        let sent = timeout(Duration::from_secs(2), connection.send(request())).await;
        let Err(Some(unsent)) = sent.expect("an answer at once") else { panic!("it was sent") };
        assert_eq!(unsent.uri(), "/");
    }
}
