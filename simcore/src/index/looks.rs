//! What the queries of a job see of a chunk: its codes, compared for all of them at once.

use std::sync::Arc;

use super::{
    Error,
    chunk::{CHUNK_BLOCKS, Chunk},
    codes::{Codes, Levels},
};
use crate::kernel::levels::LevelLook;
use crate::kernel::signs::SignLook;
use crate::kernel::{BLOCK, Kernel};
use crate::sketch::{Basis, LevelQuery, SketchedQuery};

/// A basis, and the queries of a job as they are compared with codes made in it.
pub type InBasis<'a> = (&'a Arc<Basis>, Vec<LevelQuery>);

/// What the codes of a chunk said of its rows to one query.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a, 'b> {
    /// For each block which slots they do not exclude.
    pub masks: &'b [u64],
    /// If they hold signs of further components: these, what they are to be compared with, and the sums of the rows that
    /// are not excluded.
    pub levels: Option<(&'a Levels, &'a LevelQuery, &'b [[i32; BLOCK]])>,
}

/// The queries of a job in a group with sketches.
#[derive(Debug)]
pub struct Looks<'a> {
    kernel: &'a dyn Kernel,
    queries: Vec<&'a SketchedQuery>,
    bases: &'a [InBasis<'a>],
    of_signs: Vec<SignLook<'a>>,
    of_levels: Vec<LevelLook<'a>>,
    /// For each query the number of its look at the last chunk, if it had one.
    numbers: Vec<Option<usize>>,
    /// Of the last chunk.
    blocks: usize,
    masks: Vec<u64>,
    sums: Vec<[i32; BLOCK]>,
    levels: Option<(&'a Levels, &'a [LevelQuery])>,
}

impl<'a> Looks<'a> {
    /// `bases` are those of all chunks that will be looked at.
    pub fn new(kernel: &'a dyn Kernel, queries: Vec<&'a SketchedQuery>, bases: &'a [InBasis<'a>]) -> Self {
        let count = queries.len();
        Self {
            kernel,
            queries,
            bases,
            of_signs: Vec::with_capacity(count),
            of_levels: Vec::with_capacity(count),
            numbers: vec![None; count],
            blocks: 0,
            masks: vec![0; count * CHUNK_BLOCKS],
            sums: Vec::new(),
            levels: None,
        }
    }

    /// Compares a chunk's codes with the bars of all queries, one for each; those without one do not look.
    pub fn compare(&mut self, chunk: &'a Chunk, bars: impl Iterator<Item = Option<f64>>) -> Result<(), Error> {
        self.blocks = chunk.len().div_ceil(BLOCK);
        self.levels = None;
        let mut looks = 0;
        let mut number = |looking: bool| {
            looks += usize::from(looking);
            looking.then(|| looks - 1)
        };
        match chunk.codes() {
            Codes::None => return Err(Error::Broken),
            Codes::Signs(signs) => {
                self.of_signs.clear();
                for ((bar, query), slot) in bars.zip(&self.queries).zip(&mut self.numbers) {
                    let look = bar.and_then(|bar| query.signs(self.kernel).look(bar));
                    *slot = number(look.is_some());
                    self.of_signs.extend(look);
                }
                let masks = self.masks.get_mut(..looks * self.blocks).ok_or(Error::Broken)?;
                self.kernel.signs(&self.of_signs, &signs.codes(), masks);
            }
            Codes::Levels(levels) => {
                let of_basis = self.bases.iter().find(|(basis, _)| Arc::ptr_eq(basis, &levels.basis));
                let (_, queries) = of_basis.ok_or(Error::Broken)?;
                self.of_levels.clear();
                for ((bar, query), slot) in bars.zip(queries).zip(&mut self.numbers) {
                    *slot = number(bar.is_some());
                    self.of_levels.extend(bar.map(|bar| query.look(bar)));
                }
                let places = looks * self.blocks;
                if self.sums.len() < places {
                    self.sums.resize(places, [0; BLOCK]);
                }
                let masks = self.masks.get_mut(..places).ok_or(Error::Broken)?;
                let sums = self.sums.get_mut(..places).ok_or(Error::Broken)?;
                self.kernel.levels(&self.of_levels, &levels.codes(), masks, sums);
                self.levels = levels.basis.has_signs().then_some((levels, queries));
            }
        }
        Ok(())
    }

    /// What a query saw of the chunk that was compared last; `None` if it did not look.
    pub fn seen(&self, query: usize) -> Result<Option<Seen<'a, '_>>, Error> {
        let Some(number) = *self.numbers.get(query).ok_or(Error::Broken)? else { return Ok(None) };
        let places = number * self.blocks..(number + 1) * self.blocks;
        let levels = match self.levels {
            Some((levels, queries)) => {
                let sums = self.sums.get(places.clone()).ok_or(Error::Broken)?;
                Some((levels, queries.get(query).ok_or(Error::Broken)?, sums))
            }
            None => None,
        };
        Ok(Some(Seen { masks: self.masks.get(places).ok_or(Error::Broken)?, levels }))
    }
}
