//! The search of one query in a group with sketches: from cheap bounds to exact scores.
//!
//! A chunk's codes say which of its rows can reach the bar: the threshold, or the score of the worst row kept if `k` are
//! kept and it is higher. For those the signs of further components say it again, where codes have them, and then the bytes,
//! each more sharply. What they need of a row is asked for one chunk ahead: memory answers while others are compared. What is left is collected and scored in order of
//! its bounds: the best come first and raise the bar for the others. A row whose score is the bar itself always gets that
//! far, so the order among equal scores is decided where all scores are.

use std::mem::take;
use std::slice;

use super::{
    Error,
    chunk::Chunk,
    looks::Seen,
    top::{Candidate, Top},
};
use crate::kernel::{BLOCK, Kernel};
use crate::sketch::{LevelQuery, Signs, SketchedQuery};

/// If at least one row in this many of a block passes the codes, the bytes of the whole block are compared in one go.
const DENSE: u32 = 4;

/// The codes of the following chunks are not read if more than one row in this many passed: then they save less than they
/// cost.
const WORTH: usize = 4;

/// Chunks that do without codes after one that was not worth it.
const REST: u32 = 4;

/// Rows of a block whose signs are asked for one by one: with more of them, the processor fetches what follows by itself.
const FEW: usize = 4;

/// Rows collected before the best of them are scored.
const LEADS: usize = 64;

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

/// A block with rows whose levels reach.
#[derive(Debug)]
struct Doubt<'a> {
    chunk: &'a Chunk,
    /// The number of its first row in the chunk.
    first: usize,
    /// The slots of these rows.
    mask: u64,
    sums: [i32; BLOCK],
    signs: &'a [Signs],
    query: &'a LevelQuery,
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
    /// Blocks of the last chunk with rows whose levels reach; the signs of these have been asked for.
    doubts: Vec<Doubt<'a>>,
    /// Rows that passed all codes, and whose bytes have been asked for.
    passed: Vec<Place<'a>>,
    leads: Vec<Lead<'a>>,
    resting: u32,
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
            passed: Vec::new(),
            leads: Vec::new(),
            resting: 0,
        }
    }

    /// Scores what is left; returns what was kept.
    pub fn finish(mut self) -> Result<Top, Error> {
        self.compare_passed()?;
        self.compare_signs()?;
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
        self.compare_signs()?;
        let mut passed = 0;
        for block in 0..chunk.len().div_ceil(BLOCK) {
            let live = u64::MAX >> (BLOCK - (chunk.len() - block * BLOCK).min(BLOCK));
            let mask = live & seen.map_or(Some(&u64::MAX), |seen| seen.masks.get(block)).ok_or(Error::Broken)?;
            if mask == 0 {
                continue;
            }
            if let Some(Seen { levels: Some((levels, query, sums)), .. }) = seen {
                let first = block * BLOCK;
                let signs = levels.signs(first).ok_or(Error::Broken)?;
                for signs in Slots(mask).take(FEW).filter_map(|slot| signs.get(slot)) {
                    self.kernel.fetch(std::ptr::from_ref(signs).cast(), size_of_val(signs));
                }
                let sums = *sums.get(block).ok_or(Error::Broken)?;
                self.doubts.push(Doubt { chunk, first, mask, sums, signs, query });
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
        if seen.is_some() {
            self.rest_after(passed, chunk.len());
        }
        Ok(())
    }

    /// Does without codes for a while if too many rows passed.
    fn rest_after(&mut self, passed: usize, rows: usize) {
        if passed * WORTH > rows {
            self.resting = REST;
        }
    }

    /// Asks for the bytes of a row that passed the codes.
    fn pass(&mut self, row: Place<'a>) -> Result<(), Error> {
        let bytes = row.chunk.bytes().row(row.number).ok_or(Error::Broken)?;
        self.kernel.fetch(bytes.as_ptr().cast(), bytes.len());
        self.passed.push(row);
        Ok(())
    }

    /// Compares the signs of the rows whose levels reached in the last chunk.
    fn compare_signs(&mut self) -> Result<(), Error> {
        let mut doubts = take(&mut self.doubts);
        let Some(rows) = doubts.first().map(|doubt| doubt.chunk.len()) else { return Ok(()) };
        let mut passed = 0;
        // Rounded down: a bound that is this least score passes.
        let least = (self.least as f32).next_down();
        for Doubt { chunk, first, mask, sums, signs, query } in doubts.drain(..) {
            for slot in Slots(mask) {
                let (sum, signs) = (sums.get(slot).ok_or(Error::Broken)?, signs.get(slot).ok_or(Error::Broken)?);
                if query.most(*sum, signs) >= least {
                    passed += 1;
                    self.pass(Place { chunk, number: first + slot })?;
                }
            }
        }
        self.doubts = doubts;
        self.rest_after(passed, rows);
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
