//! The search of one query in a group with sketches: from cheap bounds to exact scores.
//!
//! A chunk's codes say which of its rows can reach the bar: the threshold, or the score of the worst row kept if `k` are
//! kept and it is higher. Rows whose levels reach are collected, because the best of them, scored first, raise the bar for the
//! others. For those that still reach it the signs of further components say it again, and then the bytes, each more
//! sharply; bytes are asked for one chunk ahead, so that memory answers while others are compared. What is left is scored in
//! order of its bounds, once more the best first. A row whose score is the bar itself always gets that far, so the order
//! among equal scores is decided where all scores are.

use std::mem::take;
use std::slice;

use super::{
    Error,
    chunk::Chunk,
    codes::Levels,
    looks::Seen,
    top::{Candidate, Top},
};
use crate::kernel::further::Doubt;
use crate::kernel::{BLOCK, Kernel};
use crate::sketch::{LevelQuery, SketchedQuery};

/// If at least one row in this many of a block passes the codes, the bytes of the whole block are compared in one go.
const DENSE: u32 = 4;

/// The codes of the following chunks are not read if more than one row in this many passed: then they save less than they
/// cost.
const WORTH: usize = 4;

/// Chunks that do without codes after one that was not worth it; twice as many after the next one, up to a limit.
const REST: u32 = 4;
/// See [`REST`].
const REST_MOST: u32 = 64;

/// Rows collected by their bytes before the best of them are scored.
const LEADS: usize = 64;

/// Rows collected by their levels before the best of them are scored and the others looked at.
const DOUBTS: usize = 1 << 15;

/// How many of the best are scored first, if there are more than a few times as many.
const BEST: usize = 16;

/// Scores cannot be less, so that such a bar excludes nothing. A little below -1, for what rounding can do.
const ANY_SCORE: f64 = -1.001;

/// A row that may reach the bar.
#[derive(Debug, Clone, Copy)]
struct Lead<'a> {
    most: f64,
    row: Place<'a>,
}

/// A row: its chunk, and its number in that.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    chunk: &'a Chunk,
    number: usize,
}

/// The rows of a chunk whose levels reach, if these are not all that is known.
#[derive(Debug)]
struct Run<'a> {
    chunk: &'a Chunk,
    levels: &'a Levels,
    query: &'a LevelQuery,
    /// How many doubts there are up to its last one.
    end: usize,
}

/// One query's state.
#[derive(Debug)]
pub struct Hunt<'a> {
    kernel: &'a dyn Kernel,
    query: &'a [f64],
    sketched: &'a SketchedQuery,
    now: f64,
    top: Top,
    /// Least score that counts.
    least: f64,
    /// Rows whose levels reach, and the runs of those of one chunk.
    doubts: Vec<Doubt>,
    runs: Vec<Run<'a>>,
    /// Those of one run.
    reaching: Vec<Doubt>,
    /// Rows that passed all codes, and whose bytes have been asked for.
    passed: Vec<Place<'a>>,
    leads: Vec<Lead<'a>>,
    resting: u32,
    /// How long the next rest will be.
    rest: u32,
}

impl<'a> Hunt<'a> {
    /// A hunt for rows that are alive at `now` (Unix seconds), which starts with what `top` has kept already.
    pub fn new(
        kernel: &'a dyn Kernel,
        query: &'a [f64],
        sketched: &'a SketchedQuery,
        now: f64,
        top: Top,
        threshold: f64,
    ) -> Self {
        let least = top.bar().map_or(threshold, |score| threshold.max(f64::from(score)));
        Self {
            kernel,
            query,
            sketched,
            now,
            top,
            least,
            doubts: Vec::new(),
            runs: Vec::new(),
            reaching: Vec::new(),
            passed: Vec::new(),
            leads: Vec::new(),
            resting: 0,
            rest: REST,
        }
    }

    /// Scores what is left; returns what was kept.
    pub fn finish(mut self) -> Result<Top, Error> {
        self.compare_doubts()?;
        self.compare_passed()?;
        self.follow()?;
        Ok(self.top)
    }

    /// The score that the next chunk's codes are to be compared with; `None` if they need not be.
    pub fn bar(&mut self) -> Option<f64> {
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        (self.least > ANY_SCORE).then_some(self.least)
    }

    /// Looks at a chunk; `seen` is what its codes said, and absent if they were not compared.
    pub fn search(&mut self, chunk: &'a Chunk, seen: Option<Seen<'a, '_>>) -> Result<(), Error> {
        self.compare_passed()?;
        let doubted = self.doubts.len();
        let mut passed = 0;
        for block in 0..chunk.len().div_ceil(BLOCK) {
            let live = u64::MAX >> (BLOCK - (chunk.len() - block * BLOCK).min(BLOCK));
            let mask = live & seen.map_or(Some(&u64::MAX), |seen| seen.masks.get(block)).ok_or(Error::Broken)?;
            if mask == 0 {
                continue;
            }
            if let Some(Seen { levels: Some((.., sums)), .. }) = seen {
                let sums = sums.get(block).ok_or(Error::Broken)?;
                let first = (block * BLOCK) as u32;
                let doubts = Slots(mask).filter_map(|slot| sums.get(slot).map(|&sum| (slot as u32, sum)));
                self.doubts.extend(doubts.map(|(slot, sum)| Doubt { number: first + slot, sum }));
                continue;
            }
            let count = mask.count_ones();
            passed += count as usize;
            if self.least <= ANY_SCORE || chunk.bytes().is_empty() {
                Slots(mask).try_for_each(|slot| self.score(Place { chunk, number: block * BLOCK + slot }))?;
            } else if count * DENSE >= live.count_ones() {
                self.compare_block(chunk, block, mask)?;
            } else {
                Slots(mask).try_for_each(|slot| self.pass(Place { chunk, number: block * BLOCK + slot }))?;
            }
        }
        match seen {
            None => {}
            Some(Seen { levels: None, .. }) => self.rest_after(passed, chunk.len()),
            Some(Seen { levels: Some((levels, query, _)), .. }) => {
                let end = self.doubts.len();
                if end > doubted {
                    self.runs.push(Run { chunk, levels, query, end });
                }
                // So many do not get fewer by waiting.
                if end >= DOUBTS || (end - doubted) * WORTH > chunk.len() {
                    self.compare_doubts()?;
                }
            }
        }
        Ok(())
    }

    /// Does without codes for a while if too many rows passed.
    fn rest_after(&mut self, passed: usize, rows: usize) {
        if passed * WORTH > rows {
            self.resting = self.rest;
            self.rest = (2 * self.rest).min(REST_MOST);
        } else {
            self.rest = REST;
        }
    }

    /// Asks for the bytes of a row that passed the codes.
    fn pass(&mut self, row: Place<'a>) -> Result<(), Error> {
        let bytes = row.chunk.bytes().row(row.number).ok_or(Error::Broken)?;
        self.kernel.fetch(bytes.as_ptr().cast(), size_of_val(bytes));
        let factors = row.chunk.bytes().factors().get(row.number).ok_or(Error::Broken)?;
        self.kernel.fetch(std::ptr::from_ref(factors).cast(), size_of_val(factors));
        self.passed.push(row);
        Ok(())
    }

    /// Scores the best of the rows whose levels reach; compares the signs of the others.
    fn compare_doubts(&mut self) -> Result<(), Error> {
        let (mut doubts, mut runs) = (take(&mut self.doubts), take(&mut self.runs));
        self.score_best(&mut doubts, &runs)?;
        let mut reaching = take(&mut self.reaching);
        let mut start = 0;
        for (number, &Run { chunk, levels, query, end }) in runs.iter().enumerate() {
            if let Some(next) = runs.get(number + 1) {
                next.chunk.bytes().fetch_places(self.kernel);
            }
            let of_run = doubts.get(start..end).ok_or(Error::Broken)?;
            start = end;
            let least = query.look(self.least).least;
            reaching.clear();
            reaching.extend(of_run.iter().filter(|doubt| doubt.sum >= least));
            // Rounded down: a bound that is this least score passes.
            let least = (self.least as f32).next_down();
            let further = query.further().ok_or(Error::Broken)?;
            self.kernel.further(further, levels.further(), &mut reaching, least);
            self.rest_after(reaching.len(), chunk.len());
            self.compare_passed()?;
            for doubt in &reaching {
                self.pass(Place { chunk, number: doubt.number as usize })?;
            }
        }
        doubts.clear();
        runs.clear();
        (self.doubts, self.runs, self.reaching) = (doubts, runs, reaching);
        Ok(())
    }

    /// Scores the rows of which levels say most, and takes them out of the doubts.
    fn score_best(&mut self, doubts: &mut [Doubt], runs: &[Run<'a>]) -> Result<(), Error> {
        if doubts.len() < 4 * BEST {
            return Ok(());
        }
        let mut best: Vec<(f64, usize, &Run<'a>)> = Vec::with_capacity(BEST + 1);
        let mut start = 0;
        for run in runs {
            // The sum that gets a row of this run among the best.
            let least_best = |best: &[(f64, usize, &Run<'a>)]| match best.get(BEST - 1) {
                Some((most, ..)) => run.query.look(*most).least,
                None => i32::MIN,
            };
            let mut least = least_best(&best);
            for (at, doubt) in doubts.iter().enumerate().take(run.end).skip(start) {
                if doubt.sum > least {
                    let most = run.query.most(doubt.sum);
                    let place = best.partition_point(|(other, ..)| *other >= most);
                    best.insert(place, (most, at, run));
                    best.truncate(BEST);
                    least = least_best(&best);
                }
            }
            start = run.end;
        }
        for (most, at, run) in best {
            if most < self.least {
                break;
            }
            let doubt = doubts.get_mut(at).ok_or(Error::Broken)?;
            // No row reaches with such a sum.
            doubt.sum = i32::MIN;
            self.score(Place { chunk: run.chunk, number: doubt.number as usize })?;
        }
        Ok(())
    }

    /// Compares the bytes of a whole block.
    fn compare_block(&mut self, chunk: &'a Chunk, block: usize, mask: u64) -> Result<(), Error> {
        let query = self.sketched.bytes();
        let factors = chunk.bytes().factors().get(block * BLOCK..).ok_or(Error::Broken)?;
        let mut dots = [0; BLOCK];
        self.kernel.dot_bytes(query.bytes(), chunk.bytes().block(block).ok_or(Error::Broken)?, &mut dots);
        for slot in Slots(mask) {
            let most = query.most(*dots.get(slot).ok_or(Error::Broken)?, *factors.get(slot).ok_or(Error::Broken)?);
            if most >= self.least {
                self.leads.push(Lead { most, row: Place { chunk, number: block * BLOCK + slot } });
            }
        }
        if self.leads.len() >= LEADS { self.follow() } else { Ok(()) }
    }

    /// Compares the bytes of the rows that passed the codes.
    fn compare_passed(&mut self) -> Result<(), Error> {
        let query = self.sketched.bytes();
        let mut passed = take(&mut self.passed);
        for row in passed.drain(..) {
            let bytes = row.chunk.bytes().row(row.number).ok_or(Error::Broken)?;
            let factors = row.chunk.bytes().factors().get(row.number).ok_or(Error::Broken)?;
            let mut dot = 0;
            self.kernel.dot_bytes(query.bytes(), bytes, slice::from_mut(&mut dot));
            let most = query.most(dot, *factors);
            if most >= self.least {
                self.leads.push(Lead { most, row });
            }
        }
        self.passed = passed;
        if self.leads.len() >= LEADS { self.follow() } else { Ok(()) }
    }

    /// Scores the rows that were collected, until none is left whose bound reaches the bar.
    fn follow(&mut self) -> Result<(), Error> {
        let mut leads = take(&mut self.leads);
        leads.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        for lead in &leads {
            if lead.most < self.least {
                break;
            }
            self.score(lead.row)?;
        }
        leads.clear();
        self.leads = leads;
        Ok(())
    }

    /// Scores one row and keeps it if it is alive and good enough.
    fn score(&mut self, row: Place<'a>) -> Result<(), Error> {
        let row = row.chunk.row(row.number).ok_or(Error::Broken)?;
        if row.expires_at <= self.now {
            return Ok(());
        }
        let mut score = 0.0;
        self.kernel.score_rows(self.query, row.vector, slice::from_mut(&mut score));
        if f64::from(score) < self.least {
            return Ok(());
        }
        self.top.offer(Candidate { score, id: row.id });
        if let Some(worst) = self.top.bar() {
            self.least = self.least.max(f64::from(worst));
        }
        Ok(())
    }
}

/// The numbers of the bits that are set.
struct Slots(u64);

impl Iterator for Slots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let slot = self.0.trailing_zeros();
            self.0 &= self.0 - 1;
            slot as usize
        })
    }
}
