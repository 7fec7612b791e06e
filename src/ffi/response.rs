//! A response: a status and bytes, shared by all who hold it.

use std::sync::Arc;

/// What a leader completed with: a status and bytes, which never change. Holders share one copy;
/// each frees its own hold. Outlives the table and the queue it came from. Thread-safe.
pub struct onceflight_response {
    pub(super) status: i32,
    pub(super) data: Box<[u8]>,
}

/// A hold on a response, for C.
pub(super) fn into_handle(response: Arc<onceflight_response>) -> *mut onceflight_response {
    Arc::into_raw(response).cast_mut()
}

/// The status that the leader gave. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_status(response: *const onceflight_response) -> i32 {
    // SAFETY: NULL, or a hold that the caller hasn't freed.
    unsafe { response.as_ref() }.map_or(0, |response| response.status)
}

/// The bytes. Never NULL; valid until this hold is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_data(
    response: *const onceflight_response,
) -> *const u8 {
    // SAFETY: NULL, or a hold that the caller hasn't freed.
    unsafe { response.as_ref() }.map_or([0u8; 0].as_slice(), |response| &response.data).as_ptr()
}

/// How many bytes. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_len(response: *const onceflight_response) -> usize {
    // SAFETY: NULL, or a hold that the caller hasn't freed.
    unsafe { response.as_ref() }.map_or(0, |response| response.data.len())
}

/// Another hold on the same response, to be freed too. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_retain(
    response: *const onceflight_response,
) -> *mut onceflight_response {
    if !response.is_null() {
        // SAFETY: every handle comes from `into_handle`, and this one hasn't been freed.
        unsafe { Arc::increment_strong_count(response) };
    }
    response.cast_mut()
}

/// Frees this hold. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_free(response: *mut onceflight_response) {
    if !response.is_null() {
        // SAFETY: every handle comes from `into_handle`, and the caller gives this one up. Bytes
        // have no destructor of their own, so nothing can unwind.
        unsafe { Arc::decrement_strong_count(response) };
    }
}
