//! What Python sees: arguments are converted and copied, the index does the work without the GIL.

mod arguments;
mod decision;
mod guard;

use std::path::PathBuf;

use numpy::{PyArray2, ndarray::Array2};
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::index::{self, Error, Found, Request};
use arguments::{OneOrEach, column, number, one_or_each, vectors};

/// Multiply-adds up to which a search keeps the GIL, about 10 µs: giving it up costs more, because getting it back
/// can take a whole switch interval.
const KEEPS_GIL: usize = 1 << 16;

create_exception!(
    simcore,
    IndexPoisoned,
    PyRuntimeError,
    "An internal fault, reported to one caller; the index is quarantined and must be rebuilt."
);
create_exception!(
    simcore,
    IndexQuarantined,
    IndexPoisoned,
    "An earlier call hit an internal fault; the index must be rebuilt."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error.into(),
            Error::Invalid(message) => PyValueError::new_err(message),
            Error::Quarantined => IndexQuarantined::new_err(error.to_string()),
            Error::Poisoned(_) | Error::Broken => IndexPoisoned::new_err(error.to_string()),
        }
    }
}

type Cells<'py> = (Bound<'py, PyArray2<u64>>, Bound<'py, PyArray2<f32>>);

fn cells<'py>(py: Python<'py>, found: Found, shape: (usize, usize)) -> PyResult<Cells<'py>> {
    let shaped = |_| PyErr::from(Error::Broken);
    let ids = Array2::from_shape_vec(shape, found.ids).map_err(shaped)?;
    let scores = Array2::from_shape_vec(shape, found.scores).map_err(shaped)?;
    Ok((PyArray2::from_owned_array(py, ids), PyArray2::from_owned_array(py, scores)))
}

/// Exact cosine search over groups of vectors; safe to use from many threads.
#[pyclass(frozen, module = "simcore")]
struct Index(index::Index);

#[pymethods]
impl Index {
    #[new]
    #[pyo3(signature = (dim, *, threads = None), text_signature = "(dim, *, threads=1)")]
    fn new(dim: &Bound<'_, PyAny>, threads: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let threads = threads.map_or(Ok(1), |threads| number(threads, "threads"))?;
        Ok(Self(index::Index::new(number(dim, "dim")?, threads)?))
    }

    /// Inserts or replaces rows by id, all or nothing; of several rows with one id the last wins.
    #[pyo3(
        signature = (ids, vectors, *, groups = None, expires_at = None),
        text_signature = "($self, ids, vectors, *, groups=0, expires_at=...)"
    )]
    fn upsert(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        groups: Option<&Bound<'_, PyAny>>,
        expires_at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let ids = column::<u64>(ids, "ids")?;
        let (vectors, rows) = arguments::vectors(vectors, "vectors", self.0.dim())?;
        if rows != ids.len() {
            return Err(PyValueError::new_err(format!("vectors has {rows} rows for {} ids", ids.len())));
        }
        let groups = groups.map_or(Ok(OneOrEach::One(0)), |groups| one_or_each(groups, "groups"))?;
        let expires_at = expires_at.map_or(Ok(OneOrEach::One(f64::INFINITY)), |at| one_or_each(at, "expires_at"))?;
        Ok(py.detach(|| self.0.upsert(&ids, vectors, groups.per_row(), expires_at.per_row()))?)
    }

    /// Removes rows by id and returns how many there were; unknown ids are ignored.
    fn remove(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<usize> {
        let ids = column::<u64>(ids, "ids")?;
        Ok(py.detach(|| self.0.remove(&ids))?)
    }

    /// Removes all rows of a group and returns how many there were.
    fn remove_group(&self, py: Python<'_>, group: &Bound<'_, PyAny>) -> PyResult<usize> {
        let group = number(group, "group")?;
        Ok(py.detach(|| self.0.remove_group(group))?)
    }

    /// Removes at most limit rows that are dead at now and returns how many; fewer than limit if that was all.
    #[pyo3(signature = (now, *, limit = None), text_signature = "($self, now, *, limit=4096)")]
    fn remove_expired(
        &self,
        py: Python<'_>,
        now: &Bound<'_, PyAny>,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<usize> {
        let now = number(now, "now")?;
        let limit = limit.map_or(Ok(4096), |limit| number(limit, "limit"))?;
        Ok(py.detach(|| self.0.remove_expired(now, limit))?)
    }

    /// Finds the best k live rows of each query's group with at least the threshold's score, best first.
    #[pyo3(
        signature = (queries, k, *, now, threshold = None, groups = None),
        text_signature = "($self, queries, k, *, now, threshold=-1.0, groups=0)"
    )]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: &Bound<'py, PyAny>,
        now: &Bound<'py, PyAny>,
        threshold: Option<&Bound<'py, PyAny>>,
        groups: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Cells<'py>> {
        let (queries, count) = vectors(queries, "queries", self.0.dim())?;
        let groups = groups.map_or(Ok(OneOrEach::One(0)), |groups| one_or_each(groups, "groups"))?;
        let request = Request {
            groups: groups.per_row(),
            k: number(k, "k")?,
            now: number(now, "now")?,
            threshold: threshold.map_or(Ok(-1.0), |threshold| number(threshold, "threshold"))?,
        };
        let found = if queries.len() > KEEPS_GIL {
            py.detach(|| self.0.search(queries, &request))?
        } else {
            let plan = self.0.plan(queries, &request)?;
            if plan.work() > KEEPS_GIL { py.detach(|| plan.run())? } else { plan.run()? }
        };
        cells(py, found, (count, request.k))
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.0.entries()?)
    }

    /// Numbers about the index.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.0.stats())?;
        let numbers = PyDict::new(py);
        for (name, number) in [
            ("dim", stats.dim),
            ("entries", stats.entries),
            ("groups", stats.groups),
            ("blocks", stats.blocks),
            ("bytes", stats.bytes),
            ("threads", stats.threads),
        ] {
            numbers.set_item(name, number)?;
        }
        Ok(numbers)
    }

    /// Writes the index to a file, atomically and durably.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        Ok(py.detach(|| self.0.save(&path))?)
    }

    /// Reads a file that `save` wrote; anything else is a ValueError.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self(py.detach(|| index::Index::load(&path))?))
    }

    /// Test hook: the next search or change panics, a change in its middle.
    fn _inject_panic(&self) {
        self.0.inject_panic();
    }

    /// Test hook: a thread panics while it holds the lock that searches take for a moment.
    fn _inject_poison(&self) {
        self.0.inject_poison();
    }
}

#[pymodule(gil_used = true)]
mod _native {
    use super::{Bound, PyModule, PyModuleMethods, PyResult, PyTuple};

    #[pymodule_export]
    use super::decision::{Judgement, Verifier};
    #[pymodule_export]
    use super::guard::{Guard, GuardReport, compare};
    #[pymodule_export]
    use super::{Index, IndexPoisoned, IndexQuarantined};

    #[pymodule_export]
    const GUARD_VERSION: u32 = crate::guard::VERSION;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let directions = crate::guard::DIRECTIONS.map(crate::guard::Direction::name);
        module.add("DIRECTIONS", PyTuple::new(module.py(), directions)?)?;
        module.add("FEATURES", PyTuple::new(module.py(), crate::guard::NAMES)?)
    }
}
