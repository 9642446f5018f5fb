//! A checked verifier and its verdicts.

use std::collections::BTreeMap;
use std::fmt;

use super::calibration::Calibration;
use super::format::{FORMAT, File, MOST_BYTES, VERSION};
use super::trees::Tree;
use crate::guard::{self, Analysed, Features, NAMES, Report};

/// Trees at most: a verdict must stay a matter of microseconds.
const MOST_TREES: usize = 1 << 10;

/// The input that is no feature of the guard: ln(max(1 − cosine, 0) + 0.01).
const LOGDIST: &str = "logdist";

/// What is wrong with a file or an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// What V and cosine have to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Least V.
    pub v: f64,
    /// Least cosine.
    pub cosine: f64,
}

/// A verdict about one candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// How sure the verifier is that the answer may be shared, 0 … 1.
    pub v: f64,
    /// The calibrated probability that serving it is wrong.
    pub p_wrong: f64,
    /// What the guard found.
    pub report: Report,
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Logdist,
    Guard(usize),
}

/// A verifier that can judge.
#[derive(Debug)]
pub struct Verifier {
    embedder: String,
    inputs: Vec<Input>,
    bias: f64,
    trees: Vec<Tree>,
    calibration: Calibration,
    presets: BTreeMap<String, Preset>,
    error_rates: Vec<(f64, String)>,
}

impl Verifier {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`Invalid`] says what is wrong: no JSON, another format or version, unknown or missing members, another guard,
    /// numbers out of range, trees that are none, presets that do not exist.
    pub fn load(json: &str) -> Result<Self, Invalid> {
        if json.len() > MOST_BYTES {
            return Err(Invalid(format!("has {} bytes; at most {MOST_BYTES} are allowed", json.len())));
        }
        let file: File = serde_json::from_str(json).map_err(|error| Invalid(error.to_string()))?;
        if file.format != FORMAT || file.version != VERSION {
            return Err(Invalid(format!(
                "is of format {:?} version {}; {FORMAT:?} version {VERSION} is understood",
                file.format, file.version
            )));
        }
        if file.guard != guard::VERSION {
            return Err(Invalid(format!("was fitted with guard {}; this is guard {}", file.guard, guard::VERSION)));
        }
        let inputs = inputs(&file.features)?;
        if file.trees.len() > MOST_TREES {
            return Err(Invalid(format!("has {} trees; at most {MOST_TREES} are allowed", file.trees.len())));
        }
        let trees = file.trees.into_iter().enumerate().map(|(at, tree)| {
            Tree::new(tree, inputs.len()).map_err(|Invalid(problem)| Invalid(format!("tree {at} {problem}")))
        });
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        if !file.bias.is_finite() {
            return Err(Invalid("bias must be finite".to_owned()));
        }
        let mut presets = BTreeMap::new();
        for (name, preset) in file.presets {
            if ![preset.v, preset.cosine].iter().all(|bar| (0.0..=1.0).contains(bar)) {
                return Err(Invalid(format!("preset {name:?}: v and cosine must be in 0 … 1")));
            }
            presets.insert(name, Preset { v: preset.v, cosine: preset.cosine });
        }
        let error_rates: Vec<_> = file.error_rates.into_iter().map(|rate| (rate.max_error_rate, rate.preset)).collect();
        if let Some((_, name)) = error_rates.iter().find(|(_, name)| !presets.contains_key(name)) {
            return Err(Invalid(format!("error_rates name the preset {name:?}, which does not exist")));
        }
        let rising = error_rates.windows(2).all(|pair| matches!(pair, [x, y] if x.0 < y.0));
        if !rising || error_rates.iter().any(|(rate, _)| !(0.0..=1.0).contains(rate)) {
            return Err(Invalid("error_rates must rise within 0 … 1".to_owned()));
        }
        let calibration = Calibration::new(file.calibration)?;
        Ok(Self { embedder: file.embedder, inputs, bias: file.bias, trees, calibration, presets, error_rates })
    }

    /// Identity of the embedder whose cosines it judges.
    pub fn embedder(&self) -> &str {
        &self.embedder
    }

    /// Presets by name.
    pub fn presets(&self) -> &BTreeMap<String, Preset> {
        &self.presets
    }

    /// The loosest preset that keeps an error rate; `None` if none does.
    pub fn preset_for(&self, max_error_rate: f64) -> Option<&str> {
        self.error_rates.iter().rev().find(|(rate, _)| *rate <= max_error_rate).map(|(_, name)| name.as_str())
    }

    /// Judges one candidate by its text and the cosine of both embeddings.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if the cosine is not a number in -1 … 1, rounding errors of embedders aside.
    pub fn judge(&self, query: &Analysed, cached: &Analysed, cosine: f64) -> Result<Judgement, Invalid> {
        // A dot product of two f32 unit vectors may exceed 1 by their rounding.
        if !(-1.01..=1.01).contains(&cosine) {
            return Err(Invalid(format!("the cosine {cosine} is not in -1 … 1")));
        }
        let report = guard::compare(query, cached);
        let v = self.v(&report.features, cosine);
        Ok(Judgement { v, p_wrong: self.calibration.p_wrong(v), report })
    }

    /// V of a pair with these features and this cosine. Never falls when the cosine or a feature rises whose direction is
    /// `Up`, never rises when one does whose direction is `Down`.
    pub fn v(&self, features: &Features, cosine: f64) -> f64 {
        let logdist = ((1.0 - cosine).max(0.0) + 0.01).ln() as f32;
        let x: Vec<f32> = self
            .inputs
            .iter()
            .map(|input| match input {
                Input::Logdist => logdist,
                Input::Guard(at) => features.0.get(*at).copied().unwrap_or_default(),
            })
            .collect();
        let sum = self.bias + self.trees.iter().map(|tree| tree.value(&x)).sum::<f64>();
        1.0 / (1.0 + (-sum).exp())
    }
}

fn inputs(names: &[String]) -> Result<Vec<Input>, Invalid> {
    let mut inputs = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        if names.iter().take(at).any(|other| other == name) {
            return Err(Invalid(format!("names the feature {name:?} twice")));
        }
        inputs.push(if name == LOGDIST {
            Input::Logdist
        } else {
            let place = NAMES.iter().position(|other| other == name);
            Input::Guard(place.ok_or_else(|| Invalid(format!("names the feature {name:?}, which does not exist")))?)
        });
    }
    Ok(inputs)
}
