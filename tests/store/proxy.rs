//! A server that can be frozen or cut off while the others' goes on: what stands in between.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Passes connections on to one server.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    thawed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// No question passes.
    frozen: bool,
    /// No answer passes.
    mute: bool,
    /// How many times something went to the server.
    asked: u64,
    /// Refuses what is new, too.
    closed: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    fn before(server: String) -> Self {
        let listener = listen();
        let address = listener.local_addr().expect("its address");
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            // Ends with the process, or with the proxy: `drop` calls once more.
            for client in listener.incoming().flatten() {
                if shared.inner.lock().expect("the state").closed {
                    return;
                }
                let Ok(server) = TcpStream::connect(&*server) else { continue };
                shared.carry(&client, &server, Way::There);
                shared.carry(&server, &client, Way::Back);
            }
        });
        Self { address, state }
    }

    /// Proxies before all servers of a URL, and the URL that leads through them.
    pub fn before_all(url: &str) -> (Vec<Self>, String) {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (servers, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, servers) =
            servers.rsplit_once('@').map_or((None, servers), |(u, s)| (Some(u), s));
        let proxies: Vec<_> =
            servers.split(',').map(|server| Self::before(server.into())).collect();
        let through: Vec<_> = proxies.iter().map(|proxy| proxy.address.to_string()).collect();
        let user = user.map_or(String::new(), |user| format!("{user}@"));
        let url = format!("{scheme}://{user}{}{path}", through.join(","));
        (proxies, url)
    }

    /// Nothing passes in either direction; connections stay open, and new ones are taken.
    pub fn freeze(&self) {
        let mut inner = self.state.inner.lock().expect("the state");
        (inner.frozen, inner.mute) = (true, true);
    }

    /// The server gets what it is sent, and nobody gets its answers.
    pub fn mute(&self) {
        self.state.inner.lock().expect("the state").mute = true;
    }

    /// What was held up passes.
    pub fn thaw(&self) {
        let mut inner = self.state.inner.lock().expect("the state");
        (inner.frozen, inner.mute) = (false, false);
        self.state.thawed.notify_all();
    }

    /// How many times something was sent to the server.
    pub fn asked(&self) -> u64 {
        self.state.inner.lock().expect("the state").asked
    }

    /// Ends all connections. New ones are taken.
    pub fn cut(&self) {
        for stream in self.state.inner.lock().expect("the state").streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends all connections, and refuses new ones.
    pub fn close(&self) {
        self.state.inner.lock().expect("the state").closed = true;
        self.cut();
        self.thaw();
        // The listener ends once it has taken one more. Then nobody listens.
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
    }
}

/// Listens on a free port below those that the kernel gives to clients: who calls a server that is gone
/// could else be given that server's own port, and reach itself.
pub fn listen() -> TcpListener {
    let port = 23_000 + RandomState::new().hash_one(0) % 6_000;
    let address = (Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a small number"));
    TcpListener::bind(address).unwrap_or_else(|_| listen())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

impl State {
    /// Carries what comes from one side to the other, in a thread that ends with the connection.
    fn carry(self: &Arc<Self>, from: &TcpStream, to: &TcpStream, way: Way) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a file descriptor");
        let (mut from, mut to) = (clone(from), clone(to));
        let _ = to.set_nodelay(true);
        self.inner.lock().expect("the state").streams.push(clone(&from));
        let state = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(len @ 1..) = from.read(&mut buffer) {
                let inner = state.inner.lock().expect("the state");
                let held_up = |inner: &mut Inner| match way {
                    Way::There => inner.frozen,
                    Way::Back => inner.mute,
                };
                drop(state.thawed.wait_while(inner, held_up));
                if to.write_all(&buffer[..len]).is_err() {
                    break;
                }
                if matches!(way, Way::There) {
                    state.inner.lock().expect("the state").asked += 1;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
