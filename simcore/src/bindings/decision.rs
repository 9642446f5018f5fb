//! The verifier for Python.

use std::collections::BTreeMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::guard::{Guard, KEEPS_GIL, features};
use crate::decision::{self, Invalid};
use crate::guard::Analysed;

impl From<Invalid> for PyErr {
    fn from(Invalid(problem): Invalid) -> Self {
        PyValueError::new_err(problem)
    }
}

/// A verdict about one candidate.
#[derive(Debug)]
#[pyclass(frozen, module = "simcore")]
pub(super) struct Judgement(decision::Judgement);

#[pymethods]
impl Judgement {
    /// How sure the verifier is that the answer may be shared, 0 … 1.
    #[getter]
    fn v(&self) -> f64 {
        self.0.v
    }

    /// The calibrated probability that serving it is wrong.
    #[getter]
    fn p_wrong(&self) -> f64 {
        self.0.p_wrong
    }

    /// The names of the differences that speak against sharing an answer.
    #[getter]
    fn reasons<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.report.reasons)
    }

    /// Every feature of the guard by its name.
    #[getter]
    fn features<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        features(py, &self.0.report)
    }

    fn __repr__(&self) -> String {
        format!("Judgement(v={:.3}, p_wrong={:.4}, reasons={:?})", self.0.v, self.0.p_wrong, self.0.report.reasons)
    }
}

/// A fitted model of when an answer may be shared.
#[derive(Debug)]
#[pyclass(frozen, module = "simcore")]
pub(super) struct Verifier(decision::Verifier);

#[pymethods]
impl Verifier {
    /// Reads and checks a verifier; a wrong one is a ValueError that says what is wrong.
    #[staticmethod]
    fn load(py: Python<'_>, json: &str) -> PyResult<Self> {
        Ok(Self(py.detach(|| decision::Verifier::load(json))?))
    }

    /// Identity of the embedder whose cosines it judges.
    #[getter]
    fn embedder(&self) -> &str {
        self.0.embedder()
    }

    /// What V and cosine have to reach, by the preset's name.
    #[getter]
    fn presets(&self) -> BTreeMap<String, (f64, f64)> {
        self.0.presets().iter().map(|(name, preset)| (name.clone(), (preset.v, preset.cosine))).collect()
    }

    /// The loosest preset that keeps an error rate; None if none does.
    fn preset_for(&self, max_error_rate: f64) -> Option<&str> {
        self.0.preset_for(max_error_rate)
    }

    /// Judges every candidate for a query.
    fn judge(
        &self,
        py: Python<'_>,
        query: &Bound<'_, PyAny>,
        cached_texts: Vec<String>,
        cosines: Vec<f64>,
    ) -> PyResult<Vec<Judgement>> {
        if cached_texts.len() != cosines.len() {
            return Err(PyValueError::new_err(format!(
                "{} cosines for {} cached texts",
                cosines.len(),
                cached_texts.len()
            )));
        }
        let size: usize = cached_texts.iter().map(String::len).sum();
        let judge = |query: &Analysed| {
            let candidates = cached_texts.iter().zip(&cosines);
            candidates
                .map(|(text, cosine)| self.0.judge(query, &Analysed::new(text), *cosine))
                .collect::<Result<Vec<_>, _>>()
        };
        let judged = if let Ok(guard) = query.cast::<Guard>() {
            let analysed = &guard.get().0;
            if size > KEEPS_GIL { py.detach(|| judge(analysed))? } else { judge(analysed)? }
        } else {
            let query: &str = query.extract()?;
            let work = || judge(&Analysed::new(query));
            if size + query.len() > KEEPS_GIL { py.detach(work)? } else { work()? }
        };
        Ok(judged.into_iter().map(Judgement).collect())
    }
}
