//! The guard for Python: texts in, features and reasons out.

use numpy::{PyArray2, ndarray::Array2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::guard::{self, Analysed, NAMES, Report};

/// Bytes of text up to which a call keeps the GIL, some 20 µs of work: giving it up costs about as much.
pub const KEEPS_GIL: usize = 1 << 10;

/// What the guard found in one pair of texts.
#[derive(Debug)]
#[pyclass(frozen, module = "simcore")]
pub(super) struct GuardReport(Report);

impl From<Report> for GuardReport {
    fn from(report: Report) -> Self {
        Self(report)
    }
}

/// The features of a report by name.
pub fn features<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let features = PyDict::new(py);
    for (name, value) in NAMES.iter().zip(report.features.0) {
        features.set_item(name, value)?;
    }
    Ok(features)
}

#[pymethods]
impl GuardReport {
    /// The version of the guard that made this report.
    #[getter]
    fn version(&self) -> u32 {
        guard::VERSION
    }

    /// Every feature by its name.
    #[getter]
    fn features<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        features(py, &self.0)
    }

    /// The names of the differences that speak against sharing an answer.
    #[getter]
    fn reasons<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.reasons)
    }

    fn __repr__(&self) -> String {
        format!("GuardReport(version={}, reasons={:?})", guard::VERSION, self.0.reasons)
    }
}

/// A text that was read once, to be compared with many.
#[derive(Debug)]
#[pyclass(frozen, module = "simcore")]
pub(super) struct Guard(pub Analysed);

/// Reads a text, without the GIL if it is long.
pub fn read(py: Python<'_>, text: &str) -> Analysed {
    if text.len() > KEEPS_GIL { py.detach(|| Analysed::new(text)) } else { Analysed::new(text) }
}

#[pymethods]
impl Guard {
    #[new]
    fn new(py: Python<'_>, query: &str) -> Self {
        Self(read(py, query))
    }

    /// Compares the text with a cached one.
    fn compare(&self, py: Python<'_>, cached: &str) -> GuardReport {
        let work = || guard::compare(&self.0, &Analysed::new(cached)).into();
        if cached.len() > KEEPS_GIL { py.detach(work) } else { work() }
    }

    /// The features of the text and each of the cached ones, a row each.
    fn measure<'py>(&self, py: Python<'py>, cached: Vec<String>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let rows = py.detach(|| {
            let rows = cached.iter().flat_map(|text| guard::compare(&self.0, &Analysed::new(text)).features.0);
            Array2::from_shape_vec((cached.len(), guard::COUNT), rows.collect())
        });
        let rows = rows.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(PyArray2::from_owned_array(py, rows))
    }
}

/// Compares a query with a cached text.
#[pyfunction]
pub fn compare(py: Python<'_>, query: &str, cached: &str) -> GuardReport {
    let work = || guard::compare(&Analysed::new(query), &Analysed::new(cached)).into();
    if query.len() + cached.len() > KEEPS_GIL { py.detach(work) } else { work() }
}
