//! Searches: the best of the live rows of each query's group.
//!
//! Every row of a group without sketches is scored; [`super::hunt`] says which rows of the others are.

use std::convert::Infallible;
use std::mem::take;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use super::{
    Error, Index, MISSING, PerRow,
    chunk::Chunk,
    codes::Codes,
    group::Group,
    hunt::Hunt,
    looks::{InBasis, Looks},
    normalise_all,
    page::Page,
    snapshot::Snapshot,
    top::{Candidate, Top},
};
use crate::kernel::{BLOCK, unit::widen};
use crate::sketch::{Basis, LevelQuery, SketchedQuery};

/// Multiply-adds per thread below which a further thread costs more than it saves: starting one takes some
/// 30 µs, in which one core does about 10^5.
const WORK_PER_THREAD: usize = 1 << 20;

/// How many times less a search costs where sketches decide; measured at 384 dimensions without a threshold, which is
/// the least that they gain.
const SKETCH_GAIN: usize = 4;

/// Most cells (queries × k) of one answer, 768 MB of it: a larger `k` is refused before memory is asked for.
pub const MAX_CELLS: usize = 1 << 26;

/// What a search asks for, apart from the queries.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The group of each query.
    pub groups: PerRow<'a, u32>,
    /// Most rows per query.
    pub k: usize,
    /// Unix seconds; rows that expire at this moment or before are not found.
    pub now: f64,
    /// Least score, compared exactly.
    pub threshold: f64,
}

/// `k` cells for each query, best first; the rest of a query's cells are [`MISSING`] with score `-inf`.
#[derive(Debug)]
pub struct Found {
    /// The caller's ids.
    pub ids: Vec<u64>,
    /// Their scores.
    pub scores: Vec<f32>,
}

/// Bytes of a small group's rows that are asked for ahead: the processor fetches what follows by itself.
const FETCHED: usize = 768;

/// The queries of one group. `first` counts chunks over all jobs, so that a range of numbers is a share of work.
#[derive(Debug)]
struct Job {
    group: u32,
    first: usize,
    queries: Vec<usize>,
}

/// A search whose arguments are checked, on one snapshot.
#[derive(Debug)]
pub struct Plan<'a> {
    index: &'a Index,
    snapshot: Arc<Snapshot>,
    vectors: Vec<f32>,
    /// The vectors in `f64`.
    queries: Vec<f64>,
    /// One for each query whose group has sketches.
    sketched: Vec<Option<SketchedQuery>>,
    count: usize,
    jobs: Vec<Job>,
    chunks: usize,
    work: usize,
    k: usize,
    now: f64,
    threshold: f64,
}

impl<'a> Plan<'a> {
    /// Checks the arguments and takes the current snapshot.
    pub(super) fn new(index: &'a Index, mut queries: Vec<f32>, request: &Request<'_>) -> Result<Self, Error> {
        let dim = index.dim();
        let count = queries.len() / dim;
        if !queries.len().is_multiple_of(dim) {
            return Err(Error::invalid(format!("queries must have {dim} components each")));
        }
        request.groups.check_len(count, "groups", "queries")?;
        if request.now.is_nan() || request.threshold.is_nan() {
            return Err(Error::invalid("now and threshold must not be NaN"));
        }
        if count.max(1).checked_mul(request.k).is_none_or(|cells| cells > MAX_CELLS) {
            return Err(Error::invalid(format!("k is too large: queries × k must be at most {MAX_CELLS}")));
        }
        let snapshot = index.snapshot();
        if let Some(group) = request.groups.at(0).ok().and_then(|number| snapshot.groups.get(number)) {
            // On its way while the query is being normalised.
            let rows = group.few().vectors();
            index.kernel.fetch(rows.as_ptr().cast(), size_of_val(rows).min(FETCHED));
        }
        normalise_all(&mut queries, dim, "queries")?;
        let mut wide = Vec::new();
        widen(&queries, &mut wide);
        let mut plan = Self {
            index,
            snapshot,
            vectors: queries,
            queries: wide,
            sketched: Vec::new(),
            count,
            jobs: Vec::new(),
            chunks: 0,
            work: 0,
            k: request.k,
            now: request.now,
            threshold: request.threshold,
        };
        if plan.k > 0 {
            plan.share_out(request.groups)?;
        }
        Ok(plan)
    }

    /// Collects the queries of each group, so that a chunk is fetched once for all of them.
    fn share_out(&mut self, groups: PerRow<'_, u32>) -> Result<(), Error> {
        self.sketched.resize_with(self.count, || None);
        let mut order =
            (0..self.count).map(|query| Ok((groups.at(query)?, query))).collect::<Result<Vec<_>, Error>>()?;
        order.sort_unstable();
        for same in order.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(number, _)) = same.first() else { continue };
            let Some(group) = self.snapshot.groups.get(number) else { continue };
            let dim = self.index.dim();
            let numbers: Vec<usize> = same.iter().map(|&(_, query)| query).collect();
            let mut macs = (group.rows() as usize).saturating_mul(dim).saturating_mul(same.len());
            if group.is_sketched() {
                macs /= SKETCH_GAIN;
                for &query in &numbers {
                    let vector = self.vectors.get(query * dim..(query + 1) * dim).ok_or(Error::Broken)?;
                    let sketched = SketchedQuery::new(&self.index.rotation, vector);
                    *self.sketched.get_mut(query).ok_or(Error::Broken)? = Some(sketched);
                }
            }
            self.jobs.push(Job { group: number, first: self.chunks, queries: numbers });
            // A page alone is a share of work too.
            self.chunks += group.chunks().max(1) as usize;
            self.work = self.work.saturating_add(macs);
        }
        Ok(())
    }

    /// Multiply-adds that [`Plan::run`] will cost.
    pub fn work(&self) -> usize {
        self.work
    }

    /// Answers the search.
    pub fn run(&self) -> Result<Found, Error> {
        self.index.quarantine.run("search", || {
            self.index.quarantine.trip();
            let mut found =
                Found { ids: vec![MISSING; self.count * self.k], scores: vec![f32::NEG_INFINITY; self.count * self.k] };
            for (query, top) in self.scan_all()?.into_iter().enumerate() {
                for (cell, candidate) in (query * self.k..).zip(top.into_sorted()) {
                    *found.ids.get_mut(cell).ok_or(Error::Broken)? = candidate.id;
                    *found.scores.get_mut(cell).ok_or(Error::Broken)? = candidate.score;
                }
            }
            Ok(found)
        })
    }

    /// Scans all chunks, on as many threads as the work is worth and the index may use.
    fn scan_all(&self) -> Result<Vec<Top>, Error> {
        let threads = (self.work / WORK_PER_THREAD).min(self.index.threads()).min(self.chunks).max(1);
        let share = |part: usize| self.chunks * part / threads..self.chunks * (part + 1) / threads;
        if threads == 1 {
            return self.scan(share(0));
        }
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                .map(|part| {
                    let spawned = thread::Builder::new().spawn_scoped(scope, move || self.scan(share(part)));
                    (part, spawned)
                })
                .collect();
            let mut tops = self.scan(share(0))?;
            for (part, spawned) in others {
                let theirs = match spawned {
                    Ok(handle) => handle.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                    // No further thread to be had: the share is ours.
                    Err(_) => self.scan(share(part))?,
                };
                tops.iter_mut().zip(theirs).for_each(|(top, other)| top.merge(other));
            }
            Ok(tops)
        })
    }

    /// Scans the chunks of `range`, as numbered by the jobs; returns the best rows of every query.
    fn scan(&self, range: Range<usize>) -> Result<Vec<Top>, Error> {
        let mut tops = vec![Top::new(self.k); self.count];
        let start = self.jobs.partition_point(|job| job.first <= range.start).saturating_sub(1);
        for job in self.jobs.get(start..).unwrap_or_default() {
            if job.first >= range.end {
                break;
            }
            let group = self.snapshot.groups.get(job.group).ok_or(Error::Broken)?;
            self.scan_group(group, job, &range, &mut tops)?;
        }
        Ok(tops)
    }

    fn scan_group(&self, group: &Group, job: &Job, range: &Range<usize>, tops: &mut [Top]) -> Result<(), Error> {
        let from = range.start.saturating_sub(job.first);
        let to = (range.end - job.first).min(group.chunks() as usize);
        if group.is_sketched() {
            return self.hunt_group(group, job, from..to, tops);
        }
        if group.chunks() == 0 && from == 0 {
            for &query in &job.queries {
                self.scan_page(self.query(query)?, group.few(), tops.get_mut(query).ok_or(Error::Broken)?)?;
            }
        }
        for number in from..to {
            let chunk = group.chunk(u32::try_from(number).map_err(|_| Error::Broken)?)?;
            for page in chunk.pages() {
                for &query in &job.queries {
                    self.scan_page(self.query(query)?, page, tops.get_mut(query).ok_or(Error::Broken)?)?;
                }
            }
        }
        Ok(())
    }

    /// Hunts in a group with sketches: chunk after chunk, each for all queries while it is in the cache.
    fn hunt_group(&self, group: &Group, job: &Job, range: Range<usize>, tops: &mut [Top]) -> Result<(), Error> {
        let chunks = chunks_of(group, &range);
        let bases = self.bases(group, &chunks, job)?;
        let sketched = |&query: &usize| self.sketched.get(query).and_then(Option::as_ref).ok_or(Error::Broken);
        let sketched = job.queries.iter().map(sketched).collect::<Result<Vec<_>, Error>>()?;
        let mut hunts = Vec::with_capacity(job.queries.len());
        for (&query, sketched) in job.queries.iter().zip(&sketched) {
            let top = take(tops.get_mut(query).ok_or(Error::Broken)?);
            hunts.push(Hunt::new(self.index.kernel, self.query(query)?, sketched, self.now, top, self.threshold));
        }
        let mut looks = Looks::new(self.index.kernel, sketched, &bases);
        for (number, &chunk) in chunks.iter().enumerate() {
            // Their places follow no order that the processor would find.
            if let Some(later) = chunks.get(number + 2) {
                self.index.kernel.fetch(std::ptr::from_ref::<Chunk>(later).cast(), size_of::<Chunk>());
            }
            looks.compare(chunk, hunts.iter_mut().map(Hunt::bar))?;
            for (query, hunt) in hunts.iter_mut().enumerate() {
                hunt.search(chunk, looks.seen(query)?)?;
            }
        }
        for (hunt, &query) in hunts.into_iter().zip(&job.queries) {
            *tops.get_mut(query).ok_or(Error::Broken)? = hunt.finish()?;
        }
        Ok(())
    }

    /// The bases of the chunks' codes, and the job's queries in each.
    fn bases<'b>(&self, group: &'b Group, chunks: &[&'b Chunk], job: &Job) -> Result<Vec<InBasis<'b>>, Error> {
        let mut bases: Vec<&'b Arc<Basis>> = group.basis().into_iter().collect();
        if group.is_unsettled() {
            for chunk in chunks {
                if let Codes::Levels(levels) = chunk.codes()
                    && !bases.iter().any(|basis| Arc::ptr_eq(basis, &levels.basis))
                {
                    bases.push(&levels.basis);
                }
            }
        }
        let dim = self.index.dim();
        let with_queries = |basis: &'b Arc<Basis>| {
            let prepare = |&query: &usize| {
                let vector = self.vectors.get(query * dim..(query + 1) * dim).ok_or(Error::Broken)?;
                Ok(LevelQuery::new(basis, vector, self.index.kernel))
            };
            Ok((basis, job.queries.iter().map(prepare).collect::<Result<_, Error>>()?))
        };
        bases.into_iter().map(with_queries).collect()
    }

    fn scan_page(&self, query: &[f64], page: &Page, top: &mut Top) -> Result<(), Error> {
        let mut space = [0.0_f32; BLOCK];
        let scores = space.get_mut(..page.len()).ok_or(Error::Broken)?;
        self.index.kernel.score_rows(query, page.vectors(), scores);
        for (&score, label) in scores.iter().zip(page.labels()) {
            if f64::from(score) >= self.threshold && label.expires_at > self.now {
                top.offer(Candidate { score, id: label.id });
            }
        }
        Ok(())
    }

    /// A query in `f64`.
    fn query(&self, number: usize) -> Result<&[f64], Error> {
        let dim = self.index.dim();
        self.queries.get(number * dim..(number + 1) * dim).ok_or(Error::Broken)
    }
}

/// The chunks of a group with these numbers.
fn chunks_of<'a>(group: &'a Group, range: &Range<usize>) -> Vec<&'a Chunk> {
    let mut chunks = Vec::with_capacity(range.len());
    let mut number = 0;
    let Ok(()) = group.try_each_chunk(&mut |chunk| {
        if range.contains(&number) {
            chunks.push(chunk);
        }
        number += 1;
        Ok::<(), Infallible>(())
    });
    chunks
}
