//! Bytes from C, request keys and fingerprints.

use std::ffi::{CStr, c_char};

use super::code::{Failure, ONCEFLIGHT_OK, entry};
use crate::fingerprint::{Fingerprint, RequestKey};

/// Some bytes of the caller's.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct onceflight_slice {
    /// May be NULL if len is 0.
    pub data: *const u8,
    /// In bytes.
    pub len: usize,
}

/// The caller's bytes; NULL is empty if the length is 0.
///
/// # Safety
/// `data` points to `len` bytes that nobody writes while the slice lives.
pub(super) unsafe fn bytes<'a>(
    data: *const u8,
    len: usize,
    what: &'static str,
) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::null(what));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::invalid(format!("the length of {what} is more than memory holds")));
    }
    // SAFETY: not NULL, no longer than an allocation can be, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// A NUL-terminated text of the caller's.
///
/// # Safety
/// `text` is NULL or ends with a NUL, and nobody writes it while the slice lives.
pub(super) unsafe fn text<'a>(
    text: *const c_char,
    what: &'static str,
) -> Result<&'a CStr, Failure> {
    if text.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// # Safety
/// `slices` points to `count` slices, each as `bytes` wants it.
pub(super) unsafe fn slices<'a>(
    slices: *const onceflight_slice,
    count: usize,
    what: &'static str,
) -> Result<Vec<&'a [u8]>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if slices.is_null() {
        return Err(Failure::null(what));
    }
    if count > isize::MAX as usize / size_of::<onceflight_slice>() {
        return Err(Failure::invalid(format!("more {what} than memory holds")));
    }
    // SAFETY: not NULL, no longer than an allocation can be, and the caller's promise.
    let slices = unsafe { std::slice::from_raw_parts(slices, count) };
    // SAFETY: the caller's promise.
    slices.iter().map(|slice| unsafe { bytes(slice.data, slice.len, what) }).collect()
}

/// # Safety
/// `secret` is NULL or points to 16 bytes.
unsafe fn read_secret(secret: *const u8) -> Option<[u8; 16]> {
    // SAFETY: the caller's promise; bytes have no alignment.
    unsafe { secret.cast::<[u8; 16]>().as_ref() }.copied()
}

/// # Safety
/// `out` is NULL or the caller's 16 bytes.
unsafe fn clear(out: *mut u8, what: &'static str) -> Result<(), Failure> {
    if out.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not NULL, and the caller's promise.
    unsafe { out.write_bytes(0, 16) };
    Ok(())
}

/// The key of a request: 16 bytes from its method, URL, the headers that matter and its body. Each
/// header is one slice that holds a whole line, "Name: value"; names are compared without case, and
/// the order of different names doesn't matter. secret: 16 bytes, or NULL for one drawn at random
/// for this process, which is right for keys that live in memory; a key kept in a store wants a
/// secret of its own. key: 16 bytes, zeroed if the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_request_key(
    method: *const c_char,
    url: *const c_char,
    headers: *const onceflight_slice,
    header_count: usize,
    body: *const u8,
    body_len: usize,
    secret: *const u8,
    key: *mut u8,
) -> i32 {
    entry(|| {
        // SAFETY: this function's contract, stated in the header, is what each helper asks for.
        let (method, url, headers, body, chosen) = unsafe {
            clear(key, "key")?;
            (
                text(method, "method")?,
                text(url, "url")?,
                slices(headers, header_count, "headers")?,
                bytes(body, body_len, "body")?,
                read_secret(secret),
            )
        };
        let mut request = RequestKey::new(method.to_bytes(), url.to_bytes());
        for line in headers {
            if request.header_line(line).is_none() {
                return Err(Failure::invalid("a header is one line, \"Name: value\""));
            }
        }
        request.body(body);
        let made = match chosen {
            Some(secret) => request.finish_with(&secret),
            None => request.finish(),
        };
        // SAFETY: `clear` found 16 writable bytes there.
        unsafe { key.cast::<[u8; 16]>().write_unaligned(*made.as_bytes()) };
        Ok(ONCEFLIGHT_OK)
    })
}

/// The fingerprint of a payload: 16 bytes from its fields, each with its length, so that moving a
/// boundary changes it. secret: 16 bytes, or NULL for the fixed, documented one, which is the same
/// in every process. fingerprint: 16 bytes, zeroed if the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_fingerprint(
    fields: *const onceflight_slice,
    count: usize,
    secret: *const u8,
    fingerprint: *mut u8,
) -> i32 {
    entry(|| {
        // SAFETY: this function's contract, stated in the header, is what each helper asks for.
        let (fields, chosen) = unsafe {
            clear(fingerprint, "fingerprint")?;
            (slices(fields, count, "fields")?, read_secret(secret))
        };
        let made = match chosen {
            Some(secret) => Fingerprint::keyed(&secret, fields),
            None => Fingerprint::of(fields),
        };
        // SAFETY: `clear` found 16 writable bytes there.
        unsafe { fingerprint.cast::<[u8; 16]>().write_unaligned(*made.as_bytes()) };
        Ok(ONCEFLIGHT_OK)
    })
}
