//! Requests, answers, and stores that are gone afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs, process};

use http::{Request, Response};
use onceflight::http::Execution;
use onceflight::store::{MemoryStore, Store};

/// A payment with that key.
pub fn request(key: &str, body: &'static str) -> Request<&'static str> {
    Request::post("/pay").header("idempotency-key", format!("\"{key}\"")).body(body).unwrap()
}

pub fn answer(status: u16) -> Response<Vec<u8>> {
    Response::builder().status(status).body(b"x".to_vec()).unwrap()
}

/// What a handler finds.
pub fn execution<B>(request: &Request<B>) -> Execution {
    request.extensions().get::<Execution>().expect("an execution").clone()
}

/// The name of a problem.
pub fn problem(response: &Response<Vec<u8>>) -> String {
    let told: serde_json::Value = serde_json::from_slice(response.body()).expect("a problem");
    let name = told["type"].as_str().and_then(|kind| kind.strip_prefix("urn:onceflight:problem:"));
    name.expect("a problem's type").into()
}

/// A directory of its own, removed in the end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("onceflight-http-{name}-{}", process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Has a test run over a store in memory, and over one in a file.
pub fn over_stores(name: &str, test: impl Fn(&Arc<dyn Store>)) {
    test(&(Arc::new(MemoryStore::new()) as Arc<dyn Store>));
    if cfg!(feature = "sqlite") {
        let dir = Dir::new(name);
        let url = format!("sqlite:{}", dir.0.join("records.db").display());
        test(&onceflight::store::open(&url).expect("a store"));
    }
}
