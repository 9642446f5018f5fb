//! Makes a run repeat from its seed: hash tables would be keyed anew by every process, and how far they probe is
//! coverage, which decides the inputs that are kept.
#![expect(unsafe_code, reason = "it stands in for a function of C")]

/// What the standard library asks for the keys of hash tables; defined here, it comes before that of the C library.
///
/// # Safety
///
/// `buffer` is as in getrandom(2): writable for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { buffer.write_bytes(0x5A, length) };
    length as isize
}
