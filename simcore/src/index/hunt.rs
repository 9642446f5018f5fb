//! The search of one query in a group with sketches: from cheap bounds to exact scores.
//!
//! A block's sign codes say which of its rows can reach the bar: the threshold, or the score of the worst row
//! kept if `k` are kept and it is higher. For those the bytes say it again, more sharply. What is left is collected
//! and scored in order of its bounds: the best come first and raise the bar for the others. A row whose score is the bar itself always gets that far, so the order among equal scores is decided
//! where all scores are.

use std::mem::take;

use super::{
    Error,
    sketches::{Bytes, Sketch},
    snapshot::{BLOCK, Block, Group},
    top::{Candidate, Top},
};
use crate::kernel::{Bar, CodeBlock, Kernel};
use crate::sketch::SketchedQuery;

/// Rows that pass the codes from which on all bytes of the block are compared in one go.
const DENSE: u32 = 16;

/// Blocks over which it is decided whether the codes are worth reading.
const TRIAL: u32 = 8;

/// The codes are not, if more than one row in this many passes: they cost as much as a sixth of comparing bytes.
const WORTH: u32 = 4;

/// Blocks that do without codes after a trial that was not worth it.
const REST: u32 = 64;

/// Rows collected before the best of them are scored.
const LEADS: usize = 64;

/// A row that may reach the bar.
#[derive(Debug, Clone, Copy)]
struct Lead {
    most: f64,
    block: u32,
    slot: usize,
}

/// Where one hunts.
#[derive(Debug, Clone, Copy)]
pub struct Prey<'a> {
    /// Computes sums and scores.
    pub kernel: &'a dyn Kernel,
    /// The rows.
    pub group: &'a Group,
    /// Their sketches.
    pub sketch: &'a Sketch,
    /// Unix seconds.
    pub now: f64,
}

/// One query's state.
#[derive(Debug)]
pub struct Hunt<'a> {
    query: &'a [f64],
    sketched: &'a SketchedQuery,
    top: Top,
    /// Least score that counts.
    least: f64,
    bar: Option<Bar>,
    leads: Vec<Lead>,
    /// Blocks of the trial so far, and rows that passed in it.
    tried: u32,
    passed: u32,
    resting: u32,
}

impl<'a> Hunt<'a> {
    /// A hunt that starts with what `top` has kept already.
    pub fn new(query: &'a [f64], sketched: &'a SketchedQuery, top: Top, threshold: f64) -> Self {
        let least = top.bar().map_or(threshold, |score| threshold.max(f64::from(score)));
        Self {
            query,
            sketched,
            top,
            least,
            bar: sketched.bar(least),
            leads: Vec::new(),
            tried: 0,
            passed: 0,
            resting: 0,
        }
    }

    /// Scores what is left; returns what was kept.
    pub fn finish(mut self, prey: &Prey<'_>) -> Result<Top, Error> {
        self.follow(prey)?;
        Ok(self.top)
    }

    /// Looks at the block with this number.
    pub fn block(&mut self, prey: &Prey<'_>, number: u32, codes: &CodeBlock<'_>) -> Result<(), Error> {
        let rows = (prey.group.rows() as usize).saturating_sub(number as usize * BLOCK).min(BLOCK);
        let mask = self.passing(prey.kernel, codes) & (u64::MAX >> (BLOCK - rows.max(1)));
        if mask == 0 {
            return Ok(());
        }
        match prey.sketch.bytes(number) {
            Some(bytes) if self.bar.is_some() => self.compare_bytes(prey, number, bytes, mask),
            _ => {
                let block = prey.group.block(number)?;
                Slots(mask).try_for_each(|slot| self.score(prey, block, slot))
            }
        }
    }

    /// The slots that the codes do not exclude.
    fn passing(&mut self, kernel: &dyn Kernel, codes: &CodeBlock<'_>) -> u64 {
        let Some(bar) = &self.bar else { return u64::MAX };
        if self.resting > 0 {
            self.resting -= 1;
            return u64::MAX;
        }
        let mask = kernel.passing(self.sketched.table(), codes, bar);
        self.tried += 1;
        self.passed += mask.count_ones();
        if self.tried == TRIAL {
            if self.passed > TRIAL * BLOCK as u32 / WORTH {
                self.resting = REST;
            }
            (self.tried, self.passed) = (0, 0);
        }
        mask
    }

    fn compare_bytes(&mut self, prey: &Prey<'_>, block: u32, bytes: &Bytes, mask: u64) -> Result<(), Error> {
        let query = self.sketched.bytes();
        let mut dots = [0; BLOCK];
        let dense = mask.count_ones() >= DENSE;
        if dense {
            let dots = dots.get_mut(..bytes.scales.len()).ok_or(Error::Broken)?;
            prey.kernel.dot_bytes(query, &bytes.rows, dots);
        }
        for slot in Slots(mask) {
            let dot = dots.get_mut(slot).ok_or(Error::Broken)?;
            if !dense {
                let row = bytes.row(slot).ok_or(Error::Broken)?;
                prey.kernel.dot_bytes(query, row, std::slice::from_mut(dot));
            }
            let scale = *bytes.scales.get(slot).ok_or(Error::Broken)?;
            let error = *bytes.errors.get(slot).ok_or(Error::Broken)?;
            let most = self.sketched.most(*dot, scale, error);
            if most >= self.least {
                self.leads.push(Lead { most, block, slot });
            }
        }
        if self.leads.len() >= LEADS { self.follow(prey) } else { Ok(()) }
    }

    /// Scores the rows that were collected, until none is left whose bound reaches the bar.
    fn follow(&mut self, prey: &Prey<'_>) -> Result<(), Error> {
        let mut leads = take(&mut self.leads);
        leads.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        for lead in &leads {
            if lead.most < self.least {
                break;
            }
            self.score(prey, prey.group.block(lead.block)?, lead.slot)?;
        }
        leads.clear();
        self.leads = leads;
        Ok(())
    }

    /// Scores one row and keeps it if it is alive and good enough.
    fn score(&mut self, prey: &Prey<'_>, block: &Block, slot: usize) -> Result<(), Error> {
        let row = block.row(slot).ok_or(Error::Broken)?;
        if row.expires_at <= prey.now {
            return Ok(());
        }
        let mut score = 0.0;
        prey.kernel.score_rows(self.query, row.vector, std::slice::from_mut(&mut score));
        if f64::from(score) < self.least {
            return Ok(());
        }
        self.top.offer(Candidate { score, id: row.id });
        if let Some(worst) = self.top.bar()
            && f64::from(worst) > self.least
        {
            self.least = f64::from(worst);
            self.bar = self.sketched.bar(self.least);
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
