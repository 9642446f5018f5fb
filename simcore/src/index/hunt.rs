//! The search of one query in a group with sketches: from cheap bounds to exact scores.
//!
//! A chunk's sign codes say which of its rows can reach the bar: the threshold, or the score of the worst row
//! kept if `k` are kept and it is higher. For those the bytes say it again, more sharply. What is left is collected
//! and scored in order of its bounds: the best come first and raise the bar for the others. A row whose score is the
//! bar itself always gets that far, so the order among equal scores is decided where all scores are.

use std::mem::take;

use super::{
    Error,
    sketches::{CHUNK_BLOCKS, Chunk},
    snapshot::{BLOCK, Block, Group},
    top::{Candidate, Top},
};
use crate::kernel::{Bar, Kernel, Look};
use crate::sketch::SketchedQuery;

/// Rows that pass the codes from which on all bytes of the block are compared in one go.
const DENSE: u32 = 16;

/// The codes of the following chunks are not read if more than one row in this many passed: they cost as much as a
/// sixth of comparing bytes.
const WORTH: usize = 4;

/// Chunks that do without codes after one that was not worth it.
const REST: u32 = 2;

/// Rows collected before the best of them are scored.
const LEADS: usize = 64;

/// Rows in bytes that are asked for before they are compared.
const AHEAD: usize = 12;

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
    /// Unix seconds.
    pub now: f64,
}

/// Blocks of one chunk.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The chunk.
    pub chunk: &'a Chunk,
    /// The group's number of the chunk's first block.
    pub start: usize,
    /// The first block in the chunk.
    pub from: usize,
    /// The number of blocks.
    pub len: usize,
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
    resting: u32,
}

impl<'a> Hunt<'a> {
    /// A hunt that starts with what `top` has kept already.
    pub fn new(query: &'a [f64], sketched: &'a SketchedQuery, top: Top, threshold: f64) -> Self {
        let least = top.bar().map_or(threshold, |score| threshold.max(f64::from(score)));
        Self { query, sketched, top, least, bar: sketched.bar(least), leads: Vec::new(), resting: 0 }
    }

    /// Scores what is left; returns what was kept.
    pub fn finish(mut self, prey: &Prey<'_>) -> Result<Top, Error> {
        self.follow(prey)?;
        Ok(self.top)
    }

    /// What the next chunk's codes are to be compared with; `None` if they need not be.
    pub fn look(&mut self) -> Option<Look<'a>> {
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        self.bar.map(|bar| self.sketched.look(bar))
    }

    /// Looks at some blocks; `masks` says for each which slots the codes do not exclude, and is absent if the codes were
    /// not compared.
    pub fn search(&mut self, prey: &Prey<'_>, field: Field<'_>, masks: Option<&[u64]>) -> Result<(), Error> {
        let rows = prey.group.rows() as usize;
        let mut sparse = [(0_u8, 0_u8); CHUNK_BLOCKS * DENSE as usize];
        let mut found = 0;
        let mut passed = 0;
        for block in 0..field.len {
            let number = field.start + field.from + block;
            let live = u64::MAX >> (BLOCK - rows.saturating_sub(number * BLOCK).clamp(1, BLOCK));
            let mask = live & masks.map_or(Some(u64::MAX), |masks| masks.get(block).copied()).ok_or(Error::Broken)?;
            if mask == 0 {
                continue;
            }
            passed += mask.count_ones() as usize;
            let inside = field.from + block;
            if self.bar.is_none() || field.chunk.rows(inside).is_none() {
                let number = u32::try_from(number).map_err(|_| Error::Broken)?;
                let block = prey.group.block(number)?;
                Slots(mask).try_for_each(|slot| self.score(prey, block, slot))?;
            } else if mask.count_ones() >= DENSE {
                self.compare_all(prey, field, inside, mask)?;
            } else {
                for slot in Slots(mask) {
                    *sparse.get_mut(found).ok_or(Error::Broken)? = (inside as u8, slot as u8);
                    found += 1;
                }
            }
        }
        self.compare_some(prey, field, sparse.get(..found).ok_or(Error::Broken)?)?;
        if masks.is_some() && passed > field.len * BLOCK / WORTH {
            self.resting = REST;
        }
        Ok(())
    }

    /// Compares the bytes of a whole block at once.
    fn compare_all(&mut self, prey: &Prey<'_>, field: Field<'_>, block: usize, mask: u64) -> Result<(), Error> {
        let rows = field.chunk.rows(block).ok_or(Error::Broken)?;
        let factors = field.chunk.factors(block).ok_or(Error::Broken)?;
        let query = self.sketched.bytes();
        let mut space = [0; BLOCK];
        let dots = space.get_mut(..rows.len() / query.len()).ok_or(Error::Broken)?;
        prey.kernel.dot_bytes(query, rows, dots);
        let most: [f64; BLOCK] =
            std::array::from_fn(|slot| self.sketched.most(space[slot], factors.scales[slot], factors.errors[slot]));
        let number = u32::try_from(field.start + block).map_err(|_| Error::Broken)?;
        for slot in Slots(mask) {
            let most = *most.get(slot).ok_or(Error::Broken)?;
            if most >= self.least {
                self.leads.push(Lead { most, block: number, slot });
            }
        }
        if self.leads.len() >= LEADS { self.follow(prey) } else { Ok(()) }
    }

    /// Compares single rows in bytes, each given by its block in the chunk and its slot.
    fn compare_some(&mut self, prey: &Prey<'_>, field: Field<'_>, places: &[(u8, u8)]) -> Result<(), Error> {
        let query = self.sketched.bytes();
        let width = query.len();
        let row = |&(block, slot): &(u8, u8)| {
            let start = usize::from(slot) * width;
            field.chunk.rows(usize::from(block)).and_then(|rows| rows.get(start..start + width))
        };
        places.iter().take(AHEAD).filter_map(row).for_each(|row| prey.kernel.fetch(row));
        for (number, place) in places.iter().enumerate() {
            if let Some(later) = places.get(number + AHEAD).and_then(row) {
                prey.kernel.fetch(later);
            }
            let mut dot = 0;
            prey.kernel.dot_bytes(query, row(place).ok_or(Error::Broken)?, std::slice::from_mut(&mut dot));
            let (block, slot) = (usize::from(place.0), usize::from(place.1));
            let factors = field.chunk.factors(block).ok_or(Error::Broken)?;
            let scale = *factors.scales.get(slot).ok_or(Error::Broken)?;
            let error = *factors.errors.get(slot).ok_or(Error::Broken)?;
            let most = self.sketched.most(dot, scale, error);
            if most >= self.least {
                let block = u32::try_from(field.start + block).map_err(|_| Error::Broken)?;
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
