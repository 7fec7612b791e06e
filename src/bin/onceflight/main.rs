//! `onceflight`: a proxy that makes identical HTTP requests run once, and what operators need beside it.
//!
//! | file | its one idea |
//! |-|-|
//! | `command.rs` | what all commands share: how they end, and how times and secrets are written |
//! | `proxy/` | the command `proxy`, from its flags to its end |
//! | `operate/` | `inspect`, `evict`, `purge`: looking into a store |
//! | `server.rs`, `connections.rs` | an HTTP server with a thread a connection |
//! | `budget.rs` | memory for bodies |
//! | `scope.rs` | whose keys they are |
//! | `wire/` | HTTP/1.1 on blocking sockets |

#![forbid(unsafe_code)]

mod budget;
mod command;
mod connections;
mod operate;
mod proxy;
mod scope;
mod server;
mod wire;

use std::io::{self, Write};
use std::process::ExitCode;

use lexopt::prelude::*;

use command::Failed;

const HELP: &str = "\
usage: onceflight COMMAND [flags]

  proxy      stands in front of an HTTP server, and lets identical requests reach it once
  inspect    shows what a store has of a key, or the keys of a scope
  evict      makes a store forget a key
  purge      drops what has expired from a store

onceflight COMMAND --help says more; onceflight --version which one this is.
See it work, without anything to set up: onceflight proxy
";

fn main() -> ExitCode {
    let mut arguments = lexopt::Parser::from_env();
    let name = match arguments.next() {
        Ok(Some(Value(command))) => command.to_string_lossy().into_owned(),
        Ok(Some(Long("help") | Short('h'))) => return print(HELP),
        Ok(Some(Long("version") | Short('V'))) => {
            return print(concat!("onceflight ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Ok(Some(other)) => return usage(&other.unexpected().to_string()),
        Ok(None) => return usage("which command?"),
        Err(error) => return usage(&error.to_string()),
    };
    let ended = match name.as_str() {
        "proxy" => proxy::run(arguments),
        "inspect" => operate::inspect(arguments),
        "evict" => operate::evict(arguments),
        "purge" => operate::purge(arguments),
        _ => return usage(&format!("there is no command {name}")),
    };
    match ended {
        Ok(code) => code,
        Err(Failed::Help(text)) => print(text),
        Err(Failed::Usage(error)) => {
            eprintln!("onceflight {name}: {error}\nonceflight {name} --help says what there is");
            ExitCode::from(2)
        }
        Err(Failed::Run(error)) => {
            eprintln!("onceflight {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &str) -> ExitCode {
    eprint!("onceflight: {error}\n\n{HELP}");
    ExitCode::from(2)
}

/// Who reads only the beginning of it isn't told of an error.
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
