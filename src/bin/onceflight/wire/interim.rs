//! Interim responses: heads with a status of 1xx, which say that another response follows.
//!
//! Others may wait for the work whose backend sends them, and must not wait for a client that reads nothing. So
//! what the client doesn't take at once is written ahead of the response, and what comes meanwhile is dropped:
//! these are hints.

use std::cell::RefCell;
use std::io;

use http::header::CONTENT_LENGTH;
use http::{Response, Version};

use super::hop::end_to_end;
use super::socket::Socket;
use super::write::{head, status_line};

/// Where interim responses go: the client of one request.
pub struct Interim<'s> {
    socket: &'s Socket,
    /// HTTP/1.0 has none.
    understood: bool,
    /// The rest of one that the client took a part of, or nothing of.
    unsent: RefCell<Vec<u8>>,
}

impl<'s> Interim<'s> {
    /// For a client that speaks this version.
    pub fn to(socket: &'s Socket, version: Version) -> Self {
        let understood = version == Version::HTTP_11;
        Self { socket, understood, unsent: RefCell::default() }
    }

    /// Passes one on. Never blocks.
    pub fn pass(&self, mut response: Response<()>) {
        let mut unsent = self.unsent.borrow_mut();
        if !self.understood || !unsent.is_empty() {
            return;
        }
        end_to_end(response.headers_mut());
        // It has no body, whatever it says; and nobody else should have to know that.
        response.headers_mut().remove(CONTENT_LENGTH);
        *unsent = head(&status_line(response.status()), response.headers());
        let taken = self.socket.write_at_once(&unsent);
        unsent.drain(..taken);
    }

    /// Writes what is left. Nothing may come between that and the response.
    pub fn finish(self) -> io::Result<()> {
        self.socket.write(&self.unsent.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn hint(link: &'static str) -> Response<()> {
        Response::builder().status(103).header("link", link).body(()).unwrap()
    }

    /// Both ends of a connection.
    fn connection() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (Socket::new(Arc::new(server), Duration::from_secs(60)).unwrap(), client)
    }

    #[test]
    fn a_client_that_reads_nothing_holds_up_nobody_and_gets_whole_heads() {
        let (socket, mut client) = connection();
        // Until neither kernel takes any more: then a write that waited would wait for ever.
        let mut before = 0;
        while let taken @ 1.. = socket.write_at_once(&vec![b'x'; 64 << 10]) {
            before += taken;
        }
        let interim = Interim::to(&socket, Version::HTTP_11);
        interim.pass(hint("</a>"));
        interim.pass(hint("</b>"));
        let reading = thread::spawn(move || {
            let mut said = Vec::new();
            client.read_to_end(&mut said).unwrap();
            said
        });
        interim.finish().unwrap();
        drop(socket);
        let said = reading.join().unwrap();
        let rest = str::from_utf8(&said[before..]).unwrap();
        assert_eq!(rest, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
}
