//! What requests do. A payment's bookings and the response that its key is answered with commit
//! together, or not at all: there is no moment at which a crash leaves one without the other.

use std::thread;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use onceflight::Error;
use onceflight::http::{Idempotency, Keyed, Problem};
use onceflight::idempotency::BeginIn;
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
    pub fn answer(&self, request: &Request<Bytes>) -> Response<Vec<u8>> {
        let done = match (request.method(), request.uri().path()) {
            (&Method::POST, "/payments") => self.pay(request),
            (&Method::GET, "/payments") => self.ledger.payments().map(|all| ok(&all)),
            (&Method::GET, "/accounts") => self.ledger.accounts().map(|all| ok(&all)),
            _ => Ok(say(
                StatusCode::NOT_FOUND,
                &json!({ "error": "POST or GET /payments, or GET /accounts" }),
            )),
        };
        done.unwrap_or_else(|error| {
            eprintln!("{} {}: {error}", request.method(), request.uri());
            self.idempotency.refusal(&Problem::of(&error))
        })
    }

    fn pay(&self, request: &Request<Bytes>) -> Result<Response<Vec<u8>>, Error> {
        let keyed = match self.idempotency.identify(request) {
            Ok(keyed) => keyed.expect("a POST has to have one"),
            Err(problem) => return Ok(self.idempotency.refusal(&problem)),
        };
        // Before the key is claimed: it isn't spent by what can't be an order.
        match serde_json::from_slice(request.body()) {
            Ok(order) => self.pay_once(&keyed, &order),
            Err(error) => Ok(say(StatusCode::BAD_REQUEST, &json!({ "error": error.to_string() }))),
        }
    }

    /// Whatever fails here, the transaction is rolled back, and the key is as free as before.
    fn pay_once(&self, keyed: &Keyed, order: &Order) -> Result<Response<Vec<u8>>, Error> {
        let mut connection = self.ledger.connect()?;
        let mut tx = connection.transaction().map_err(|error| Error::store(error.to_string()))?;
        match self.idempotency.request(keyed).claim_in(&mut tx)? {
            BeginIn::Lead(lead) => {
                let response = tell(&Ledger::book(&tx, order)?);
                eprintln!("{}: booked, and not committed", keyed.key);
                thread::sleep(self.pause);
                let kept = self.idempotency.keep(&response);
                lead.complete_in(&mut tx, kept)?.commit(tx)?;
                eprintln!("{}: committed", keyed.key);
                Ok(response)
            }
            BeginIn::Shared(kept) | BeginIn::Replayed(kept) => Ok(self.idempotency.replay(&kept)),
            BeginIn::Bypass => unreachable!("nobody declines"),
        }
    }
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
