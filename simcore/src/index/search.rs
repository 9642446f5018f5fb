//! Searches: the best of the live rows of each query's group.
//!
//! Every row of a group without sketches is scored; [`super::hunt`] says which rows of the others are.

use std::mem::take;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use super::{
    Error, Index, MISSING, PerRow,
    hunt::{Field, Hunt, Prey},
    normalise_all,
    sketches::{CHUNK_BLOCKS, Sketch},
    snapshot::{BLOCK, Block, Group, Snapshot},
    top::{Candidate, Top},
};
use crate::kernel::{Kernel, unit::widen};
use crate::sketch::SketchedQuery;

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

/// The queries of one group. `first` counts blocks over all jobs, so that a range of numbers is a share of work.
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
    queries: Vec<f64>,
    /// One for each query whose group has sketches.
    sketched: Vec<Option<SketchedQuery>>,
    count: usize,
    jobs: Vec<Job>,
    blocks: usize,
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
        normalise_all(&mut queries, dim, "queries")?;
        let mut wide = Vec::new();
        widen(&queries, &mut wide);
        let mut plan = Self {
            index,
            snapshot: index.snapshot(),
            queries: wide,
            sketched: Vec::new(),
            count,
            jobs: Vec::new(),
            blocks: 0,
            work: 0,
            k: request.k,
            now: request.now,
            threshold: request.threshold,
        };
        if plan.k > 0 {
            plan.share_out(request.groups, &queries)?;
        }
        Ok(plan)
    }

    /// Collects the queries of each group, so that a block is fetched once for all of them.
    fn share_out(&mut self, groups: PerRow<'_, u32>, queries: &[f32]) -> Result<(), Error> {
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
            if group.sketch().is_some() {
                macs /= SKETCH_GAIN;
                for &query in &numbers {
                    let vector = queries.get(query * dim..(query + 1) * dim).ok_or(Error::Broken)?;
                    let sketched = SketchedQuery::new(&self.index.rotation, vector, self.index.kernel);
                    *self.sketched.get_mut(query).ok_or(Error::Broken)? = Some(sketched);
                }
            }
            self.jobs.push(Job { group: number, first: self.blocks, queries: numbers });
            self.blocks += group.blocks() as usize;
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

    /// Scans all blocks, on as many threads as the work is worth and the index may use.
    fn scan_all(&self) -> Result<Vec<Top>, Error> {
        let threads = (self.work / WORK_PER_THREAD).min(self.index.threads()).min(self.blocks).max(1);
        let share = |part: usize| self.blocks * part / threads..self.blocks * (part + 1) / threads;
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

    /// Scans the blocks of `range`, as numbered by the jobs; returns the best rows of every query.
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
        let to = (range.end - job.first).min(group.blocks() as usize);
        if let Some(sketch) = group.sketch() {
            return self.hunt_group(group, sketch, job, from..to, tops);
        }
        for number in from..to {
            let block = group.block(u32::try_from(number).map_err(|_| Error::Broken)?)?;
            for &query in &job.queries {
                let dim = self.index.dim();
                let vector = self.queries.get(query * dim..(query + 1) * dim).ok_or(Error::Broken)?;
                let top = tops.get_mut(query).ok_or(Error::Broken)?;
                self.scan_block(self.index.kernel, vector, block, top)?;
            }
        }
        Ok(())
    }

    /// Hunts in a group with sketches: chunk after chunk, each for all queries while it is in the cache.
    fn hunt_group(
        &self,
        group: &Group,
        sketch: &Sketch,
        job: &Job,
        blocks: Range<usize>,
        tops: &mut [Top],
    ) -> Result<(), Error> {
        let prey = Prey { kernel: self.index.kernel, group, now: self.now };
        let mut hunts = Vec::with_capacity(job.queries.len());
        for &query in &job.queries {
            let dim = self.index.dim();
            let vector = self.queries.get(query * dim..(query + 1) * dim).ok_or(Error::Broken)?;
            let sketched = self.sketched.get(query).and_then(Option::as_ref).ok_or(Error::Broken)?;
            let top = take(tops.get_mut(query).ok_or(Error::Broken)?);
            hunts.push(Hunt::new(vector, sketched, top, self.threshold));
        }
        let mut looks = Vec::with_capacity(hunts.len());
        let mut looking = vec![false; hunts.len()];
        let mut masks = vec![0; hunts.len() * CHUNK_BLOCKS];
        let mut next = blocks.start;
        while next < blocks.end {
            let (number, from) = (next / CHUNK_BLOCKS, next % CHUNK_BLOCKS);
            let chunk = sketch.chunk(u32::try_from(number).map_err(|_| Error::Broken)?)?;
            let to = (blocks.end - number * CHUNK_BLOCKS).min(CHUNK_BLOCKS);
            let codes = chunk.codes().part(from, to).ok_or(Error::Broken)?;
            let field = Field { chunk, start: number * CHUNK_BLOCKS, from, len: codes.len() };
            looks.clear();
            for (hunt, looking) in hunts.iter_mut().zip(&mut looking) {
                let look = hunt.look();
                *looking = look.is_some();
                looks.extend(look);
            }
            let masks = masks.get_mut(..looks.len() * field.len).ok_or(Error::Broken)?;
            self.index.kernel.passing(&looks, &codes, masks);
            let mut of_each = masks.chunks_exact(field.len);
            for (hunt, &looking) in hunts.iter_mut().zip(&looking) {
                hunt.search(&prey, field, if looking { of_each.next() } else { None })?;
            }
            next += field.len;
        }
        for (hunt, &query) in hunts.into_iter().zip(&job.queries) {
            *tops.get_mut(query).ok_or(Error::Broken)? = hunt.finish(&prey)?;
        }
        Ok(())
    }

    fn scan_block(&self, kernel: &dyn Kernel, query: &[f64], block: &Block, top: &mut Top) -> Result<(), Error> {
        let mut space = [0.0_f32; BLOCK];
        let scores = space.get_mut(..block.len()).ok_or(Error::Broken)?;
        kernel.score_rows(query, &block.vectors, scores);
        for ((&score, &id), &expires_at) in scores.iter().zip(&block.ids).zip(&block.expires_at) {
            if f64::from(score) >= self.threshold && expires_at > self.now {
                top.offer(Candidate { score, id });
            }
        }
        Ok(())
    }
}
