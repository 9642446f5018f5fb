//! The index: rows in groups, searched exactly.
//!
//! * **Score**: `f32` of [`crate::kernel::portable::dot`] over the stored unit vectors and the query's, both made
//!   by [`crate::kernel::unit::normalise`]. **Order**: score descending, then id ascending.
//! * **Consistency**: a call that changes the index makes the next snapshot beside the current one and
//!   publishes it with one pointer swap; it is seen wholly or not at all. A search works on the snapshot that it
//!   found and never waits for a change in progress. Changes wait for each other.
//! * **Faults**: a panic, or an invariant that does not hold, is reported once, as [`Error::Poisoned`]; the index then
//!   answers [`Error::Quarantined`] only, and its owner rebuilds it from the store.

mod bytes;
mod chunk;
mod codes;
mod error;
mod file;
mod group;
mod hunt;
mod looks;
mod page;
mod places;
mod quarantine;
mod search;
mod snapshot;
mod top;
mod trie;
mod writer;

use std::env;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use codes::Codes;
pub use error::Error;
use quarantine::Quarantine;
pub use search::{Found, MAX_CELLS, Plan, Request};
use snapshot::Snapshot;
use writer::{Batch, Writer};

use crate::kernel::{self, BLOCK, ISA_VARIABLE, Kernel, unit};
use crate::sketch::Rotation;

/// The id in a cell for which no row was found; no row can have it.
pub const MISSING: u64 = u64::MAX;
/// Most components per vector; sizes of rows stay far below any overflow.
pub const MAX_DIM: usize = 65_536;
/// Most threads per search.
pub const MAX_THREADS: usize = 256;
/// Most rows, so that a row's number in its group fits in 32 bits.
const MAX_ROWS: usize = u32::MAX as usize;

/// One value for all rows of a call, or one for each.
#[derive(Debug, Clone, Copy)]
pub enum PerRow<'a, T> {
    /// The same for all.
    One(T),
    /// As many as there are rows.
    Each(&'a [T]),
}

impl<T: Copy> PerRow<'_, T> {
    fn at(&self, row: usize) -> Result<T, Error> {
        match self {
            Self::One(value) => Ok(*value),
            Self::Each(values) => values.get(row).copied().ok_or(Error::Broken),
        }
    }

    fn is_one(&self) -> bool {
        matches!(self, Self::One(_))
    }

    fn any(&self, test: impl Fn(T) -> bool) -> bool {
        match self {
            Self::One(value) => test(*value),
            Self::Each(values) => values.iter().copied().any(test),
        }
    }

    fn check_len(&self, rows: usize, name: &str, of: &str) -> Result<(), Error> {
        match self {
            Self::Each(values) if values.len() != rows => {
                Err(Error::invalid(format!("{name} has {} elements for {rows} {of}", values.len())))
            }
            _ => Ok(()),
        }
    }
}

/// Numbers about an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Components per vector.
    pub dim: usize,
    /// Rows, expired ones included.
    pub entries: usize,
    /// Groups that have rows.
    pub groups: usize,
    /// Blocks that the rows fill.
    pub blocks: usize,
    /// Bytes of memory that rows and bookkeeping own, without the allocator's overhead.
    pub bytes: usize,
    /// Most threads per search.
    pub threads: usize,
}

/// Exact cosine search; see the module's documentation.
#[derive(Debug)]
pub struct Index {
    dim: usize,
    threads: usize,
    kernel: &'static dyn Kernel,
    rotation: Arc<Rotation>,
    /// Held only to copy or swap the pointer.
    current: Mutex<Arc<Snapshot>>,
    writer: Mutex<Writer>,
    quarantine: Quarantine,
}

/// Normalises vectors that lie one after another; an error names the first bad one and leaves later ones alone.
fn normalise_all(vectors: &mut [f32], dim: usize, name: &str) -> Result<(), Error> {
    let mut wide = Vec::with_capacity(dim);
    for (number, vector) in vectors.chunks_exact_mut(dim).enumerate() {
        unit::normalise(vector, &mut wide).map_err(|unfit| {
            let what = match unfit {
                unit::Unfit::NotFinite => "NaN or infinite components",
                unit::Unfit::Zero => "zero components only",
            };
            Error::invalid(format!("{name}[{number}] has {what}"))
        })?;
    }
    Ok(())
}

impl Index {
    /// An empty index of `dim` components per vector, which may use `threads` threads for one large search.
    ///
    /// It uses the fastest kernel of this machine, or the one that the environment names.
    pub fn new(dim: usize, threads: usize) -> Result<Self, Error> {
        let name = env::var_os(ISA_VARIABLE).map(|name| name.to_string_lossy().into_owned());
        let kernel = kernel::select(name.as_deref().filter(|name| !name.is_empty())).ok_or_else(|| {
            let names: Vec<_> = kernel::available().iter().map(|kernel| kernel.name()).collect();
            Error::invalid(format!("{ISA_VARIABLE} must be one of {}", names.join(", ")))
        })?;
        Self::with_kernel(dim, threads, kernel)
    }

    /// An empty index that uses this kernel.
    pub fn with_kernel(dim: usize, threads: usize, kernel: &'static dyn Kernel) -> Result<Self, Error> {
        if !(1..=MAX_DIM).contains(&dim) {
            return Err(Error::invalid(format!("dim must be from 1 to {MAX_DIM}")));
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::invalid(format!("threads must be from 1 to {MAX_THREADS}")));
        }
        let writer = Writer::new(dim, kernel);
        Ok(Self {
            dim,
            threads,
            kernel,
            rotation: Arc::clone(writer.rotation()),
            current: Mutex::default(),
            writer: Mutex::new(writer),
            quarantine: Quarantine::default(),
        })
    }

    /// Components per vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Most threads per search.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The current snapshot.
    fn snapshot(&self) -> Arc<Snapshot> {
        // Nothing can panic while the lock is held, so a poisoned one still guards a whole pointer.
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies `change` to a copy of the current snapshot and publishes it.
    fn write<R>(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut Writer, &mut Snapshot) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.quarantine.run(operation, || {
            // Poisoned by a change that panicked while we waited for it: its bookkeeping cannot be trusted.
            let mut writer = self.writer.lock().map_err(|_| Error::Quarantined)?;
            let mut next = Snapshot::clone(&self.snapshot());
            let result = change(&mut writer, &mut next);
            self.quarantine.trip();
            let result = result?;
            next.writer_bytes = writer.bytes();
            let mut fresh = Arc::new(next);
            std::mem::swap(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), &mut fresh);
            // `fresh` is now the old snapshot: its memory is given back here, outside of the lock.
            Ok(result)
        })
    }

    /// Inserts or replaces rows by id; of several rows with one id the last wins. All or nothing.
    ///
    /// `vectors` holds `ids.len()` vectors one after another; they are normalised. A replaced row moves to its new
    /// group and takes its new expiry.
    pub fn upsert(
        &self,
        ids: &[u64],
        mut vectors: Vec<f32>,
        groups: PerRow<'_, u32>,
        expires_at: PerRow<'_, f64>,
    ) -> Result<(), Error> {
        let dim = self.dim;
        self.quarantine.run("upsert", || {
            if ids.len().checked_mul(dim) != Some(vectors.len()) {
                return Err(Error::invalid(format!("vectors must be {} rows of {dim} components", ids.len())));
            }
            groups.check_len(ids.len(), "groups", "ids")?;
            expires_at.check_len(ids.len(), "expires_at", "ids")?;
            if expires_at.any(f64::is_nan) {
                return Err(Error::invalid("expires_at must not be NaN"));
            }
            if ids.contains(&MISSING) {
                return Err(Error::invalid("id 2**64-1 is reserved for missing rows"));
            }
            normalise_all(&mut vectors, dim, "vectors")
        })?;
        self.write("upsert", |writer, snapshot| {
            if snapshot.rows.checked_add(ids.len()).is_none_or(|rows| rows > MAX_ROWS) {
                return Err(Error::invalid(format!("an index holds at most {MAX_ROWS} rows")));
            }
            writer.upsert(snapshot, &Batch { ids, vectors: &vectors, dim, groups, expires_at })
        })
    }

    /// Removes rows by id; returns how many there were. Unknown ids are ignored.
    pub fn remove(&self, ids: &[u64]) -> Result<usize, Error> {
        self.write("remove", |writer, snapshot| writer.remove(snapshot, ids))
    }

    /// Removes all rows of a group; returns how many there were.
    pub fn remove_group(&self, group: u32) -> Result<usize, Error> {
        self.write("remove_group", |writer, snapshot| writer.remove_group(snapshot, group))
    }

    /// Removes at most `limit` rows that are dead at `now` and returns how many; fewer than `limit` if that was all.
    ///
    /// Memory of dead rows is given back in as many steps as the caller likes: searches never wait for one, and another
    /// change waits no longer than a step.
    pub fn remove_expired(&self, now: f64, limit: usize) -> Result<usize, Error> {
        self.quarantine.run("remove_expired", || match now.is_nan() {
            true => Err(Error::invalid("now must not be NaN")),
            false => Ok(()),
        })?;
        self.write("remove_expired", |writer, snapshot| {
            let dead = snapshot.expired(now, limit);
            writer.remove(snapshot, &dead)
        })
    }

    /// Checks a search and fixes the snapshot that it will see; `queries` lie one after another.
    pub fn plan(&self, queries: Vec<f32>, request: &Request<'_>) -> Result<Plan<'_>, Error> {
        self.quarantine.run("search", || Plan::new(self, queries, request))
    }

    /// Finds the best `k` live rows of each query's group.
    pub fn search(&self, queries: Vec<f32>, request: &Request<'_>) -> Result<Found, Error> {
        self.plan(queries, request)?.run()
    }

    /// How many rows it holds, expired ones included.
    pub fn entries(&self) -> Result<usize, Error> {
        self.quarantine.run("entries", || Ok(self.snapshot().rows))
    }

    /// Numbers about the index.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.quarantine.run("stats", || {
            let snapshot = self.snapshot();
            let mut stats = Stats {
                dim: self.dim,
                entries: snapshot.rows,
                groups: snapshot.groups.len(),
                blocks: 0,
                bytes: snapshot.writer_bytes,
                threads: self.threads,
            };
            let mut bases = Vec::new();
            snapshot.groups.try_each(&mut |_, group| {
                stats.blocks += (group.rows() as usize).div_ceil(BLOCK);
                stats.bytes += group.few().size();
                group.try_each_chunk(&mut |chunk| {
                    stats.bytes += chunk.size();
                    if let Codes::Levels(levels) = chunk.codes()
                        && !bases.iter().any(|basis| Arc::ptr_eq(basis, &levels.basis))
                    {
                        stats.bytes += levels.basis.size();
                        bases.push(Arc::clone(&levels.basis));
                    }
                    Ok::<(), Error>(())
                })
            })?;
            Ok(stats)
        })
    }

    /// Writes the current snapshot to `path`, atomically and durably; changes may go on meanwhile.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        self.quarantine.run("save", || file::save(path, &self.snapshot(), self.dim, self.threads))
    }

    /// Reads an index that [`Index::save`] wrote; a file that is anything else is [`Error::Invalid`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let quarantine = Quarantine::default();
        quarantine.run("load", || {
            let mut loading = None;
            let mut wide = Vec::new();
            let header = file::load(path, |header, row| {
                if row.id == MISSING || row.expires_at.is_nan() || !unit::is_unit(row.vector, &mut wide) {
                    return Err(Error::invalid("damaged simcore index: a row holds impossible values"));
                }
                let batch = Batch {
                    ids: &[row.id],
                    vectors: row.vector,
                    dim: header.dim,
                    groups: PerRow::One(row.group),
                    expires_at: PerRow::One(row.expires_at),
                };
                let (index, snapshot) = match &mut loading {
                    Some(loading) => loading,
                    None => loading.insert((Self::new(header.dim, header.threads)?, Snapshot::default())),
                };
                let writer = index.writer.get_mut().map_err(|_| Error::Broken)?;
                writer.upsert(snapshot, &batch)
            })?;
            let Some((mut index, mut snapshot)) = loading else {
                return Self::new(header.dim, header.threads);
            };
            if snapshot.rows as u64 != header.rows {
                return Err(Error::invalid("damaged simcore index: two rows have the same id"));
            }
            snapshot.writer_bytes = index.writer.get_mut().map_err(|_| Error::Broken)?.bytes();
            index.current = Mutex::new(Arc::new(snapshot));
            Ok(index)
        })
    }

    /// Test hook: the next search or change panics, a change in its middle.
    #[doc(hidden)]
    pub fn inject_panic(&self) {
        self.quarantine.arm();
    }

    /// Test hook: a thread panics while it holds the lock of the current snapshot.
    #[doc(hidden)]
    #[expect(clippy::panic, reason = "this is the injected fault")]
    pub fn inject_poison(&self) {
        let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = self.current.lock();
            panic!("injected fault");
        }));
        drop(poisoned);
    }
}
