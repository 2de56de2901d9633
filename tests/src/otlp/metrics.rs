//! A metric as tests look at it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        Metric as Wire, NumberDataPoint, metric::Data, number_data_point::Value as Number,
    },
};
use serde_json::Value;

use super::spans;

/// One point of a metric that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// `service.name` of what sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What it is about.
    pub labels: BTreeMap<String, Value>,
    /// The number; of a histogram, how many values it has.
    pub value: f64,
}

/// The points of a request.
pub(super) fn of(request: &ExportMetricsServiceRequest) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for part in &request.resource_metrics {
        let service = spans::service(part.resource.as_ref());
        for metric in part.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            metrics.extend(points(metric).into_iter().map(|(labels, value)| Metric {
                service: service.clone(),
                name: metric.name.clone(),
                unit: metric.unit.clone(),
                labels,
                value,
            }));
        }
    }
    metrics
}

type Point = (BTreeMap<String, Value>, f64);

fn points(metric: &Wire) -> Vec<Point> {
    #[allow(clippy::cast_precision_loss, reason = "counts of a test")]
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(number).collect(),
        Some(Data::Sum(sum)) => sum.data_points.iter().map(number).collect(),
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.iter();
            points.map(|it| (spans::attributes(&it.attributes), it.count as f64)).collect()
        }
        _ => Vec::new(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a test")]
fn number(point: &NumberDataPoint) -> Point {
    let value = match point.value {
        Some(Number::AsDouble(value)) => value,
        Some(Number::AsInt(value)) => value as f64,
        None => f64::NAN,
    };
    (spans::attributes(&point.attributes), value)
}
