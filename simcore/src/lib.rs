//! Exact cosine search over groups of unit vectors: Antiphon's similarity core.
//!
//! [`index`] holds the rows and answers searches, [`kernel`] computes scores. Both are plain Rust and are
//! tested without Python; the feature `extension-module` adds the bindings that Python imports as
//! `simcore._native`.

#[cfg(feature = "extension-module")]
mod bindings;
pub mod index;
pub mod kernel;
