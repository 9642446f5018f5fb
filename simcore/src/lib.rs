//! Exact cosine search over groups of unit vectors: Antiphon's similarity core.
//!
//! [`guard`] says what two texts differ in and [`decision`] what that means for an answer.
//!
//! [`index`] holds the rows and answers searches, [`sketch`] says which rows need not be scored, [`kernel`] computes
//! scores and sums. All are plain Rust and are
//! tested without Python; the feature `extension-module` adds the bindings that Python imports as
//! `simcore._native`.

#[cfg(feature = "extension-module")]
mod bindings;
pub mod decision;
pub mod guard;
pub mod index;
pub mod kernel;
pub mod sketch;

/// Of what Python loads, and of the tests. Other programs that link this crate choose for themselves.
#[cfg(all(any(test, feature = "extension-module"), target_os = "linux"))]
#[global_allocator]
static MEMORY: kernel::memory::Memory = kernel::memory::Memory::new();
