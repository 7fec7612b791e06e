//! The server under test: `Idempotency` in front of a handler that asks the suite's origin.
//!
//! A program, and to cargo an example, since those may use what tests use. Its options are in
//! `ONCEFLIGHT_TARGET`, as JSON. It says `listening on ADDR`, and ends with its standard input.
//!
//! | a request's header | what the handler does |
//! |-|-|
//! | `x-leave: TEXT` | leaves it as a checkpoint before it asks the origin |
//! | `x-leave-late: TEXT` | leaves it afterwards, and answers with `x-left: true`, or why not |

#[path = "../../examples/payments/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use std::{env, process, thread};

use hyper::body::Bytes;
use hyper::header::{HOST, HeaderName};
use hyper::{Request, Response, StatusCode};
use onceflight::http::{Execution, Idempotency, Keep, Requirement};
use onceflight::store::{self, MemoryStore};
use onceflight::{Error, IdempotencyTable, OnLeaseExpired};
use serde::Deserialize;

/// What the suite asks for; what it leaves out is as the library has it.
#[allow(clippy::struct_excessive_bools)] // they are flags
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    store: String,
    /// Where requests are executed: `http://HOST:PORT`.
    origin: String,
    created_then_ok: bool,
    /// No key is required of anybody.
    optional: bool,
    lenient: bool,
    hold: bool,
    disabled: bool,
    docs: Option<String>,
    wait_ms: Option<u64>,
    retry_after_ms: Option<u64>,
    ttl_ms: Option<u64>,
    /// 0: for ever.
    lease_ms: Option<u64>,
    store_timeout_ms: Option<u64>,
    max_in_flight: Option<usize>,
    max_request: Option<usize>,
    max_response: Option<usize>,
    strip: Vec<String>,
    /// What statuses say: `response`, `nothing`, `maybe`.
    keep: BTreeMap<u16, String>,
    /// Of a JSON body, only this field says what the payload is.
    payload_field: Option<String>,
}

fn main() {
    let options = env::var("ONCEFLIGHT_TARGET").expect("its options");
    let options: Options = serde_json::from_str(&options).expect("options");
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    let idempotency = idempotency(&options);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    println!("listening on {address}");
    let served = server::serve(&listener, move |request| {
        idempotency.handle(request, |request| execute(&options.origin, &request))
    });
    served.expect("connections");
}

fn idempotency(options: &Options) -> Idempotency {
    let mut table = IdempotencyTable::builder();
    if let Some(ttl) = options.ttl_ms {
        table = table.ttl(Duration::from_millis(ttl));
    }
    match options.lease_ms {
        Some(0) => table = table.lease(Duration::MAX),
        Some(lease) => table = table.lease(Duration::from_millis(lease)),
        None => {}
    }
    if let Some(timeout) = options.store_timeout_ms {
        table = table.store_timeout(Duration::from_millis(timeout));
    }
    if let Some(most) = options.max_in_flight {
        table = table.max_in_flight(most);
    }
    if let Some(most) = options.max_response {
        table = table.max_response_len(most);
    }
    if options.hold {
        table = table.on_lease_expired(OnLeaseExpired::Hold);
    }
    let store = match &*options.store {
        "memory:" => Arc::new(MemoryStore::new()),
        url => store::open(url).expect("a store"),
    };
    rules(options).over(table.over(store).expect("a table"))
}

fn rules(options: &Options) -> onceflight::http::Builder {
    let mut rules = Idempotency::builder().lenient_keys(options.lenient).disabled(options.disabled);
    if options.created_then_ok {
        rules = rules.created_then_ok();
    }
    if options.optional {
        rules = rules.require(|_, _| Requirement::Optional);
    }
    if let Some(docs) = &options.docs {
        rules = rules.docs(docs);
    }
    if let Some(wait) = options.wait_ms {
        rules = rules.wait(Duration::from_millis(wait));
    }
    if let Some(time) = options.retry_after_ms {
        rules = rules.retry_after(Duration::from_millis(time));
    }
    if let Some(most) = options.max_request {
        rules = rules.max_request(most);
    }
    for name in &options.strip {
        rules = rules.strip(name.parse().expect("a header's name"));
    }
    if !options.keep.is_empty() {
        let keep = options.keep.clone();
        rules = rules.keep(move |status| match keep.get(&status.as_u16()).map(String::as_str) {
            None => Keep::usual(status),
            Some("response") => Keep::Response,
            Some("nothing") => Keep::NothingHappened,
            Some("maybe") => Keep::MayHaveHappened,
            Some(other) => panic!("{other}"),
        });
    }
    if let Some(field) = options.payload_field.clone() {
        rules = rules.payload(move |_, _, body| {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            body[&field].to_string().into_bytes()
        });
    }
    rules
}

/// Has the origin execute it, which is told the execution's number, fence and checkpoint. An answer may say
/// `x-then: panic`; an origin that doesn't answer is a 502.
fn execute(origin: &str, request: &Request<Bytes>) -> Response<Vec<u8>> {
    let target = request.uri().path_and_query().expect("a path");
    let mut forward = Request::builder().method(request.method()).uri(format!("{origin}{target}"));
    for (name, value) in request.headers() {
        if !is_hop(name) {
            forward = forward.header(name, value);
        }
    }
    if let Some(execution) = request.extensions().get::<Execution>() {
        forward = forward
            .header("x-key", &execution.key)
            .header("onceflight-attempt", execution.attempt)
            .header("onceflight-fence", execution.fence);
        if let Some(checkpoint) = &execution.checkpoint {
            forward = forward.header("x-checkpoint", &**checkpoint);
        }
    }
    leave(request, "x-leave").transpose().expect("a checkpoint");
    let asked = ask(forward.body(request.body().to_vec()).expect("a request"));
    let mut response = match asked {
        Ok(response) => {
            assert!(response.headers().get("x-then").is_none(), "told to panic");
            response
        }
        Err(error) => {
            let mut response = Response::new(format!("{error}\n").into_bytes());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    };
    if let Some(left) = leave(request, "x-leave-late") {
        let left = left.map_or_else(|error| format!("{:?}", error.kind()), |()| "true".into());
        response.headers_mut().insert("x-left", left.parse().expect("a word"));
    }
    response
}

/// Leaves a checkpoint, if the request's header says so.
fn leave(request: &Request<Bytes>, header: &str) -> Option<Result<(), Error>> {
    let text = request.headers().get(header)?;
    let execution = request.extensions().get::<Execution>().expect("a key");
    Some(execution.set_checkpoint(text.as_bytes()))
}

fn is_hop(name: &HeaderName) -> bool {
    name == HOST
        || matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding" | "expect")
}

fn ask(request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ureq::Error> {
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_redirects(0)
        .max_idle_connections(0)
        .build()
        .new_agent();
    let (mut head, mut body) = agent.run(request)?.into_parts();
    for hop in ["connection", "transfer-encoding"] {
        head.headers.remove(hop);
    }
    let mut all = Vec::new();
    body.as_reader().read_to_end(&mut all).map_err(ureq::Error::Io)?;
    Ok(Response::from_parts(head, all))
}
