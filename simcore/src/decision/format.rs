//! The file of a verifier as it is written, before it is checked.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The only format version that is understood.
pub const VERSION: u32 = 1;

/// The name by which the format is told from other JSON.
pub const FORMAT: &str = "antiphon-verifier";

/// Bytes of a file at most; the one in the package has less than 100 KB.
pub const MOST_BYTES: usize = 1 << 20;

/// Everything that a file says. Unknown members are errors: they might change the meaning of the others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Identity of the embedder whose cosines it was fitted with.
    pub embedder: String,
    /// [`crate::guard::VERSION`] that it was fitted with.
    pub guard: u32,
    /// Names of the inputs: `logdist`, and features of the guard.
    pub features: Vec<String>,
    /// What the leaves are added to.
    pub bias: f64,
    /// The trees.
    pub trees: Vec<TreeOfFile>,
    /// V and what it says about the probability of a wrong hit.
    pub calibration: CalibrationOfFile,
    /// What V and cosine have to reach, by name.
    pub presets: BTreeMap<String, PresetOfFile>,
    /// Which preset keeps which share of wrong hits, rising.
    pub error_rates: Vec<RateOfFile>,
    /// For people: what it was fitted by and on, and how well it does.
    #[serde(default)]
    #[allow(dead_code, reason = "read so that it is allowed, and then ignored")]
    pub fitted: serde::de::IgnoredAny,
}

/// A tree: inner node `i` sends `x[feature[i]] <= threshold[i]` to `left[i]`, else to `right[i]`; a child `c < 0` is
/// the leaf `-c - 1`, any other an inner node further down the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeOfFile {
    /// Position in `features`.
    pub feature: Vec<u32>,
    /// The largest value that goes left.
    pub threshold: Vec<f64>,
    /// The child for smaller values.
    pub left: Vec<i32>,
    /// The child for larger ones.
    pub right: Vec<i32>,
    /// What each leaf adds.
    pub value: Vec<f64>,
}

/// Points of a falling function, linear between them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationOfFile {
    /// Rising.
    pub v: Vec<f64>,
    /// Never rising.
    pub p_wrong: Vec<f64>,
}

/// Least values of a hit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetOfFile {
    /// Of V.
    pub v: f64,
    /// Of the cosine.
    pub cosine: f64,
}

/// From this error rate on, a preset may be used.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateOfFile {
    /// Share of served hits that may be wrong.
    pub max_error_rate: f64,
    /// The preset that keeps it.
    pub preset: String,
}
