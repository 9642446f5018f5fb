//! From Python values to plain ones: whatever does not fit is a `ValueError`, a value of another kind a `TypeError`.
//!
//! Arrays are copied while the GIL is held: another thread may write to them as soon as it is not.

use numpy::{
    Element, Ix1, Ix2, PyArray, PyArrayMethods, PyReadonlyArray, PyUntypedArray, PyUntypedArrayMethods, dtype,
    ndarray::Dimension,
};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::index::PerRow;

/// Bytes copied before other threads get their turn; some 60 µs.
const TURN: usize = 1 << 20;

/// One value for all rows, or an array with one for each, as copied from Python.
pub enum OneOrEach<T> {
    One(T),
    Each(Vec<T>),
}

impl<T: Copy> OneOrEach<T> {
    pub fn per_row(&self) -> PerRow<'_, T> {
        match self {
            Self::One(value) => PerRow::One(*value),
            Self::Each(values) => PerRow::Each(values),
        }
    }
}

/// Extracts a number; one that is out of the type's range is a `ValueError`.
pub fn number<'py, T>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    value.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            PyValueError::new_err(format!("{name} is out of range"))
        } else {
            error
        }
    })
}

fn array<'py, T: Element, D: Dimension>(
    value: &Bound<'py, PyAny>,
    name: &str,
    rank: usize,
) -> PyResult<PyReadonlyArray<'py, T, D>> {
    let Ok(untyped) = value.cast::<PyUntypedArray>() else {
        return Err(PyTypeError::new_err(format!("{name} must be a numpy array")));
    };
    let Ok(array) = value.cast::<PyArray<T, D>>() else {
        let wanted = dtype::<T>(value.py());
        let (found, shape) = (untyped.dtype(), untyped.ndim());
        return Err(PyValueError::new_err(format!(
            "{name} must be {rank}-dimensional of dtype {wanted}, not {shape}-dimensional of dtype {found}"
        )));
    };
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err(format!("{name} must be C-contiguous")));
    }
    array.try_readonly().map_err(|_| PyValueError::new_err(format!("{name} is being written to")))
}

fn copy<T: Element + Copy, D: Dimension>(array: &PyReadonlyArray<'_, T, D>, name: &str) -> PyResult<Vec<T>> {
    let mut copied = Vec::with_capacity(array.len());
    loop {
        let whole = array.as_slice().map_err(|_| PyValueError::new_err(format!("{name} must be aligned")))?;
        let rest = whole.get(copied.len()..).unwrap_or_default();
        let part = rest.get(..TURN / size_of::<T>()).unwrap_or(rest);
        copied.extend_from_slice(part);
        if part.len() == rest.len() {
            return Ok(copied);
        }
        array.py().detach(|| ());
    }
}

/// A one-dimensional array.
pub fn column<T: Element + Copy>(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Vec<T>> {
    copy(&array::<T, Ix1>(value, name, 1)?, name)
}

/// An array of `dim` columns: its elements row by row, and how many rows there are.
pub fn vectors(value: &Bound<'_, PyAny>, name: &str, dim: usize) -> PyResult<(Vec<f32>, usize)> {
    let array = array::<f32, Ix2>(value, name, 2)?;
    let &[rows, columns] = array.shape() else {
        return Err(PyValueError::new_err(format!("{name} must be 2-dimensional")));
    };
    if columns != dim {
        return Err(PyValueError::new_err(format!("{name} has {columns} columns; the index has dim {dim}")));
    }
    Ok((copy(&array, name)?, rows))
}

/// A number, or a one-dimensional array of them.
pub fn one_or_each<'py, T>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<OneOrEach<T>>
where
    T: Element + Copy + for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    if value.is_instance_of::<PyUntypedArray>() {
        Ok(OneOrEach::Each(column(value, name)?))
    } else {
        Ok(OneOrEach::One(number(value, name)?))
    }
}
