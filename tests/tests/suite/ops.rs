//! The dashboard, the alerts and the compose file, tried with Prometheus's own
//! programs and on a running system. Neither Grafana nor Docker runs here.

mod compose;
mod dashboard;
mod files;
mod images;
mod live;
mod operations;
mod promql;
mod rules;
mod stack;
