//! From unit vectors to sketches.

use std::sync::Arc;

use super::rotation::{Rotation, STEP};

/// Taken off each stored cosine. It keeps the sine that the kernels derive from it in `f32` within 1e-5 of a cone
/// that holds the row: `1 − cos²` is then at least 2e-6 and errs by at most `2^-25`.
const COSINE_MARGIN: f64 = 1e-6;

/// Largest magnitude of a component in bytes; symmetric, so that products of two bytes never saturate 16 bits.
const BYTE_MAX: f64 = 127.0;

/// A vector in bytes: `scale × bytes`, at most `error` away from the rotated unit vector.
#[derive(Debug, Clone, Default)]
pub struct InBytes {
    /// One per padded component.
    pub bytes: Vec<i8>,
    /// What one unit of a byte is worth.
    pub scale: f32,
    /// The length of what the bytes leave out, rounded up.
    pub error: f32,
}

/// The sketch of one row.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Sign bits, component `8 i + j` in bit `j` of byte `i`; set if the component is not negative.
    pub signs: Vec<u8>,
    /// At most the cosine of the angle between the rotated row and its vertex.
    pub cosine: f32,
    /// Empty when rows are not kept in bytes.
    pub bytes: InBytes,
}

/// Makes sketches; it owns the space for one.
#[derive(Debug)]
pub struct Encoder {
    rotation: Arc<Rotation>,
    with_bytes: bool,
    rotated: Vec<f32>,
    unit: Vec<f64>,
    encoded: Encoded,
}

impl Encoder {
    /// An encoder for rows of `dim` components.
    pub fn new(dim: usize) -> Self {
        Self::of(Arc::new(Rotation::new(dim)), dim)
    }

    fn of(rotation: Arc<Rotation>, dim: usize) -> Self {
        Self {
            rotation,
            // Below, the padded bytes would be as long as the row itself.
            with_bytes: dim >= STEP,
            rotated: Vec::new(),
            unit: Vec::new(),
            encoded: Encoded::default(),
        }
    }

    /// The rotation that the sketches are made in.
    pub fn rotation(&self) -> &Arc<Rotation> {
        &self.rotation
    }

    /// Components of a sketch.
    pub fn padded(&self) -> usize {
        self.rotation.padded()
    }

    /// The sketch of a unit vector, until the next call.
    pub fn encode(&mut self, vector: &[f32]) -> &Encoded {
        rotate(&self.rotation, vector, &mut self.rotated, &mut self.unit);
        let encoded = &mut self.encoded;
        encoded.signs.clear();
        encoded.signs.extend(
            self.unit
                .as_chunks::<8>()
                .0
                .iter()
                .map(|eight| eight.iter().rev().fold(0_u8, |byte, &component| byte << 1 | u8::from(component >= 0.0))),
        );
        let sum: f64 = self.unit.iter().map(|component| component.abs()).sum();
        encoded.cosine = (sum / (self.unit.len() as f64).sqrt() - COSINE_MARGIN).max(0.0) as f32;
        if self.with_bytes {
            quantise(&self.unit, &mut encoded.bytes);
        }
        &self.encoded
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

/// Rounds a unit vector to bytes.
pub(super) fn quantise(unit: &[f64], out: &mut InBytes) {
    let largest = unit.iter().fold(0.0_f64, |largest, component| largest.max(component.abs()));
    // Rounded to what is stored first: the error below is that of the stored scale.
    let scale = f64::from((largest / BYTE_MAX) as f32);
    let inverse = scale.recip();
    let mut square = 0.0;
    out.bytes.clear();
    out.bytes.extend(unit.iter().map(|&component| {
        // Adding and taking away 1.5 × 2^52 rounds to the nearest integer without a call.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let level = ((component * inverse + ROUND) - ROUND).clamp(-BYTE_MAX, BYTE_MAX);
        let left = component - level * scale;
        square += left * left;
        level as i8
    }));
    out.scale = scale as f32;
    out.error = (square.sqrt() * (1.0 + 1e-6)) as f32;
}
