//! Loading arbitrary files: refused, or an index that answers as the file says; never a panic, never much memory.
#![no_main]

use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use simcore::index::{Error, Index};
use simcore_fuzz::image::{Image, LEAST_RECORD, damage, mend, seal};
use simcore_fuzz::load;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that any load may take: its buffer, and a record and a rotation of the largest dim.
const FIXED: usize = 8 << 20;
/// Bytes that a row may take beside its vector: a group of its own, at the end of a path of six nodes that are full.
const PER_ROW: usize = 8 << 10;
/// How often a component may be there: in `f32`, in bytes, in bits, each with room to grow.
const PER_BYTE: usize = 6;

/// Loads, and fails if that took more memory than a file of this length can need.
fn load(path: &Path) -> Result<Index, Error> {
    let length = std::fs::metadata(path)?.len() as usize;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let loaded = Index::load(path);
    let taken = MEMORY.peak_usage() - before;
    let allowed = FIXED + length * PER_BYTE + length / LEAST_RECORD * PER_ROW;
    assert!(taken <= allowed, "{taken} bytes of memory for a file of {length}");
    loaded
}

fuzz_target!(|bytes: &[u8]| {
    load::check(bytes, load);
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    load::check(&sealed, load);
    load::check(&mend(bytes), load);
    if let Ok(image) = Image::arbitrary(&mut Unstructured::new(bytes)) {
        let file = image.bytes();
        load::check(&file, load);
        let mut damaged = damage(&file, bytes);
        load::check(&damaged, load);
        seal(&mut damaged);
        load::check(&damaged, load);
    }
});
