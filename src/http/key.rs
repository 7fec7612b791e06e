//! The `Idempotency-Key` header: a String of RFC 8941, or, if that is allowed, a bare token.

use http::HeaderMap;

use super::policy::Rules;
use super::problem::Problem;

pub(super) const HEADER: &str = "idempotency-key";
/// In characters, unquoted.
const LONGEST: usize = 255;

/// The key of a request, unquoted. One that can't be used is a problem, never ignored.
pub(super) fn of(headers: &HeaderMap, rules: &Rules) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::KeyInvalid("there is more than one Idempotency-Key"));
    }
    let key = parse(value.as_bytes().trim_ascii(), rules.lenient).map_err(Problem::KeyInvalid)?;
    match key.len() {
        0 => Err(Problem::KeyInvalid("the key is empty")),
        1..=LONGEST => Ok(Some(key)),
        _ => Err(Problem::KeyInvalid("the key has more than 255 characters")),
    }
}

fn parse(value: &[u8], lenient: bool) -> Result<String, &'static str> {
    match value {
        [b'"', quoted @ ..] => unquote(quoted),
        token if lenient => bare(token),
        _ => Err("the key isn't quoted: Idempotency-Key: \"...\""),
    }
}

/// RFC 8941, section 4.2.5, from behind the first quote on. Parameters aren't taken: none is defined.
fn unquote(quoted: &[u8]) -> Result<String, &'static str> {
    let mut key = String::new();
    let mut bytes = quoted.iter();
    loop {
        match bytes.next() {
            None => return Err("the key's closing quote is missing"),
            Some(b'"') => break,
            Some(b'\\') => match bytes.next() {
                Some(&escaped @ (b'"' | b'\\')) => key.push(char::from(escaped)),
                _ => return Err("in a key, only \\\" and \\\\ are escapes"),
            },
            Some(&byte @ b' '..=b'~') => key.push(char::from(byte)),
            Some(_) => return Err("the key has characters other than printable ASCII"),
        }
    }
    match bytes.as_slice() {
        [] => Ok(key),
        [b',', ..] => Err("there is more than one Idempotency-Key"),
        _ => Err("there is something behind the key's closing quote"),
    }
}

fn bare(token: &[u8]) -> Result<String, &'static str> {
    let mut key = String::new();
    for &byte in token {
        match byte {
            b',' => return Err("there is more than one Idempotency-Key"),
            b'"' | b'\\' => return Err("a key with quotes or backslashes has to be quoted"),
            b'!'..=b'~' => key.push(char::from(byte)),
            _ => return Err("a key without quotes has printable ASCII only, and no spaces"),
        }
    }
    Ok(key)
}
