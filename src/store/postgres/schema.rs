//! The tables, and which version of them there is.
//!
//! | what is found | what happens |
//! |-|-|
//! | this version | it is used; no more rights are needed than to use it |
//! | none, or an older one | it is made, or brought here, in one transaction, by whoever comes first |
//! | a newer one | an error: this program is too old for it |
//!
//! `onceflight_schema` has one row, the version. It stands in the first schema of the connection's
//! `search_path`, as do the tables; the statements name that schema, so it may be another connection's
//! second one.

use std::time::Instant;

use super::connection::Connection;
use crate::error::Error;
use crate::store::pool::Failure;

/// What brings each version to the next one, from none on.
const STEPS: &[&str] = &[include_str!("sql/schema-1.sql"), include_str!("sql/schema-2.sql")];

/// Held while tables are made: an advisory lock is the only one that there is before any table. "onceflig".
const LOCK: i64 = 0x6f6e_6365_666c_6967;

/// Where the tables are.
pub(super) struct Schema {
    /// As an identifier, quoted if it must be.
    name: String,
    /// Its sequence, as a string literal.
    epochs: String,
    oid: u32,
}

impl Schema {
    /// Finds the tables, and makes them if need be.
    pub(super) fn prepare(connection: &mut Connection, deadline: Instant) -> Result<Self, Failure> {
        const FIND: &str = "
            SELECT quote_ident(nspname), quote_literal(format('%I.onceflight_epochs', nspname)), oid
            FROM pg_namespace WHERE nspname = current_schema()";
        let rows = connection.ask(FIND, deadline)?;
        let Some(row) = rows.first() else {
            return Err(Failure::Refused(Error::store(format!(
                "{}: no schema in the search_path exists; create one, or name one in the URL's options",
                connection.server()
            ))));
        };
        let schema = Self { name: row.get(0), epochs: row.get(1), oid: row.get(2) };
        if schema.version(connection, deadline)? != STEPS.len() {
            schema.bring_here(connection, deadline)?;
        }
        Ok(schema)
    }

    /// What those listen to who wait for records in this schema. Channels are shared by the database.
    pub(super) fn channel(&self) -> String {
        format!("onceflight_{}", self.oid)
    }

    /// A text with the names in their places.
    pub(super) fn fill(&self, template: &str) -> String {
        // Only if somebody waits: NOTIFY makes commits go one by one.
        let tell = format!(
            "CASE WHEN watched THEN pg_notify('{}', encode(id, 'hex'))::text END",
            self.channel()
        );
        template
            .replace("{tell}", &tell)
            .replace("{epochs}", &self.epochs)
            .replace("{schema}", &self.name)
    }

    /// Which version there is; 0: none.
    fn version(&self, connection: &mut Connection, deadline: Instant) -> Result<usize, Failure> {
        let table = format!(
            "SELECT FROM pg_class WHERE relnamespace = {} AND relname = 'onceflight_schema'",
            self.oid
        );
        if connection.ask(&table, deadline)?.is_empty() {
            return Ok(0);
        }
        let version = self.fill("SELECT max(version) FROM {schema}.onceflight_schema");
        let version: Option<i32> = connection.ask(&version, deadline)?[0].get(0);
        let Some(version) = version.and_then(|version| usize::try_from(version).ok()) else {
            return Err(Failure::Refused(Error::store(format!(
                "{}: {}.onceflight_schema says no version; restore it, or drop the onceflight tables",
                connection.server(),
                self.name
            ))));
        };
        if version > STEPS.len() {
            return Err(Failure::Refused(Error::store(format!(
                "{}: the tables in schema {} are of a newer onceflight (version {version}, and this program knows {}); upgrade this program",
                connection.server(),
                self.name,
                STEPS.len()
            ))));
        }
        Ok(version)
    }

    /// Takes the steps that are missing. If one fails, closing the connection undoes all.
    fn bring_here(&self, connection: &mut Connection, deadline: Instant) -> Result<(), Failure> {
        connection.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"), deadline)?;
        // Another process may have been here first.
        let found = self.version(connection, deadline)?;
        if found == 0 {
            let first = "CREATE TABLE {schema}.onceflight_schema (version integer NOT NULL);
                INSERT INTO {schema}.onceflight_schema VALUES (0)";
            connection.run(&self.fill(first), deadline)?;
        }
        for step in &STEPS[found..] {
            connection.run(&self.fill(step), deadline)?;
        }
        let version =
            format!("UPDATE {{schema}}.onceflight_schema SET version = {}; COMMIT", STEPS.len());
        connection.run(&self.fill(&version), deadline)
    }
}
