//! The demonstration: a slow backend of its own, a crowd of clients, and the count that matters.
//!
//! Requests and responses are real HTTP over loopback. The backend takes a while for each request,
//! and during a round it also waits until the whole crowd has arrived at the proxy: so the numbers
//! are the same on a slow machine.

use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use parking_lot::{Condvar, Mutex};

use super::backend::Backend;
use super::route::{Observer, Step};
use crate::budget::Budget;
use crate::server::{Limits, Server};
use crate::wire::text;

/// What the backend pretends to work for.
const WORK: Duration = Duration::from_millis(700);

const KEY: &str = "idempotency-key";

/// A round whose crowd isn't complete by then goes on without it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one client of a round sends: a path, and to POST to it, a key and a body.
type Shot = (String, Option<(String, String)>);

/// The slow backend, and what everybody counts.
pub struct Demo {
    board: Arc<Board>,
    backend: Server,
}

/// What has happened in this round so far.
#[derive(Clone, Copy, Default)]
struct Counts {
    expected: usize,
    arrived: usize,
    waiting: usize,
    backend: usize,
    answered: usize,
    failed: usize,
}

#[derive(Default)]
struct Board {
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl Demo {
    /// Starts the backend on a free port.
    pub fn start() -> io::Result<Self> {
        let board = Arc::new(Board::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let memory = Budget::new(256 << 20);
        let limits = Limits { connections: 256, body: 1 << 20, memory, patience: PATIENCE };
        let backend = Server::start(listener, limits, {
            let board = Arc::clone(&board);
            move |request, _| board.work(&request.map(Option::unwrap_or_default)).map(Into::into)
        })?;
        Ok(Self { board, backend })
    }

    /// Its address, as the proxy's flag takes it.
    pub fn backend(&self) -> String {
        format!("http://{}", self.backend.address())
    }

    /// Counts who has arrived at the proxy, and who waits there.
    pub fn observer(&self) -> Observer {
        let board = Arc::clone(&self.board);
        Box::new(move |step, request| {
            let keyed = request.headers().contains_key(KEY);
            board.update(|counts| match step {
                Step::Asks | Step::Waits => {
                    counts.arrived += 1;
                    counts.waiting += 1;
                }
                // It had asked the store before, and needn't wait after all.
                Step::Leads | Step::Replays if keyed => counts.waiting -= 1,
                Step::Leads | Step::Replays | Step::Alone => counts.arrived += 1,
            });
        })
    }

    /// All rounds; false if the backend saw more requests than there are different ones.
    pub fn run(&self, proxy: SocketAddr) -> io::Result<bool> {
        let get = |path: String| -> Shot { (path, None) };
        let order = |n: usize| -> Shot {
            let (key, item) =
                if n.is_multiple_of(2) { ("order-1", "tea") } else { ("order-2", "coffee") };
            ("/orders".into(), Some((key.into(), format!("a cup of {item}"))))
        };
        let report = || (0..64).map(|_| get("/report".into())).collect();
        let rounds: [(&str, Vec<Shot>, usize); 5] = [
            ("64 clients GET the same URL", report(), 1),
            ("once more: the flight is over, nothing was kept", report(), 1),
            (
                "60 clients GET three URLs",
                (0..60).map(|n| get(format!("/page/{}", n % 3))).collect(),
                3,
            ),
            (
                "64 clients POST two orders, each with its Idempotency-Key",
                (0..64).map(order).collect(),
                2,
            ),
            ("they all try again: what was answered is replayed", (0..64).map(order).collect(), 0),
        ];
        let mut as_promised = true;
        for (number, (title, shots, different)) in rounds.into_iter().enumerate() {
            writeln!(io::stdout(), "\nround {}: {title}", number + 1)?;
            let counts = self.round(proxy, &shots)?;
            as_promised &= counts.backend == different && counts.failed == 0;
        }
        Ok(as_promised)
    }

    fn round(&self, proxy: SocketAddr, shots: &[Shot]) -> io::Result<Counts> {
        let expected = shots.len();
        *self.board.counts.lock() = Counts { expected, ..Counts::default() };
        let client =
            Backend::new(&format!("http://{proxy}"), PATIENCE).map_err(io::Error::other)?;
        let counts = thread::scope(|scope| {
            for shot in shots {
                let client = &client;
                scope.spawn(move || {
                    let ok = shoot(client, shot);
                    self.board.update(|counts| {
                        counts.answered += 1;
                        counts.failed += usize::from(!ok);
                    });
                });
            }
            self.board.show()
        })?;
        // Nobody holds the backend up after its round, so that curl finds it slow and nothing else.
        self.board.counts.lock().expected = 0;
        Ok(counts)
    }
}

/// One client: a request, the whole response.
fn shoot(client: &Backend, (path, order): &Shot) -> bool {
    let request = Request::builder().uri(path).header(HOST, client.host());
    let request = match order {
        None => request.body(Vec::new()),
        Some((key, body)) => request
            .method(Method::POST)
            .header(KEY, format!("\"{key}\""))
            .body(body.clone().into_bytes()),
    };
    let response = request.ok().and_then(|request| client.ask(&request, &|_| ()).ok());
    response.is_some_and(|mut response| {
        response.status() == StatusCode::OK
            && io::copy(response.body_mut(), &mut io::sink()).is_ok()
    })
}

impl Board {
    fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
        self.changed.notify_all();
    }

    /// The backend's work.
    fn work(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        self.update(|counts| counts.backend += 1);
        thread::sleep(WORK);
        let mut counts = self.counts.lock();
        self.changed.wait_while_for(&mut counts, |now| now.arrived < now.expected, PATIENCE);
        drop(counts);
        text(
            StatusCode::OK,
            format!("the backend's answer to {} {}", request.method(), request.uri()),
        )
    }

    /// Shows the counts until the round is over: in place on a terminal; elsewhere one line when
    /// everybody has arrived, and one when everybody is answered.
    fn show(&self) -> io::Result<Counts> {
        let mut out = io::stdout();
        let live = out.is_terminal();
        let mut told_arrival = false;
        let mut counts = self.counts.lock();
        loop {
            let now = *counts;
            let over = now.answered == now.expected;
            let arrival = !told_arrival && now.arrived >= now.expected;
            drop(counts);
            if live {
                write!(out, "\r\x1b[2K{now}")?;
                out.flush()?;
            } else if arrival || over {
                writeln!(out, "{now}")?;
            }
            told_arrival |= arrival;
            if over {
                if live {
                    writeln!(out)?;
                }
                return Ok(now);
            }
            counts = self.counts.lock();
            // Only if nothing has happened since: what happened unlocked has notified already.
            self.changed.wait_while(&mut counts, |counts| counts.same_as(&now));
        }
    }
}

impl Counts {
    fn same_as(&self, other: &Self) -> bool {
        (self.arrived, self.backend, self.answered)
            == (other.arrived, other.backend, other.answered)
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { expected, arrived, waiting, backend, answered, failed } = self;
        // Short enough to be rewritten in place on a terminal of 80 columns.
        write!(f, "  {arrived} arrived, {waiting} waited; ")?;
        write!(f, "{backend} of {expected} reached the backend; {answered} answered")?;
        if *failed > 0 {
            write!(f, ", {failed} failed")?;
        }
        Ok(())
    }
}

/// What to type while it goes on serving.
pub fn invite(proxy: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "\nTry it (Ctrl-C ends it):")?;
    writeln!(out, "  for i in 1 2 3 4 5; do curl -si http://{proxy}/x & done | grep onceflight")?;
    writeln!(
        out,
        "  curl -si http://{proxy}/orders -d 'one cup' -H 'Idempotency-Key: \"order-3\"'   # twice"
    )?;
    out.flush()
}
