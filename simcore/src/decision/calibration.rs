//! From V to the probability that a hit is wrong: linear between fitted points, constant outside.

use super::format::CalibrationOfFile;
use super::verifier::Invalid;

/// Points at most; isotonic regression gives a few dozen.
const MOST_POINTS: usize = 1 << 10;

/// A falling function of V.
#[derive(Debug)]
pub struct Calibration(Vec<(f64, f64)>);

impl Calibration {
    /// Checks the points of a file.
    pub fn new(file: CalibrationOfFile) -> Result<Self, Invalid> {
        let points: Vec<(f64, f64)> = file.v.iter().copied().zip(file.p_wrong.iter().copied()).collect();
        if file.v.len() != file.p_wrong.len() || points.is_empty() || points.len() > MOST_POINTS {
            return Err(Invalid(format!("calibration: v and p_wrong need 1 … {MOST_POINTS} numbers each")));
        }
        if points.iter().any(|(v, p)| !(0.0..=1.0).contains(v) || !(0.0..=1.0).contains(p)) {
            return Err(Invalid("calibration: numbers must be in 0 … 1".to_owned()));
        }
        if points.windows(2).any(|pair| matches!(pair, [x, y] if x.0 >= y.0 || x.1 < y.1)) {
            return Err(Invalid("calibration: v must rise and p_wrong must not".to_owned()));
        }
        Ok(Self(points))
    }

    /// The probability that a hit with this V is wrong.
    pub fn p_wrong(&self, v: f64) -> f64 {
        let above = self.0.partition_point(|(at, _)| *at < v);
        match (above.checked_sub(1).and_then(|below| self.0.get(below)), self.0.get(above)) {
            (Some((x, p)), Some((y, q))) => p + (q - p) * (v - x) / (y - x),
            (Some((_, p)), None) | (None, Some((_, p))) => *p,
            (None, None) => 1.0,
        }
    }
}
