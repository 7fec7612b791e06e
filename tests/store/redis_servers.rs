//! Redis servers of a test's own: to stop, freeze and set up as no other test could bear.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use crate::harness::{eventually, unique};

/// Ends with the test.
pub struct Server {
    child: Child,
    pub port: u16,
    directory: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// One that is set up as Redis is, and keeps nothing on disk.
    pub fn start(options: &[&str]) -> Self {
        let directory = env::temp_dir().join(format!("onceflight-redis-{}", unique()));
        fs::create_dir(&directory).expect("a temporary directory");
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        // Somebody else may be quicker to take the port.
        eventually("a free port", || {
            let port = free_port();
            let child = launch(port, &directory, &options);
            let mut server =
                Self { child, port, directory: directory.clone(), options: options.clone() };
            server.answers().then_some(server)
        })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn store(&self) -> crate::harness::Client {
        let store = onceflight::store::open(&self.url()).expect("a store");
        crate::harness::Client(store)
    }

    /// An operator's connection.
    pub fn operator(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    pub fn ask<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().expect("a command"));
        command.arg(words.collect::<Vec<_>>());
        command.query(&mut self.operator()).expect("an answer")
    }

    /// It keeps its connections, and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, &self.directory, &self.options);
        assert!(self.answers());
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits until it does, or has ended.
    fn answers(&mut self) -> bool {
        let process = format!("process_id:{}\r", self.child.id());
        eventually("an answer", || {
            let ended = self.child.try_wait().expect("a child").is_some();
            (ended || says(self.port, &process, &["info", "server"])).then_some(!ended)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn launch(port: u16, directory: &PathBuf, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(directory)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server")
}

/// Below the ports that the kernel gives to clients: a stopped server's own might be taken. A member
/// of a cluster also needs the one that is 10000 higher.
fn free_port() -> u16 {
    let port = 20_000 + u16::try_from(RandomState::new().hash_one(0) % 2_000).expect("small");
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    if is_free(port) && is_free(port + 10_000) { port } else { free_port() }
}

/// Whether the answer to a command has that text.
pub fn says(port: u16, text: &str, command: &[&str]) -> bool {
    let patience = Duration::from_secs(2);
    let answer = || -> redis::RedisResult<String> {
        let client = redis::Client::open(("127.0.0.1", port))?;
        let mut connection = client.get_connection_with_timeout(patience)?;
        connection.set_read_timeout(Some(patience))?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    };
    answer().is_ok_and(|answer| answer.contains(text))
}

/// Members of one cluster, the slots divided among the first `primaries` of them.
pub fn cluster(primaries: usize, replicas: usize) -> (Vec<Server>, String) {
    let options =
        "--cluster-enabled yes --cluster-node-timeout 1000 --cluster-require-full-coverage no";
    let options: Vec<_> = options.split(' ').collect();
    let members: Vec<_> = (0..primaries + replicas).map(|_| Server::start(&options)).collect();
    let addresses: Vec<_> =
        members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes");
    create.args(["--cluster-replicas", &(replicas / primaries).to_string()]);
    let created = create.output().expect("redis-cli");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    for member in &members {
        eventually("a cluster", || {
            says(member.port, "cluster_state:ok", &["cluster", "info"]).then_some(())
        });
    }
    let url = format!("redis-cluster://{}", addresses.join(","));
    (members, url)
}
