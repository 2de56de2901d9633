//! The port of the receiver: both protocols, and the faults of both.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::service::Routes;

use super::{Mode, Shared};

/// The content type of protobuf over HTTP.
const PROTOBUF: &str = "application/x-protobuf";

/// Where it listens, and the task that does.
pub(super) async fn start(shared: Arc<Shared>) -> anyhow::Result<(String, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let grpc = Grpc(Arc::clone(&shared));
    let app = Routes::new(TraceServiceServer::new(grpc.clone()))
        .add_service(MetricsServiceServer::new(grpc))
        .into_axum_router()
        .merge(http(Arc::clone(&shared)))
        .layer(from_fn_with_state(shared, behave));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    Ok((endpoint, tasks))
}

/// Counts a request, and does with it as the mode says.
async fn behave(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let mode = *shared.mode.borrow();
    match mode {
        Mode::Take => next.run(request).await,
        Mode::Refuse => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mode::Slow(time) => {
            let response = next.run(request).await;
            tokio::time::sleep(time).await;
            response
        }
    }
}

#[derive(Clone)]
struct Grpc(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.take_spans(request.get_ref());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.0.take_metrics(request.get_ref());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn http(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

async fn traces(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, StatusCode> {
    shared.take_spans(&decode(&headers, body)?);
    Ok(answer(&ExportTraceServiceResponse::default()))
}

async fn metrics(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, StatusCode> {
    shared.take_metrics(&decode(&headers, body)?);
    Ok(answer(&ExportMetricsServiceResponse::default()))
}

fn decode<M: Message + Default>(headers: &HeaderMap, body: Bytes) -> Result<M, StatusCode> {
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind != PROTOBUF) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    M::decode(body).map_err(|_| StatusCode::BAD_REQUEST)
}

fn answer(message: &impl Message) -> Response {
    ([(CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}
