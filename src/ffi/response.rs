//! A response: a status and bytes, shared by all who hold it.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::table::internal::{Head, Response};

/// What a leader completed with: a status and bytes, which never change. Holders share one copy;
/// each frees its own hold. Outlives the table and the queue it came from. Thread-safe.
pub struct onceflight_response(#[allow(dead_code)] Head); // never looked at as such

/// A hold on a response, for C.
pub(super) fn into_handle(response: Response) -> *mut onceflight_response {
    response.into_handle().cast()
}

/// The hold behind a handle, which stays the caller's.
///
/// # Safety
/// NULL, or a hold that the caller hasn't freed and doesn't free while the result is used.
unsafe fn borrow(handle: *const onceflight_response) -> Option<ManuallyDrop<Response>> {
    let head = NonNull::new(handle.cast_mut().cast::<Head>())?;
    // SAFETY: every handle comes from `into_handle`; this copy of the hold isn't dropped.
    Some(ManuallyDrop::new(unsafe { Response::from_handle(head) }))
}

/// The status that the leader gave. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_status(response: *const onceflight_response) -> i32 {
    // SAFETY: the same contract.
    unsafe { borrow(response) }.map_or(0, |response| response.status())
}

/// The bytes. Never NULL; valid until this hold is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_data(
    response: *const onceflight_response,
) -> *const u8 {
    // SAFETY: the same contract.
    unsafe { borrow(response) }.map_or([0u8; 0].as_ptr(), |response| response.data().as_ptr())
}

/// How many bytes. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_len(response: *const onceflight_response) -> usize {
    // SAFETY: the same contract.
    unsafe { borrow(response) }.map_or(0, |response| response.data().len())
}

/// Another hold on the same response, to be freed too. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_retain(
    response: *const onceflight_response,
) -> *mut onceflight_response {
    // SAFETY: the same contract.
    let held = unsafe { borrow(response) };
    held.map_or(std::ptr::null_mut(), |response| into_handle(Response::clone(&response)))
}

/// Frees this hold. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onceflight_response_free(response: *mut onceflight_response) {
    // SAFETY: the same contract, and the caller gives this hold up. Bytes have no destructor of
    // their own, so nothing can unwind.
    if let Some(held) = unsafe { borrow(response) } {
        drop(ManuallyDrop::into_inner(held));
    }
}
