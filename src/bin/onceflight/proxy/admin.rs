//! What operators ask, on an address of its own: `/metrics`, and `/healthz`, which is 503 once it stops.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::metrics::Now;
use super::route::Proxy;
use crate::budget::Budget;
use crate::command::Failed;
use crate::server::{Limits, Server};
use crate::wire::{Content, text};

/// Serves until the process ends.
pub fn serve(address: &str, proxy: Arc<Proxy>, server: &Server) -> Result<Server, Failed> {
    let connections = Arc::clone(server.connections());
    let listener = super::listener(address)?;
    let limits = Limits {
        connections: 16,
        body: 0,
        memory: Budget::new(0),
        patience: Duration::from_secs(10),
    };
    Ok(Server::start(listener, limits, move |request, _| {
        let response = match request.uri().path() {
            "/metrics" => metrics(&proxy, connections.count()),
            "/healthz" if connections.is_stopping() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "stopping")
            }
            "/healthz" => text(StatusCode::OK, "ok"),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz"),
        };
        response.map(Content::from)
    })?)
}

fn metrics(proxy: &Proxy, connections: usize) -> Response<Vec<u8>> {
    let now = Now {
        coalesced: proxy.table.stats(),
        keyed: proxy.keys.table().stats(),
        connections,
        body_bytes: proxy.memory.used(),
    };
    let page = proxy.metrics.text(&now);
    let mut response = Response::new(page.into_bytes());
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
