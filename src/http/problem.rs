//! Refusals, as problem details (RFC 9457).

use std::fmt::Write;

use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::policy::Rules;
use super::status;
use crate::error::{Error, ErrorKind};

/// Why a request was refused.
///
/// | problem | status | its type's last part |
/// |-|-|-|
/// | `KeyMissing` | 400 | `key-missing` |
/// | `KeyInvalid` | 400 | `key-invalid` |
/// | `KeyReused` | 422 | `key-reused` |
/// | `InProgress` | 409, `Retry-After` | `in-progress` |
/// | `OutcomeUnknown` | 409 | `outcome-unknown` |
/// | `ResponseNotKept` | 409 | `response-not-kept` |
/// | `RequestTooLarge` | 413 | `request-too-large` |
/// | `Unavailable` | 503, `Retry-After` | `unavailable` |
/// | `Overloaded` | 503, `Retry-After` | `overloaded` |
/// | `CommitFailed` | 503, `Retry-After` | `commit-failed` |
/// | `RecordCorrupt` | 500 | `record-corrupt` |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// There must be a key.
    KeyMissing,
    /// There is one that can't be used, and why.
    KeyInvalid(&'static str),
    /// The key was used with another payload.
    KeyReused,
    /// The first request with the key is still in progress.
    InProgress,
    /// An earlier request with the key may have been executed.
    OutcomeUnknown,
    /// It was executed, and the response was too large to keep.
    ResponseNotKept(StatusCode),
    /// The body is longer than is fingerprinted.
    RequestTooLarge {
        /// Its length, in bytes.
        len: usize,
        /// The longest.
        most: usize,
    },
    /// The store can't be asked. Nothing was executed.
    Unavailable,
    /// Too many requests are in progress. Nothing was executed.
    Overloaded,
    /// The commit of its transaction failed, or the answer to it was lost.
    CommitFailed,
    /// What was kept can't be read.
    RecordCorrupt,
}

impl Problem {
    /// What a client is told of an error of the table. The error's own words are for the operator.
    pub fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Mismatch => Self::KeyReused,
            ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::WouldDeadlock => {
                Self::InProgress
            }
            ErrorKind::Unknown => Self::OutcomeUnknown,
            ErrorKind::Overloaded => Self::Overloaded,
            ErrorKind::TooLarge => Self::KeyInvalid("the key is longer than this server keeps"),
            _ => Self::Unavailable,
        }
    }

    /// Of the response that tells it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid(_) => status(400),
            Self::InProgress | Self::OutcomeUnknown | Self::ResponseNotKept(_) => status(409),
            Self::RequestTooLarge { .. } => status(413),
            Self::KeyReused => status(422),
            Self::RecordCorrupt => status(500),
            Self::Unavailable | Self::Overloaded | Self::CommitFailed => status(503),
        }
    }

    /// The last part of its type: stable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyInvalid(_) => "key-invalid",
            Self::KeyReused => "key-reused",
            Self::InProgress => "in-progress",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::ResponseNotKept(_) => "response-not-kept",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::CommitFailed => "commit-failed",
            Self::RecordCorrupt => "record-corrupt",
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::KeyMissing => "An Idempotency-Key is required",
            Self::KeyInvalid(_) => "The Idempotency-Key can't be used",
            Self::KeyReused => "The Idempotency-Key was used with another payload",
            Self::InProgress => "A request with this Idempotency-Key is in progress",
            Self::OutcomeUnknown => "Whether the request was executed is unknown",
            Self::ResponseNotKept(_) => "The request was executed; its response wasn't kept",
            Self::RequestTooLarge { .. } => "The request is too large",
            Self::Unavailable => "Idempotency-Keys can't be looked up",
            Self::Overloaded => "Too many requests are in progress",
            Self::CommitFailed => "Whether the request was executed isn't known yet",
            Self::RecordCorrupt => "What was kept of the request can't be read",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::KeyMissing => {
                "Send a key that is unique to this operation, such as a UUID: Idempotency-Key: \"...\"."
                    .into()
            }
            Self::KeyInvalid(why) => format!("{why}. Nothing was executed."),
            Self::KeyReused => "Send a new key for a new payload. Nothing was executed.".into(),
            Self::InProgress => "Send it again later, with the same key.".into(),
            Self::OutcomeUnknown => {
                "An earlier attempt was lost. Find out what it did before you send another key.".into()
            }
            Self::ResponseNotKept(status) => {
                format!("It was answered {}; the response was too large to keep.", status.as_u16())
            }
            Self::RequestTooLarge { len, most } => {
                format!("The body has {len} bytes; {most} are allowed with a key. Nothing was executed.")
            }
            Self::Unavailable | Self::Overloaded => {
                "Nothing was executed. Send it again later, with the same key.".into()
            }
            Self::CommitFailed => {
                "Its transaction didn't say that it had committed. Send it again, with the same key; had it none, \
                 find out first what it did."
                    .into()
            }
            Self::RecordCorrupt => "It won't be executed again. The operator has to look.".into(),
        }
    }

    fn is_passing(&self) -> bool {
        matches!(self, Self::InProgress | Self::Unavailable | Self::Overloaded | Self::CommitFailed)
    }

    pub(super) fn render(&self, rules: &Rules) -> Response<Vec<u8>> {
        let (kind, code) = (format!("{}{}", rules.problems, self.name()), self.status());
        let body = format!(
            r#"{{"type":{},"title":{},"status":{},"detail":{}}}"#,
            json(&kind),
            json(self.title()),
            code.as_u16(),
            json(&self.detail())
        );
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.is_passing() {
            // Rounded up: not to be tried earlier.
            let after = rules.retry_after;
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        let link = rules.docs.as_ref().map(|docs| format!("<{docs}>; rel=\"help\""));
        if let Some(Ok(link)) = link.map(HeaderValue::try_from) {
            headers.insert(LINK, link);
        }
        response
    }
}

/// A text as JSON has it.
fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of [`Problem`], row by row; names are stable.
    #[test]
    fn what_a_client_is_told() {
        let rules = Rules { docs: Some("https://example.org/keys".into()), ..Rules::default() };
        let not_kept = Problem::ResponseNotKept(status(202));
        let too_large = Problem::RequestTooLarge { len: 2, most: 1 };
        for (problem, code, name, passes) in [
            (Problem::KeyMissing, 400, "key-missing", false),
            (Problem::KeyInvalid("a \"reason\""), 400, "key-invalid", false),
            (Problem::KeyReused, 422, "key-reused", false),
            (Problem::InProgress, 409, "in-progress", true),
            (Problem::OutcomeUnknown, 409, "outcome-unknown", false),
            (not_kept, 409, "response-not-kept", false),
            (too_large, 413, "request-too-large", false),
            (Problem::Unavailable, 503, "unavailable", true),
            (Problem::Overloaded, 503, "overloaded", true),
            (Problem::CommitFailed, 503, "commit-failed", true),
            (Problem::RecordCorrupt, 500, "record-corrupt", false),
        ] {
            let told = problem.render(&rules);
            assert_eq!(told.status(), code);
            assert_eq!(told.headers()[CONTENT_TYPE], "application/problem+json");
            assert_eq!(told.headers().contains_key(RETRY_AFTER), passes, "{name}");
            assert_eq!(told.headers()[LINK], "<https://example.org/keys>; rel=\"help\"");
            let body: serde_json::Value = serde_json::from_slice(told.body()).unwrap();
            assert_eq!(body["type"], format!("urn:onceflight:problem:{name}"));
            assert_eq!(body["status"], code);
            assert_eq!(body["title"], problem.title());
            assert_eq!(body["detail"], problem.detail());
        }
    }

    #[test]
    fn json_escapes() {
        let text = "a\"b\\c\n\u{1}\u{7f}\u{e4}\u{2028}";
        assert_eq!(serde_json::from_str::<String>(&json(text)).unwrap(), text);
    }

    #[test]
    fn what_cant_be_a_header_is_left_out() {
        let rules = Rules { docs: Some("a\nb".into()), ..Rules::default() };
        assert!(!Problem::KeyMissing.render(&rules).headers().contains_key(LINK));
    }
}
