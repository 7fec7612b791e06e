//! What is peculiar to Postgres: its schema, what operators may set, and what it is told of.

use std::time::{Duration, Instant};
use std::{env, thread};

use onceflight::ErrorKind;
use onceflight::store::{Claim, Claimed, Heard, PostgresStore, RecordKey, Settled, Store};
use postgres::{Client as Sql, NoTls};

use crate::harness::*;

/// A schema of a test's own, dropped with what is in it.
pub struct Schema {
    pub name: String,
}

impl Schema {
    pub fn new() -> Self {
        // With a name that must be quoted.
        let schema = Self { name: format!("Once '{}", unique()) };
        connect("").batch_execute(&format!("CREATE SCHEMA {}", schema.quoted())).expect("a schema");
        schema
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.name)
    }

    /// What stands behind the server's URL; `more`: further options of the session.
    fn options(&self, more: &str) -> String {
        let path = self.quoted().replace('"', "%22").replace(' ', "%5C%20").replace('\'', "%27");
        let name = self.name.replace(' ', "%20").replace('\'', "%27");
        format!("?application_name={name}&options=-csearch_path%3D{path}{more}")
    }

    pub fn connect(&self) -> Sql {
        connect(&self.options(""))
    }

    pub fn run(&self, text: &str) {
        self.connect().batch_execute(text).expect("no error");
    }

    pub fn open(&self) -> PostgresStore {
        self.try_open("").expect("a store")
    }

    fn try_open(&self, more: &str) -> Result<PostgresStore, onceflight::Error> {
        PostgresStore::open(&format!("{}{}", url(), self.options(more)))
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let _ = connect("").batch_execute(&format!("DROP SCHEMA {} CASCADE", self.quoted()));
    }
}

fn url() -> String {
    env::var("ONCEFLIGHT_TEST_POSTGRES").expect("run this under `scripts/servers.sh run`")
}

fn connect(options: &str) -> Sql {
    Sql::connect(&format!("{}{options}", url()), NoTls).expect("a connection")
}

fn key() -> RecordKey {
    RecordKey::new("scope", "key").expect("a short scope")
}

#[test]
fn many_may_open_a_new_schema_at_once() {
    let schema = Schema::new();
    let stores = at_once(8, |_| schema.open());
    let leads = stores.iter().filter(|store| {
        let claimed = store.claim(&key(), &claim(), soon()).expect("a claim");
        matches!(claimed, onceflight::store::Claimed::Lead(_))
    });
    assert_eq!(leads.count(), 1);
}

#[test]
fn a_newer_schema_is_refused() {
    let schema = Schema::new();
    drop(schema.open());
    schema.run("UPDATE onceflight_schema SET version = version + 1");
    let error = schema.try_open("").expect_err("it is newer");
    assert!(error.to_string().contains("newer"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Store);
    schema.run("DELETE FROM onceflight_schema");
    let error = schema.try_open("").expect_err("it has no version");
    assert!(error.to_string().contains("no version"), "{error}");
}

/// And whoever has them open goes on meanwhile: by the function that version 1 had.
#[test]
fn tables_of_version_1_are_brought_up_to_date() {
    let schema = Schema::new();
    schema.run(include_str!("postgres_version_1.sql"));
    let mut old = schema.connect();
    let mut claim_as_of_old = |key: &RecordKey| -> (String, Option<i64>) {
        let text = "SELECT verdict, epoch FROM onceflight_claim(
            $1, $2, $3, NULL, $4, interval '1 hour', NULL, true, false, NULL)";
        let (id, token) = (key.id().0, [7_u8; 16]);
        let row =
            old.query_one(text, &[&id.as_slice(), &key.scope(), &key.key(), &token.as_slice()]);
        let row = row.expect("a row");
        (row.get(0), row.get(1))
    };
    let (verdict, first) = claim_as_of_old(&key());
    assert_eq!(verdict, "granted");
    let stores = at_once(8, |_| schema.open());
    let version = "SELECT version FROM onceflight_schema";
    assert_eq!(schema.connect().query_one(version, &[]).expect("a row").get::<_, i32>(0), 2);
    let claim = || Claim { fingerprint: None, ..claim() };
    for store in &stores {
        in_progress(store.claim(&key(), &claim(), soon()).expect("a claim"));
    }
    let other = RecordKey::new("scope", "other").expect("a short scope");
    let second = led(&claim(), stores[0].claim(&other, &claim(), soon()).expect("a claim"));
    assert_eq!(claim_as_of_old(&other).0, "in progress");
    assert!(stores[1].evict(&other, soon()).expect("an answer"));
    let (verdict, third) = claim_as_of_old(&other);
    assert_eq!(verdict, "granted");
    let second = i64::try_from(second.held.epoch).ok();
    assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
}

#[test]
fn a_role_that_may_not_create_can_use_what_is_there() {
    let schema = Schema::new();
    let role = format!("\"{}\"", unique());
    let quoted = schema.quoted();
    schema.run(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA {quoted} TO {role}"));
    let as_role = format!("%20-crole%3D{}", role.replace('"', ""));
    let error = schema.try_open(&as_role).expect_err("it may not create");
    assert!(error.to_string().contains("CREATE on the schema"), "{error}");
    drop(schema.open());
    schema.run(&format!(
        "GRANT SELECT ON onceflight_schema TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON onceflight_records TO {role};
         GRANT USAGE ON onceflight_epochs TO {role}"
    ));
    let store = schema.try_open(&as_role).expect("a store");
    let claim = claim();
    led(&claim, store.claim(&key(), &claim, soon()).expect("a claim"));
    schema.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn without_a_schema_it_says_so() {
    let path = format!("{}?options=-csearch_path%3Dnowhere", url());
    let error = PostgresStore::open(&path).expect_err("nowhere to be");
    assert!(error.to_string().contains("search_path"), "{error}");
}

#[test]
fn a_read_only_server_replays_and_leads_nobody() {
    let schema = Schema::new();
    let store = schema.open();
    let first = claim();
    let held = led(&first, store.claim(&key(), &first, soon()).expect("a claim")).held;
    let response = onceflight::store::Response::new(200, b"done");
    let _ = store.complete(&key(), held, &response, LONG, soon()).expect("an answer");
    let standby = schema.try_open("%20-cdefault_transaction_read_only%3Don").expect("a store");
    let replayed = standby.claim(&key(), &claim(), soon()).expect("a claim");
    assert_eq!(completed(replayed).data(), b"done");
    let vacant = RecordKey::new("scope", "vacant").expect("a short scope");
    let error = standby.claim(&vacant, &claim(), soon()).expect_err("it can't be written");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[test]
fn what_a_role_prefers_changes_nothing() {
    let schema = Schema::new();
    let strict = "%20-cdefault_transaction_isolation%3Dserializable";
    let store = schema.try_open(strict).expect("a store");
    let leads = at_once(8, |_| {
        let claimed = store.claim(&key(), &claim(), soon()).expect("a claim");
        matches!(claimed, onceflight::store::Claimed::Lead(_))
    });
    assert_eq!(leads.iter().filter(|leads| **leads).count(), 1);
}

#[test]
fn neither_do_the_checks_that_a_role_adds_to_functions() {
    let schema = Schema::new();
    let checked = "%20-cplpgsql.extra_errors%3Dall";
    let store = schema.try_open(checked).expect("a store"); // its tables are made under them too
    let lead = |claim: &Claim<'_>| led(claim, store.claim(&key(), claim, soon()).expect("a claim"));
    let first = lead(&claim());
    let settled = store.checkpoint(&key(), first.held, b"half", soon()).expect("an answer");
    assert_eq!(settled, Settled::Done);
    let settled = store.release(&key(), first.held, SUCCEED, soon()).expect("an answer");
    assert_eq!(settled, Settled::Done);
    let second = lead(&claim());
    assert_eq!(second.grant.attempt, 2);
    assert_eq!(second.grant.checkpoint.as_deref(), Some(&b"half"[..]));
    let response = onceflight::store::Response::new(200, b"done");
    let _ = store.complete(&key(), second.held, &response, SHORT, soon()).expect("an answer");
    let third = loop {
        match store.claim(&key(), &claim(), soon()).expect("a claim") {
            Claimed::Completed(_) => thread::yield_now(), // its time isn't up
            other => break led(&claim(), other),
        }
    };
    assert_eq!((third.grant.attempt, third.grant.checkpoint), (1, None));
}

#[test]
fn dropped_tables_are_an_error_that_says_so() {
    let schema = Schema::new();
    let store = schema.open();
    schema.run("DROP TABLE onceflight_records");
    let error = store.claim(&key(), &claim(), soon()).expect_err("no table");
    assert!(error.to_string().contains("open the store again"), "{error}");
}

#[test]
fn epochs_outlive_truncation() {
    let schema = Schema::new();
    let store = schema.open();
    let first = claim();
    let before = led(&first, store.claim(&key(), &first, soon()).expect("a claim")).held.epoch;
    schema.run("TRUNCATE onceflight_records RESTART IDENTITY");
    let second = claim();
    let after = led(&second, store.claim(&key(), &second, soon()).expect("a claim")).held.epoch;
    assert!(after > before, "{before} {after}");
}

#[test]
fn a_record_that_makes_no_sense_is_an_error() {
    let id = key().id().to_string();
    for damage in
        ["state = 9", "state = 2", "attempt = -1", "epoch = -1", "scope = 'other'", "key = 'other'"]
    {
        let schema = Schema::new();
        let store = schema.open();
        let first = claim();
        led(&first, store.claim(&key(), &first, soon()).expect("a claim"));
        schema.run(&format!("UPDATE onceflight_records SET {damage}"));
        // Sent again: what its lead was granted is read from the record.
        let error = store.claim(&key(), &first, soon()).expect_err(damage);
        assert_eq!(error.kind(), ErrorKind::Store, "{damage}: {error}");
        assert!(error.to_string().contains(&id), "{damage}: {error}");
        failed(store.read(&key(), soon()));
        schema.run("ALTER TABLE onceflight_records ALTER token DROP NOT NULL");
        schema.run("UPDATE onceflight_records SET token = NULL");
        failed(store.renew(&key(), led_by(&first), Some(LONG), soon()));
    }
}

/// What a lead would show that was granted nothing.
fn led_by(claim: &Claim<'_>) -> onceflight::store::Held {
    onceflight::store::Held { token: claim.token, epoch: 0 }
}

#[test]
fn only_what_somebody_waits_for_is_told() {
    let schema = Schema::new();
    let other = Schema::new();
    let (store, elsewhere) = (schema.open(), other.open());
    let mut news = store.listen(soon()).expect("news");
    let settle = |store: &PostgresStore, watched: bool, name: &str| {
        let key = RecordKey::new("scope", name).expect("a short scope");
        let first = claim();
        let held = led(&first, store.claim(&key, &first, soon()).expect("a claim")).held;
        if watched {
            let watching = Claim { watch: true, ..claim() };
            in_progress(store.claim(&key, &watching, soon()).expect("a claim"));
        }
        let response = onceflight::store::Response::new(200, b"done");
        let _ = store.complete(&key, held, &response, LONG, soon()).expect("an answer");
        key.id()
    };
    settle(&store, false, "nobody waits");
    settle(&elsewhere, true, "another schema's");
    let watched = settle(&store, true, "somebody waits");
    let mut heard = Vec::new();
    while heard.is_empty() {
        news.wait(soon(), &mut |it| heard.push(it)).expect("news");
    }
    assert_eq!(heard, [Heard::Record(watched)]);
}

#[test]
fn a_killed_session_is_replaced() {
    let schema = Schema::new();
    let store = schema.open().with_max_connections(4);
    at_once(4, |_| store.read(&key(), soon()).expect("an answer"));
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = $1 AND pid <> pg_backend_pid()";
    schema.connect().execute(kill, &[&schema.name]).expect("their end");
    for number in 0..8 {
        let key = RecordKey::new("scope", number.to_string()).expect("a short scope");
        let claim = claim();
        led(&claim, store.claim(&key, &claim, soon()).expect("a claim"));
    }
}

#[test]
fn a_claim_that_was_given_up_ends_on_the_server_too() {
    let schema = Schema::new();
    let store = schema.open();
    let mut sql = schema.connect();
    let mut tx = sql.transaction().expect("a transaction");
    let first = claim();
    led(&first, store.claim_in(&mut tx, &key(), &first).expect("a claim"));
    store.read(&key(), soon()).expect("an answer"); // so that there is a connection
    let mut watcher = schema.connect();
    let mut waiting = || {
        let held_up =
            "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
        !watcher.query(held_up, &[&schema.name]).expect("rows").is_empty()
    };
    let deadline = Instant::now() + Duration::from_secs(1);
    thread::scope(|scope| {
        let second = scope.spawn(|| store.claim(&key(), &claim(), deadline));
        eventually("a claim that waits", || waiting().then_some(()));
        failed(second.join().expect("no panic"));
    });
    eventually("its end", || (!waiting()).then_some(()));
    tx.rollback().expect("a rollback");
    assert!(store.read(&key(), soon()).expect("an answer").is_none(), "it claimed for nobody");
}

#[test]
fn no_text_tells_the_password() {
    for (url, kind) in [
        ("postgres://user:s3cret@127.0.0.1:1/db", ErrorKind::Store),
        ("postgres://user:s3cret@127.0.0.1/db?sslmode=require", ErrorKind::Unsupported),
        ("postgres://user:s3cret@127.0.0.1/db?sslmode=verify-full", ErrorKind::Invalid),
        ("postgres://user:s3cret@127.0.0.1:port/db", ErrorKind::Invalid),
        ("postgres://user:s3cret@/db", ErrorKind::Invalid),
    ] {
        let error = PostgresStore::open(url).expect_err(url);
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
    assert!(!format!("{:?}", Schema::new().open()).contains("onceflight_"));
}

#[test]
fn many_threads_share_few_connections() {
    let schema = Schema::new();
    let store = schema.open().with_max_connections(2);
    let leads = at_once(16, |number| {
        let key = RecordKey::new("scope", (number % 4).to_string()).expect("a short scope");
        let claimed = store.claim(&key, &claim(), soon()).expect("a claim");
        thread::yield_now();
        matches!(claimed, onceflight::store::Claimed::Lead(_))
    });
    assert_eq!(leads.iter().filter(|leads| **leads).count(), 4);
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()";
    let sessions: i64 = schema.connect().query_one(count, &[&schema.name]).expect("a row").get(0);
    assert!(sessions <= 2, "{sessions}");
}
