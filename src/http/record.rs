//! How a response is kept: its status is the record's, and its headers and body are the data.
//!
//! | bytes | what |
//! |-|-|
//! | 1 | the format: 1; 0 if the response was too large to keep, and nothing follows |
//! | 2 | how many headers there are |
//! | 2, n, 4, n | each: the name's length, the name, the value's length, the value |
//! | the rest | the body |
//!
//! Lengths are little-endian. Headers stand in their order, repeated ones too, and values are any bytes.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::problem::Problem;
use crate::response::Response as Kept;

const FORMAT: u8 = 1;
const WITHOUT_BODY: u8 = 0;

pub(super) fn encode(response: &Response<Vec<u8>>, strip: impl Fn(&HeaderName) -> bool) -> Kept {
    let mut data = vec![FORMAT, 0, 0];
    let mut count: u16 = 0;
    for (name, value) in response.headers().iter().filter(|(name, _)| !strip(name)) {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let lengths = (u16::try_from(name.len()), u32::try_from(value.len()));
        // `http` has shorter ones only.
        let (Ok(name_len), Ok(value_len)) = lengths else { continue };
        count += 1;
        data.extend_from_slice(&name_len.to_le_bytes());
        data.extend_from_slice(name);
        data.extend_from_slice(&value_len.to_le_bytes());
        data.extend_from_slice(value);
    }
    data[1..3].copy_from_slice(&count.to_le_bytes());
    data.extend_from_slice(response.body());
    Kept::new(response.status().as_u16().into(), &data)
}

/// What is kept of a response that was too large.
pub(super) fn without_body(status: StatusCode) -> Kept {
    Kept::new(status.as_u16().into(), &[WITHOUT_BODY])
}

pub(super) fn decode(kept: &Kept) -> Result<Response<Vec<u8>>, Problem> {
    let status = u16::try_from(kept.status()).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Problem::RecordCorrupt)?;
    match kept.data() {
        [WITHOUT_BODY] => Err(Problem::ResponseNotKept(status)),
        [FORMAT, rest @ ..] => parse(status, rest).ok_or(Problem::RecordCorrupt),
        _ => Err(Problem::RecordCorrupt),
    }
}

fn parse(status: StatusCode, mut rest: &[u8]) -> Option<Response<Vec<u8>>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    let count = u16::from_le_bytes(take_array(&mut rest)?);
    for _ in 0..count {
        let name_len = u16::from_le_bytes(take_array(&mut rest)?);
        let name = HeaderName::from_bytes(take(&mut rest, name_len.into())?).ok()?;
        let value_len = u32::from_le_bytes(take_array(&mut rest)?);
        let value = HeaderValue::from_bytes(take(&mut rest, value_len as usize)?).ok()?;
        response.headers_mut().try_append(name, value).ok()?;
    }
    *response.body_mut() = rest.to_vec();
    Some(response)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}
