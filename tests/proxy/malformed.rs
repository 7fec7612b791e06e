//! Requests that no client would send, thousands of them: whatever comes, the proxy answers or closes,
//! with no status but those it says it has, and goes on.

use std::thread;

use hyper::StatusCode;

use crate::harness::{Backend, Proxy, get};
use crate::random::Random;
use crate::raw::Client;
use crate::server::text;

/// What a run begins with; a failure names its own.
const SEEDS: std::ops::Range<u64> = 0..4;
const REQUESTS: u64 = 400;

/// Pieces of requests, right ones and wrong ones.
const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "G\0T", "get", ""];
const TARGETS: &[&str] =
    &["/", "/a?b=c", "*", "x:80", "http://x/", "//", "/%zz", "/\u{e9}", "/a b", ""];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.", "http/1.1", ""];
const HEADERS: &[&str] = &[
    "host: x",
    "host: y",
    "Host:x",
    "content-length: 5",
    "content-length: 0",
    "content-length: 4",
    "content-length: 18446744073709551615",
    "content-length: 5,5",
    "content-length: -1",
    "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding:\tchunked ",
    "connection: close",
    "connection: keep-alive, host, content-length",
    "expect: 100-continue",
    "expect: 200-ok",
    "idempotency-key: \"1\"",
    "idempotency-key: 1",
    "idempotency-key: \"",
    "idempotency-key: \"1\";a",
    "upgrade: h2c",
    "te: trailers",
    "range: bytes=0-1",
    "x: \u{e9}\u{ff}",
    " folded",
    ": nameless",
    "x y: z",
    "x:\0",
    "x",
    "",
];
const ENDS: &[&str] = &["\r\n", "\n", "\r", "\r\r\n", ""];
const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    "4\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello",
    "-1\r\n\r\n",
    "\r\n",
    "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "\0\0\0\0\0",
];

/// What the proxy says by itself, and what the backend says.
const STATED: [u16; 8] = [200, 100, 400, 408, 409, 413, 422, 431];

/// Put together at random: a seed is all there is to say of a run.
struct Requests(Random);

impl Requests {
    fn any<'p>(&mut self, pieces: &[&'p str]) -> &'p str {
        pieces[self.0.index(pieces.len())]
    }

    /// The first of them, as a rule.
    fn mostly<'p>(&mut self, pieces: &[&'p str]) -> &'p str {
        if self.0.one_in(4) { self.any(pieces) } else { pieces[0] }
    }

    /// From the pieces; one of four has some of its bytes changed, cut out or doubled.
    fn next(&mut self) -> Vec<u8> {
        let (method, target) = (self.any(METHODS), self.mostly(TARGETS));
        let (version, end) = (self.mostly(VERSIONS), self.mostly(ENDS));
        let mut request = format!("{method} {target} {version}{end}").into_bytes();
        request.extend_from_slice(self.mostly(&["host: x\r\n", ""]).as_bytes());
        for _ in 0..self.0.below(4) {
            request.extend_from_slice(self.any(HEADERS).as_bytes());
            request.extend_from_slice(self.mostly(ENDS).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(self.any(BODIES).as_bytes());
        if self.0.one_in(4) {
            for _ in 0..=self.0.below(4) {
                self.spoil(&mut request);
            }
        }
        request
    }

    fn spoil(&mut self, request: &mut Vec<u8>) {
        let at = self.0.index(request.len());
        match self.0.below(3) {
            0 => request[at] = self.0.next().to_le_bytes()[0],
            1 => request.truncate(at.max(1)),
            _ => {
                let doubled = request[at..].to_vec();
                request.extend_from_slice(&doubled);
            }
        }
    }
}

#[test]
fn nothing_that_is_sent_makes_it_panic_hang_or_fail() {
    let backend = Backend::start(|_, _| text(StatusCode::OK, ""));
    let mut proxy = Proxy::before(&backend, &["--max-body", "1000"]);
    let address = &proxy.address;
    let counts = thread::scope(|scope| {
        let runs: Vec<_> = SEEDS.map(|seed| scope.spawn(move || run(address, seed))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    // Both kinds were among them.
    for (answered, refused) in counts {
        assert!(answered > 10 && refused > 100, "{answered} answered, {refused} refused");
    }
    assert_eq!(get(&proxy.url("/")).status, 200);
    proxy.signal("TERM");
    // Every connection has ended, or it would wait for it; and no line on stderr tells of a panic.
    let (status, said) = proxy.end();
    assert_eq!(status.code(), Some(0));
    assert!(!said.iter().any(|line| line.contains("panicked")), "{said:?}");
}

/// How many requests the backend answered, and how many were refused.
fn run(proxy: &str, seed: u64) -> (usize, usize) {
    let (mut answered, mut refused) = (0, 0);
    let mut requests = Requests(Random(seed));
    for number in 0..REQUESTS {
        let request = requests.next();
        // A hang is an end that doesn't come before the limit.
        let said = Client::at(proxy).say(&request).finish();
        let statuses =
            said.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        for status in statuses {
            let what = request.escape_ascii();
            assert!(STATED.contains(&status), "seed {seed}, request {number}: {status} to {what}");
            answered += usize::from(status == 200);
            refused += usize::from(status >= 400);
        }
    }
    (answered, refused)
}
