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

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> Response<Vec<u8>> {
        Response::builder()
            .status(207)
            .header("set-cookie", "a=1")
            .header("x-empty", "")
            .header("set-cookie", "b=2")
            .header("x-bytes", HeaderValue::from_bytes(b"\xff\xfe\t~").unwrap())
            .body(vec![0, 255, b'\r', b'\n'])
            .unwrap()
    }

    fn same(left: &Response<Vec<u8>>, right: &Response<Vec<u8>>) -> bool {
        left.status() == right.status()
            && left.headers().iter().eq(right.headers())
            && left.body() == right.body()
    }

    #[test]
    fn comes_back_as_it_was() {
        for response in [response(), Response::new(Vec::new())] {
            let kept = encode(&response, |_| false);
            assert!(same(&decode(&kept).unwrap(), &response));
        }
    }

    #[test]
    fn without_what_is_stripped() {
        let kept = encode(&response(), |name| name == "set-cookie");
        let decoded = decode(&kept).unwrap();
        assert!(!decoded.headers().contains_key("set-cookie"));
        assert_eq!((decoded.headers().len(), decoded.body().len()), (2, 4));
    }

    #[test]
    fn too_large_is_told_with_its_status() {
        let status = StatusCode::ACCEPTED;
        let problem = decode(&without_body(status)).unwrap_err();
        assert_eq!(problem, Problem::ResponseNotKept(status));
    }

    /// Cut off within its headers it is corrupt; one changed byte gives another response or none.
    #[test]
    fn corrupt_ones_are_told() {
        let kept = encode(&response(), |_| false);
        let (status, data) = (kept.status(), kept.data());
        for len in 0..data.len() - response().body().len() {
            let problem = decode(&Kept::new(status, &data[..len])).unwrap_err();
            assert_eq!(problem, Problem::RecordCorrupt, "{len}");
        }
        let mut changed = data.to_vec();
        for at in 0..data.len() {
            for byte in 0..=u8::MAX {
                changed[at] = byte;
                let decoded = decode(&Kept::new(status, &changed));
                let as_it_was = decoded.is_ok_and(|decoded| same(&decoded, &response()));
                // The names of headers have no case.
                assert!(!as_it_was || byte.eq_ignore_ascii_case(&data[at]), "byte {at} = {byte}");
            }
            changed[at] = data[at];
        }
        for status in [-1, 0, 99, 1000, i32::MAX] {
            assert_eq!(decode(&Kept::new(status, data)).unwrap_err(), Problem::RecordCorrupt);
        }
    }
}
