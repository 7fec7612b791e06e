//! The hooks in a transaction of a server's: what commits is there with its sessions, what doesn't isn't.
//! The server comes from `scripts/servers.sh run`.

use std::{env, process};

use onceflight::session::{Save, SessionRequest};
use onceflight::{Error, SessionTable};
use postgres::{Client, NoTls, Transaction};

use crate::support::{A, Calls, add, table};

/// A schema of this test's own, which goes with it.
struct Server {
    client: Client,
    schema: String,
}

impl Server {
    fn new() -> Self {
        let url = env::var("ONCEFLIGHT_TEST_POSTGRES")
            .expect("no ONCEFLIGHT_TEST_POSTGRES: run this under `scripts/servers.sh run`");
        let mut client = Client::connect(&url, NoTls).expect("a server");
        let schema = format!("sessions_{}", process::id());
        let set_up = format!(
            "CREATE SCHEMA {schema}; SET search_path = {schema};
             CREATE TABLE sessions (client BYTEA PRIMARY KEY, row BYTEA NOT NULL);
             CREATE TABLE session_table (one BOOL PRIMARY KEY DEFAULT true, row BYTEA NOT NULL);
             CREATE TABLE sums (number BIGINT)"
        );
        client.batch_execute(&set_up).expect("a schema");
        Self { client, schema }
    }

    fn load(&mut self) -> SessionTable {
        let table: Vec<u8> =
            self.client.query_one("SELECT row FROM session_table", &[]).expect("a row").get(0);
        let rows = self.client.query("SELECT row FROM sessions", &[]).expect("rows");
        SessionTable::load(&table, rows.iter().map(|row| row.get::<_, &[u8]>(0))).expect("as saved")
    }

    fn sum(&mut self) -> i64 {
        self.client.query_one("SELECT count(*) FROM sums", &[]).expect("a row").get(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}

struct Rows<'t, 'c>(&'t mut Transaction<'c>);

/// Either's.
#[derive(Debug)]
struct Failed(#[allow(dead_code)] String); // shown by a test that fails

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<postgres::Error> for Failed {
    fn from(error: postgres::Error) -> Self {
        Self(error.to_string())
    }
}

impl Save for Rows<'_, '_> {
    type Error = Failed;

    fn put_table(&mut self, row: &[u8]) -> Result<(), Failed> {
        let put = "INSERT INTO session_table (row) VALUES ($1)
            ON CONFLICT (one) DO UPDATE SET row = excluded.row";
        self.0.execute(put, &[&row])?;
        Ok(())
    }

    fn put_session(&mut self, client: &[u8], row: &[u8]) -> Result<(), Failed> {
        let put = "INSERT INTO sessions VALUES ($1, $2)
            ON CONFLICT (client) DO UPDATE SET row = excluded.row";
        self.0.execute(put, &[&client, &row])?;
        Ok(())
    }

    fn delete_session(&mut self, client: &[u8]) -> Result<(), Failed> {
        self.0.execute("DELETE FROM sessions WHERE client = $1", &[&client])?;
        Ok(())
    }
}

/// Applies a request, and what it changes, in a transaction that is committed or not.
fn apply(
    server: &mut Server,
    table: &mut SessionTable,
    seq: u64,
    commit: bool,
) -> Result<bool, Failed> {
    let mut transaction = server.client.transaction()?;
    let applied = table.apply(&SessionRequest::implicit(A, seq), seq, || {
        transaction.execute("INSERT INTO sums VALUES (1)", &[]).expect("a row");
        (0, seq.to_string())
    })?;
    table.save(&mut Rows(&mut transaction))?;
    if commit {
        transaction.commit()?;
    }
    Ok(applied.replayed)
}

#[test]
fn what_commits_is_there_with_its_sessions_and_what_does_not_is_not() {
    let (mut server, mut table) = (Server::new(), table());
    assert!(!apply(&mut server, &mut table, 1, true).unwrap());
    table.life(b"gone");
    assert!(!apply(&mut server, &mut table, 2, true).unwrap());
    table.unregister("gone").unwrap();
    assert!(!apply(&mut server, &mut table, 3, true).unwrap());
    assert_eq!(table.bytes(), server.load().bytes());
    let committed = table.bytes();

    // It never commits: the table is ahead, and is loaded anew.
    assert!(!apply(&mut server, &mut table, 4, false).unwrap());
    assert!(add(&mut table, &SessionRequest::implicit(A, 4), 4, &mut 0).unwrap().replayed);
    assert_eq!((3, committed), (server.sum(), server.load().bytes()));
    let mut table = server.load();
    assert!(!apply(&mut server, &mut table, 4, true).unwrap());

    // Another process, after a crash.
    let mut table = server.load();
    for seq in [2, 3, 4] {
        assert!(apply(&mut server, &mut table, seq, true).unwrap());
    }
    assert!(!apply(&mut server, &mut table, 5, true).unwrap());
    assert_eq!((5, table.bytes()), (server.sum(), server.load().bytes()));
}
