//! `inspect`, `evict`, `purge`: looking into a store, whoever writes it.

mod chosen;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use onceflight::store::{Record, RecordState};

use crate::command::Failed;
use crate::wire::head;
use chosen::{Chosen, replay, soon};

/// Shows a record, or the records of a scope.
pub fn inspect(arguments: lexopt::Parser) -> Result<ExitCode, Failed> {
    let chosen = Chosen::parse(arguments)?;
    let mut out = io::stdout().lock();
    let Some(key) = chosen.record()? else { return list(&chosen, &mut out) };
    let Some(record) = chosen.store.read(&key, soon())? else { return Ok(none()) };
    match &record.response {
        Some(kept) if chosen.response => {
            let response = replay(&chosen.store, kept)?;
            let status = format!("HTTP/1.1 {}", response.status());
            out.write_all(&head(&status, response.headers()))?;
            out.write_all(response.body())?;
        }
        _ => write!(out, "{}", Told(&record))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(chosen: &Chosen, out: &mut impl Write) -> Result<ExitCode, Failed> {
    let max = chosen.max.unwrap_or(100);
    let records = chosen.store.list(chosen.scope()?, None, max, soon())?;
    for record in &records {
        writeln!(out, "{}\t{}", record.key.key().escape_ascii(), state(record))?;
    }
    Ok(if records.is_empty() { none() } else { ExitCode::SUCCESS })
}

/// Drops a record.
pub fn evict(arguments: lexopt::Parser) -> Result<ExitCode, Failed> {
    let chosen = Chosen::parse(arguments)?;
    let Some(key) = chosen.record()? else {
        return Err(Failed::Usage("--key is missing".into()));
    };
    if !chosen.store.evict(&key, soon())? {
        return Ok(none());
    }
    writeln!(io::stdout(), "evicted")?;
    Ok(ExitCode::SUCCESS)
}

/// Drops what has expired, in batches, so that nobody waits for long.
pub fn purge(arguments: lexopt::Parser) -> Result<ExitCode, Failed> {
    const BATCH: usize = 1000;
    let chosen = Chosen::parse(arguments)?;
    let max = chosen.max.unwrap_or(usize::MAX);
    let mut dropped = 0;
    while dropped < max {
        let batch = BATCH.min(max - dropped);
        let count = chosen.store.purge(batch, soon())?;
        dropped += count;
        if count < batch {
            break;
        }
    }
    writeln!(io::stdout(), "{dropped} dropped")?;
    Ok(ExitCode::SUCCESS)
}

fn none() -> ExitCode {
    eprintln!("there is no such record");
    ExitCode::FAILURE
}

/// A record as an operator reads it, a line each property.
struct Told<'r>(&'r Record);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let record = self.0;
        writeln!(f, "key          {}", record.key.key().escape_ascii())?;
        writeln!(f, "state        {}", state(record))?;
        writeln!(f, "attempt      {}", record.attempt)?;
        writeln!(f, "fence        {}", record.epoch)?;
        if let Some(left) = record.expires_in {
            writeln!(f, "expires in   {}", seconds(left))?;
        }
        if let Some(bytes) = &record.fingerprint {
            f.write_str("fingerprint  ")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str("\n")?;
        }
        if let Some(bytes) = &record.checkpoint {
            writeln!(f, "checkpoint   {} bytes", bytes.len())?;
        }
        if let Some(response) = &record.response {
            writeln!(f, "response     {}, {} bytes", response.status(), response.data().len())?;
        }
        Ok(())
    }
}

fn state(record: &Record) -> String {
    match (record.state, record.lease_left) {
        (RecordState::InProgress, Some(Duration::ZERO)) => "lost: it may have been executed".into(),
        (RecordState::InProgress, Some(left)) => {
            format!("in progress, safe for {} if nobody renews it", seconds(left))
        }
        (RecordState::InProgress, None) => "in progress".into(),
        (RecordState::Completed, _) => "completed".into(),
        (RecordState::Released, _) => "cancelled, with something left for the next attempt".into(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
