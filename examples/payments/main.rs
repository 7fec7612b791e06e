//! A payments API: each payment happens once, whatever becomes of clients, connections and processes.
//!
//! ```text
//! cargo run --release --example payments --features http,sqlite
//! ```
//!
//! It prints what to type to see that: a double click, a retry, a crash, a key that is used twice.
//!
//! | file | its one idea |
//! |-|-|
//! | `main.rs` | what it is told to do, and what you can try |
//! | `api.rs` | a payment and its key's record in one transaction: the use of the library |
//! | `ledger.rs` | accounts and payments in SQLite |
//! | `server.rs` | an HTTP server on blocking sockets (hyper) |

mod api;
mod ledger;
mod server;

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, process};

use lexopt::prelude::*;
use onceflight::IdempotencyTable;
use onceflight::http::Idempotency;

use api::Api;
use ledger::Ledger;

const HELP: &str = "\
usage: payments [flags]

  --listen ADDR    127.0.0.1:8000
  --db PATH        where accounts, payments and keys are kept
                   (onceflight-payments.db, among the temporary files)
  --pause-ms N     how long a payment takes between its bookings and their commit,
                   so that there is time to click twice, or to kill the server (3000)";

struct Options {
    listen: String,
    db: PathBuf,
    pause: Duration,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("payments: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = run(&options) {
        eprintln!("payments: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let ledger = Ledger::open(&options.db)?;
    // The same file: what is in one transaction has to be in one database.
    let table = IdempotencyTable::open(&format!("sqlite:{}", options.db.display()))?;
    let api = Api { idempotency: Idempotency::new(table), ledger, pause: options.pause };
    let listener = TcpListener::bind(&options.listen)
        .map_err(|error| format!("{}: {error}", options.listen))?;
    introduce(&listener.local_addr()?.to_string(), options)?;
    Ok(server::serve(&listener, move |request| api.answer(request))?)
}

fn introduce(address: &str, options: &Options) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let seconds = options.pause.as_secs_f32();
    writeln!(
        out,
        r#"listening on {address}

Each payment takes {seconds} s. Accounts, payments and keys are in {db}, and stay there:
remove it to start anew. In another terminal:

    pay() {{ curl -i http://{address}/payments -H "Idempotency-Key: \"$1\"" -d "$2"; echo; }}
    order='{{"from":"ada","to":"bob","cents":100}}'

A payment; and sent again, the same response, marked Idempotent-Replayed:

    pay order-1 "$order"
    pay order-1 "$order"

A double click is one payment:

    pay order-2 "$order" & pay order-2 "$order"; wait

A server that is killed between the bookings and their commit has booked nothing. Start it again, and
the retry pays:

    pay order-3 "$order" & sleep 1; kill -9 {pid}; wait
    pay order-3 "$order"

A key that was used for another payment is refused, 422; and without a key nothing is paid, 400:

    pay order-1 '{{"from":"ada","to":"bob","cents":999}}'
    curl -i http://{address}/payments -d "$order"

What was booked: one payment a key, and no cent more or less than at first:

    curl http://{address}/payments
    curl http://{address}/accounts
"#,
        db = options.db.display(),
        pid = process::id(),
    )?;
    out.flush()
}

fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        listen: "127.0.0.1:8000".into(),
        db: env::temp_dir().join("onceflight-payments.db"),
        pause: Duration::from_secs(3),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => options.listen = arguments.value()?.string()?,
            Long("db") => options.db = arguments.value()?.into(),
            Long("pause-ms") => {
                options.pause = Duration::from_millis(arguments.value()?.parse()?);
            }
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}
