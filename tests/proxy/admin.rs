//! What operators see: metrics and health.

use hyper::StatusCode;

use crate::harness::{Backend, Proxy, all, crowd, get};
use crate::keyed::pay;
use crate::server::text;

/// The value of a line of the metrics.
pub fn metric(proxy: &Proxy, name: &str) -> u64 {
    let reply = get(&proxy.admin_url("/metrics"));
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let page = String::from_utf8(reply.body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn metrics_count_requests_by_how_they_were_answered() {
    let backend = Backend::held();
    let proxy = Proxy::before(&backend, &["--admin", "127.0.0.1:0", "--window-ms", "600000"]);
    let url = proxy.url("/");
    let clients = crowd(5, move |_| get(&url));
    assert_eq!(proxy.steps(5), (1, 4, 0, 0));
    assert_eq!(metric(&proxy, "onceflight_in_flight{kind=\"coalesced\"}"), 1);
    assert_eq!(metric(&proxy, "onceflight_waiting{kind=\"coalesced\"}"), 4);
    assert_eq!(metric(&proxy, "onceflight_connections"), 5);
    backend.release();
    all(clients);
    get(&proxy.url("/"));
    let orders = proxy.url("/orders");
    for body in ["tea", "tea", "coffee"] {
        pay(&orders, "1", body);
    }
    for (name, count) in [
        ("requests_total{role=\"led\"}", 2),
        ("requests_total{role=\"shared\"}", 4),
        ("requests_total{role=\"replayed\"}", 2),
        ("requests_total{role=\"refused\"}", 1),
        ("problems_total{type=\"key-reused\"}", 1),
        ("backend_requests_total", 2),
        ("backend_failures_total{reason=\"unreachable\"}", 0),
        ("store_errors_total", 0),
        ("in_flight{kind=\"keyed\"}", 0),
        ("waiting{kind=\"keyed\"}", 0),
        ("request_duration_seconds_count", 9),
        ("request_duration_seconds_bucket{le=\"+Inf\"}", 9),
    ] {
        assert_eq!(metric(&proxy, &format!("onceflight_{name}")), count, "{name}");
    }
}

#[test]
fn failures_are_counted_by_reason() {
    let dead = Proxy::start(&["--backend", "http://127.0.0.1:1", "--admin", "127.0.0.1:0"]);
    get(&dead.url("/"));
    assert_eq!(metric(&dead, "onceflight_backend_failures_total{reason=\"unreachable\"}"), 1);
    let held = Backend::held();
    let slow = ["--admin", "127.0.0.1:0", "--backend-timeout-ms", "100"];
    let slow = Proxy::before(&held, &slow);
    get(&slow.url("/"));
    assert_eq!(metric(&slow, "onceflight_backend_failures_total{reason=\"slow\"}"), 1);
}

#[test]
fn health_is_ok_until_it_stops() {
    let backend = Backend::start(|_, _| text(StatusCode::OK, ""));
    backend.hold();
    let mut proxy = Proxy::before(&backend, &["--admin", "127.0.0.1:0"]);
    let health = |proxy: &Proxy| get(&proxy.admin_url("/healthz")).status;
    assert_eq!(health(&proxy), 200);
    assert_eq!(get(&proxy.admin_url("/elsewhere")).status, 404);
    let url = proxy.url("/");
    let client = crowd(1, move |_| get(&url));
    backend.wait_for(1);
    proxy.signal("TERM");
    proxy.wait_for_line("INFO: stopping: what is in flight is finished first");
    assert_eq!(health(&proxy), 503);
    backend.release();
    assert_eq!(all(client)[0].status, 200);
    assert_eq!(proxy.exit().code(), Some(0));
}
