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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprint;

    fn strict(value: &[u8]) -> Option<String> {
        parse(value, false).ok()
    }

    fn lenient(value: &[u8]) -> Option<String> {
        parse(value, true).ok()
    }

    #[test]
    fn a_string_of_rfc_8941() {
        for (value, key) in [
            (r#""""#, ""),
            (r#"" ""#, " "),
            (r#""a,b;c=d""#, "a,b;c=d"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#""\\\"""#, r#"\""#),
        ] {
            assert_eq!(strict(value.as_bytes()).as_deref(), Some(key), "{value}");
            assert_eq!(lenient(value.as_bytes()).as_deref(), Some(key), "{value}");
        }
        for value in
            [r#"""#, r#""a"#, r#""a\""#, r#""\a""#, r#""a"b"#, r#""a" "#, r#""a";p"#, r#""a","b""#]
        {
            assert_eq!(strict(value.as_bytes()), None, "{value}");
            assert_eq!(lenient(value.as_bytes()), None, "{value}");
        }
        for value in ["a", "'a'", ":YQ==:", "?1", "1", "(\"a\")"] {
            assert_eq!(strict(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_bare_token_where_that_is_allowed() {
        for value in ["a", "4f2c81", "a/b:c=d", "?1", "'a'"] {
            assert_eq!(lenient(value.as_bytes()).as_deref(), Some(value));
        }
        for value in ["a b", "a,b", "a\"", "a\\b", "a\tb", "\u{e4}"] {
            assert_eq!(lenient(value.as_bytes()), None, "{value}");
        }
    }

    /// What is taken is printable, and is what was meant: quoted anew, it is the same key. No byte
    /// sequence is anything else than a key or a refusal.
    #[test]
    fn whatever_is_sent() {
        const PIECES: [&[u8]; 12] =
            [b"\"", b"\"", b"\"", b"\\", b"\\\"", b"a", b" ", b",", b"\t", b"\x7f", b"\xff", b"0"];
        let mut taken = 0;
        for number in 0..20_000_u32 {
            let drawn = Fingerprint::of([number.to_le_bytes()]);
            let (len, choices) = drawn.as_bytes().split_at(1);
            let chosen = &choices[..usize::from(len[0] % 10)];
            let value: Vec<u8> =
                chosen.iter().flat_map(|&byte| PIECES[usize::from(byte) % 12]).copied().collect();
            let (strict, lenient) = (strict(&value), lenient(&value));
            assert!(strict.is_none() || strict == lenient, "{value:?}");
            let Some(key) = lenient else { continue };
            taken += 1;
            assert!(key.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{value:?}");
            let quoted = format!("\"{}\"", key.replace('\\', r"\\").replace('"', "\\\""));
            assert_eq!(super::parse(quoted.as_bytes(), false).as_ref(), Ok(&key), "{value:?}");
        }
        assert!(taken > 100, "{taken}");
    }
}
