//! What requests do. A payment's bookings and the response that its key is answered with commit
//! together, or not at all: there is no moment at which a crash leaves one without the other.

use std::thread;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use onceflight::Error;
use onceflight::http::{Execution, Idempotency};
use rusqlite::Transaction;
use serde::Serialize;
use serde_json::json;

use crate::ledger::{Booked, Ledger, Order};

pub struct Api {
    pub idempotency: Idempotency,
    pub ledger: Ledger,
    /// Between a payment's bookings and their commit.
    pub pause: Duration,
}

impl Api {
    pub fn answer(&self, request: Request<Bytes>) -> Response<Vec<u8>> {
        let what = format!("{} {}", request.method(), request.uri());
        let done = match (request.method(), request.uri().path()) {
            (&Method::POST, "/payments") => self.pay(request),
            (&Method::GET, "/payments") => self.ledger.payments().map(|all| ok(&all)),
            (&Method::GET, "/accounts") => self.ledger.accounts().map(|all| ok(&all)),
            _ => Ok(say(
                StatusCode::NOT_FOUND,
                &json!({ "error": "POST or GET /payments, or GET /accounts" }),
            )),
        };
        let response = done.unwrap_or_else(|error| failed(&error));
        if let Some(error) = response.extensions().get::<Error>() {
            eprintln!("{what}: {error}");
        }
        response
    }

    fn pay(&self, request: Request<Bytes>) -> Result<Response<Vec<u8>>, Error> {
        // Before the key is claimed: it isn't spent by what can't be an order.
        let order = match serde_json::from_slice(request.body()) {
            Ok(order) => order,
            Err(error) => {
                return Ok(say(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() })));
            }
        };
        let mut connection = self.ledger.connect()?;
        let tx = connection.transaction().map_err(|error| Error::store(error.to_string()))?;
        Ok(self.idempotency.handle_in(request, tx, |request, tx| self.book(&request, tx, &order)))
    }

    /// Whatever fails here, the transaction is rolled back, and the key is as free as before.
    fn book(
        &self,
        request: &Request<Bytes>,
        tx: &Transaction<'_>,
        order: &Order,
    ) -> Response<Vec<u8>> {
        let booked = match Ledger::book(tx, order) {
            Ok(booked) => booked,
            Err(error) => return failed(&error),
        };
        let execution = request.extensions().get::<Execution>().expect("a POST has a key");
        eprintln!("{}: booked, and not committed", execution.key);
        thread::sleep(self.pause);
        tell(&booked)
    }
}

/// 503: nothing happened.
fn failed(error: &Error) -> Response<Vec<u8>> {
    let mut response = say(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "try again later" }));
    response.extensions_mut().insert(error.clone());
    response
}

/// Refusals of the ledger are outcomes as much as payments are: told again, and not tried again.
fn tell(booked: &Booked) -> Response<Vec<u8>> {
    match booked {
        Booked::Payment(payment) => {
            let mut response = say(StatusCode::CREATED, payment);
            let location = HeaderValue::try_from(format!("/payments/{}", payment.id));
            response.headers_mut().insert(LOCATION, location.expect("digits"));
            response
        }
        Booked::NoSuchAccount => say(StatusCode::NOT_FOUND, &json!({ "error": "no such account" })),
        Booked::TooLittle => {
            say(StatusCode::PAYMENT_REQUIRED, &json!({ "error": "too little money" }))
        }
    }
}

fn ok(what: &impl Serialize) -> Response<Vec<u8>> {
    say(StatusCode::OK, what)
}

fn say(status: StatusCode, what: &impl Serialize) -> Response<Vec<u8>> {
    let mut body = serde_json::to_vec(what).expect("JSON");
    body.push(b'\n');
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
