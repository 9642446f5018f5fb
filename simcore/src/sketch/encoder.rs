//! From unit vectors of rows to their sketches.

use std::sync::Arc;

use super::Basis;
use super::bytes::{InBytes, quantise};
use super::levels::{self, LevelCode};
use super::rotation::{Rotation, STEP};
use super::signs::{self, SignCode};
use crate::kernel::Kernel;

/// Makes sketches; it owns the space for one of each kind.
#[derive(Debug)]
pub struct Encoder {
    rotation: Arc<Rotation>,
    kernel: &'static dyn Kernel,
    with_bytes: bool,
    rotated: Vec<f32>,
    unit: Vec<f64>,
    in_bytes: InBytes,
    signs: SignCode,
    components: Vec<f32>,
    levels: LevelCode,
}

impl Encoder {
    /// An encoder for rows of `dim` components.
    pub fn new(dim: usize, kernel: &'static dyn Kernel) -> Self {
        Self {
            rotation: Arc::new(Rotation::new(dim)),
            kernel,
            // Below, the padded bytes would be as long as the row itself.
            with_bytes: dim >= STEP,
            rotated: Vec::new(),
            unit: Vec::new(),
            in_bytes: InBytes::default(),
            signs: SignCode::default(),
            components: Vec::new(),
            levels: LevelCode::default(),
        }
    }

    /// The rotation that signs and bytes are made in.
    pub fn rotation(&self) -> &Arc<Rotation> {
        &self.rotation
    }

    /// Computes sums.
    pub fn kernel(&self) -> &'static dyn Kernel {
        self.kernel
    }

    /// A unit vector in bytes, until the next call; `None` if rows are not kept in bytes.
    pub fn bytes(&mut self, vector: &[f32]) -> Option<&InBytes> {
        if !self.with_bytes {
            return None;
        }
        rotate(&self.rotation, vector, &mut self.rotated, &mut self.unit);
        quantise(&self.unit, &mut self.in_bytes);
        Some(&self.in_bytes)
    }

    /// The signs of a unit vector, until the next call.
    pub fn signs(&mut self, vector: &[f32]) -> &SignCode {
        rotate(&self.rotation, vector, &mut self.rotated, &mut self.unit);
        signs::encode(&self.unit, &mut self.signs);
        &self.signs
    }

    /// The levels of a unit vector's components in a basis, until the next call.
    pub fn levels(&mut self, basis: &Basis, vector: &[f32]) -> &LevelCode {
        levels::encode(basis, vector, self.kernel, &mut self.components, &mut self.levels);
        &self.levels
    }
}

/// The rotated vector in `f32`, and scaled to length 1 in `f64`.
pub(super) fn rotate(rotation: &Rotation, vector: &[f32], rotated: &mut Vec<f32>, unit: &mut Vec<f64>) {
    rotation.apply(vector, rotated);
    let square: f64 = rotated.iter().map(|&component| f64::from(component) * f64::from(component)).sum();
    let factor = square.sqrt().recip();
    unit.clear();
    unit.extend(rotated.iter().map(|&component| f64::from(component) * factor));
}
