//! What a query looks like to the sketches.

use std::sync::OnceLock;

use super::bytes::QueryInBytes;
use super::encoder::rotate;
use super::rotation::Rotation;
use super::signs::SignQuery;
use crate::kernel::Kernel;

/// A query, rotated; what only some groups need is made when it is asked for.
#[derive(Debug)]
pub struct SketchedQuery {
    unit: Vec<f64>,
    bytes: QueryInBytes,
    signs: OnceLock<SignQuery>,
}

impl SketchedQuery {
    /// Sketches a unit vector.
    pub fn new(rotation: &Rotation, query: &[f32]) -> Self {
        let (mut rotated, mut unit) = (Vec::new(), Vec::new());
        rotate(rotation, query, &mut rotated, &mut unit);
        Self { bytes: QueryInBytes::new(&unit), unit, signs: OnceLock::new() }
    }

    /// The query in bytes.
    pub fn bytes(&self) -> &QueryInBytes {
        &self.bytes
    }

    /// The query as sign codes are compared with it.
    pub fn signs(&self, kernel: &dyn Kernel) -> &SignQuery {
        self.signs.get_or_init(|| SignQuery::new(&self.unit, kernel))
    }
}
