//! What all commands share: how they end, and how times and secrets are written.

use std::error::Error;
use std::time::Duration;

use onceflight::Fingerprint;

/// Why a command didn't do its work.
pub enum Failed {
    /// It was asked for this text.
    Help(&'static str),
    /// The command line can't be understood: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Run(Box<dyn Error>),
}

impl From<lexopt::Error> for Failed {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<onceflight::Error> for Failed {
    fn from(error: onceflight::Error) -> Self {
        use onceflight::ErrorKind::{Invalid, Unsupported};
        match error.kind() {
            Invalid | Unsupported => Self::Usage(error.to_string()),
            _ => Self::Run(error.into()),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Run(error.into())
    }
}

/// A time with its unit: `500ms`, `30s`, `10m`, `24h`, `7d`.
pub fn time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err("a time is a number and its unit: 500ms, 30s, 10m, 24h, 7d".into()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    ms.map(Duration::from_millis).ok_or_else(|| "no such time".into())
}

/// What callers and payloads are hashed with in a store: all that look into one need the same.
pub fn secret() -> Result<[u8; 16], Failed> {
    const NAME: &str = "ONCEFLIGHT_SECRET";
    let Some(text) = std::env::var_os(NAME) else { return Ok(Fingerprint::PUBLIC_KEY) };
    let digits =
        text.to_str().filter(|it| it.len() == 32 && it.bytes().all(|d| d.is_ascii_hexdigit()));
    match digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
        Some(secret) => Ok(secret.to_be_bytes()),
        None => Err(Failed::Usage(format!("{NAME} isn't 32 hexadecimal digits"))),
    }
}
