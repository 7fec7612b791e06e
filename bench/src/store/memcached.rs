//! The floor of memcached: a value that is added, and replaced if it is still the one that was added. On a
//! socket, by the meta commands: the client crate can't tell what number an added value has, and would
//! have to ask.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::{Client, Clients, FINGERPRINT, RESPONSE, TTL_SECONDS};
use crate::keys::Short;

struct Floor {
    stream: BufReader<TcpStream>,
}

pub fn floor(url: &str, clients: usize) -> Clients {
    let address = url.trim_start_matches("memcached://");
    let connected = |_| -> Box<dyn Client> {
        let stream = TcpStream::connect(address).expect("memcached");
        stream.set_nodelay(true).expect("a socket");
        Box::new(Floor { stream: BufReader::new(stream) })
    };
    (0..clients).map(connected).collect()
}

impl Client for Floor {
    fn flight(&mut self, key: &Short) {
        // Key, fingerprint and token; then the response in the token's place.
        let claimed = self.set(key, "ME c", &[&key[..], &FINGERPRINT, &[1; 16]].concat());
        let cas = claimed.strip_prefix("HD c").expect("a new key").to_owned();
        let completed =
            self.set(key, &format!("C{cas}"), &[&key[..], &FINGERPRINT, &RESPONSE].concat());
        assert_eq!(completed, "HD");
    }

    fn replay(&mut self, key: &Short) {
        self.say(format!("mg {} v\r\n", name(key)).as_bytes());
        let head = self.line();
        let len: usize =
            head.strip_prefix("VA ").and_then(|len| len.parse().ok()).expect("a value");
        let mut value = vec![0; len + 2];
        self.stream.read_exact(&mut value).expect("a value");
        assert_eq!(black_box(value)[32], RESPONSE[0]);
    }
}

impl Floor {
    fn set(&mut self, key: &Short, flags: &str, value: &[u8]) -> String {
        let head = format!("ms {} {} T{TTL_SECONDS} {flags}\r\n", name(key), value.len());
        self.say(&[head.as_bytes(), value, b"\r\n"].concat());
        self.line()
    }

    fn say(&mut self, command: &[u8]) {
        self.stream.get_mut().write_all(command).expect("memcached");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("memcached");
        line.trim_end().to_owned()
    }
}

fn name(key: &Short) -> String {
    format!("floor:{:032x}", u128::from_be_bytes(*key))
}
