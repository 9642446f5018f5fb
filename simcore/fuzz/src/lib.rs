//! What the fuzz targets share: how their inputs are made from bytes, and what must hold for each.

pub mod changes;
pub mod compare;
pub mod image;
pub mod load;
pub mod scenario;

/// The promises of the index, computed the slow way: the same that simcore's tests compare with.
#[path = "../../tests/oracle/mod.rs"]
mod oracle;
mod repeat;

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;

/// A file of this process, removed with the value.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Default for Scratch {
    fn default() -> Self {
        Self(std::env::temp_dir().join(format!("simcore-fuzz-{}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Scores to the bit, beside their ids.
type Cells = Vec<(u64, u32)>;

/// Panics at the first cell that is not as expected; answers are too long to be shown whole.
fn assert_equal(found: &Cells, expected: &Cells, what: impl Display) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "{what}, cell {number}");
    }
}

/// Cells whose scores are compared to the bit.
fn bits(cells: Vec<(u64, f32)>) -> Cells {
    cells.into_iter().map(|(id, score)| (id, score.to_bits())).collect()
}
