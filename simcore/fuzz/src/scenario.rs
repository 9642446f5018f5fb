//! Sequences of calls on an index, decoded from bytes.
//!
//! Few bytes make one step, and rows are drawn from a seed: the fuzzer chooses sizes, groups, ids, expiries and kinds
//! of vectors, and does not have to write thousands of components to fill a group.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::oracle::Noise;

/// Dims at, below and above the padding of sketches, and with and without bytes in them.
const DIMS: [usize; 7] = [8, 16, 64, 100, 65, 1, 3];
/// Group numbers on both sides of where a trie of groups gets higher.
const GROUPS: [u32; 8] = [0, 1, 2, 63, 64, 4095, 4096, u32::MAX];
/// Where ranges of ids start; they overlap in places, so that rows are replaced and change their group.
const FIRST_IDS: [u64; 6] = [0, 20, 60, 1000, 1 << 32, u64::MAX - 10_000];
/// Few moments, so that a search's `now` is often exactly when rows expire.
const MOMENTS: [f64; 8] = [f64::INFINITY, 1.0, 2.0, 3.0, 2.0000000000000004, 0.0, -1.5, f64::NEG_INFINITY];
/// Sizes of large batches: around a block, and around the sizes at which a group changes its structure.
const BULKS: [usize; 16] = [64, 127, 129, 255, 256, 257, 300, 500, 1000, 2047, 2048, 2049, 2100, 2500, 3000, 4200];
/// The last is more than there are rows.
const KS: [usize; 10] = [1, 2, 3, 5, 10, 64, 300, 3000, 0, 10_000];
const THRESHOLDS: [f64; 12] = [-1.0, 0.0, 0.5, 0.9, 0.99, 1.0, 0.2, 0.7, -0.3, -2.0, f64::NEG_INFINITY, 1.0000001];
/// How far queries are from a stored vector, in each component.
const AWAY: [f32; 8] = [0.0, 0.0, 1e-6, 0.01, 0.05, 0.1, 0.3, 1.0];
/// Enough to fill, shrink and refill several groups.
const MOST_STEPS: usize = 40;
const MOST_QUERIES: usize = 6;

/// How the vectors of a batch are distributed; what is hard for a bound differs.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Few distinct components: many equal scores.
    Coarse,
    /// Anywhere.
    Fine,
    /// Within `spread` of one of a few centres.
    Near { centre: u8, spread: f32 },
    /// Axes, and nearly so.
    Axis,
    /// Near a centre, but of a length far from 1.
    Scaled { centre: u8, scale: f32 },
}

impl Shape {
    /// One vector; never zero.
    pub(crate) fn draw(self, noise: &mut Noise, dim: usize) -> Vec<f32> {
        let near = |noise: &mut Noise, centre: u8, spread: f32| {
            let middle = Noise(u64::from(centre) + 1).vectors(1, dim);
            middle.into_iter().zip(noise.vectors(1, dim)).map(|(c, away)| c + away * spread).collect()
        };
        let vector: Vec<f32> = match self {
            Self::Coarse => noise.coarse_vector(dim),
            Self::Fine => noise.vectors(1, dim),
            Self::Near { centre, spread } => near(noise, centre, spread),
            Self::Axis => {
                let mut axis = vec![0.0; dim];
                axis[noise.below(dim as u64) as usize] = 1.0;
                axis[noise.below(dim as u64) as usize] -= [0.0, 0.25, 1e-7][noise.below(3) as usize];
                axis
            }
            Self::Scaled { centre, scale } => near(noise, centre, 0.3).into_iter().map(|c: f32| c * scale).collect(),
        };
        if vector.iter().all(|&component| component == 0.0) { vec![1.0; dim] } else { vector }
    }
}

impl<'a> Arbitrary<'a> for Shape {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let centre = byte >> 4 & 3;
        Ok(match byte & 7 {
            0 => Self::Coarse,
            1 => Self::Fine,
            2 => Self::Axis,
            3 => Self::Scaled { centre, scale: f32::from_bits(700) },
            4 => Self::Scaled { centre, scale: f32::MAX / 8.0 },
            5 => Self::Near { centre, spread: 0.0 },
            6 => Self::Near { centre, spread: 1e-6 },
            _ => Self::Near { centre, spread: 0.3 },
        })
    }
}

/// Ids of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    pub first: u64,
    pub count: usize,
    /// Drawn from as many as there are rows, so with repetitions, instead of one after another.
    pub drawn: bool,
}

impl Ids {
    fn arbitrary(u: &mut Unstructured<'_>, count: usize) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let first = FIRST_IDS[usize::from(byte & 15) % FIRST_IDS.len()] + u64::from(byte >> 5) * 40;
        Ok(Self { first, count, drawn: byte & 16 != 0 })
    }

    pub(crate) fn all(&self, noise: &mut Noise) -> Vec<u64> {
        let count = self.count as u64;
        (0..count).map(|row| self.first + if self.drawn { noise.below(count) } else { row }).collect()
    }
}

/// One value for a batch, or one drawn for each row.
#[derive(Debug, Clone, Copy)]
pub enum Spread<T> {
    One(T),
    /// Drawn from the first so many choices.
    Each(u8),
}

fn spread<T: Copy>(u: &mut Unstructured<'_>, choices: &[T; 8]) -> Result<Spread<T>> {
    let byte: u8 = u.arbitrary()?;
    Ok(if byte & 8 == 0 { Spread::One(choices[usize::from(byte & 7)]) } else { Spread::Each((byte & 7) + 1) })
}

fn draw<T: Copy>(noise: &mut Noise, of: u8, choices: &[T; 8]) -> T {
    choices[noise.below(u64::from(of)) as usize]
}

/// Rows to insert or replace.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    pub ids: Ids,
    pub groups: Spread<u32>,
    pub expires_at: Spread<f64>,
    pub shape: Shape,
    pub seed: u16,
}

impl Rows {
    fn arbitrary(u: &mut Unstructured<'_>, count: usize) -> Result<Self> {
        Ok(Self {
            ids: Ids::arbitrary(u, count)?,
            groups: spread(u, &GROUPS)?,
            expires_at: spread(u, &MOMENTS)?,
            shape: u.arbitrary()?,
            seed: u.arbitrary()?,
        })
    }

    pub(crate) fn draw_group(noise: &mut Noise, of: u8) -> u32 {
        draw(noise, of, &GROUPS)
    }

    pub(crate) fn draw_moment(noise: &mut Noise, of: u8) -> f64 {
        draw(noise, of, &MOMENTS)
    }
}

/// What a query looks for.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Some vector.
    Drawn { shape: Shape, seed: u16 },
    /// The vector of the `nth` row, moved by `away` times its largest component, or the opposite.
    Stored { nth: u16, away: f32, negated: bool },
}

#[derive(Debug, Clone, Copy)]
pub struct Query {
    pub group: u32,
    pub target: Target,
}

impl<'a> Arbitrary<'a> for Query {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let target = if byte & 8 == 0 {
            Target::Stored { nth: u.arbitrary()?, away: AWAY[usize::from(byte >> 5)], negated: byte & 16 != 0 }
        } else {
            Target::Drawn { shape: u.arbitrary()?, seed: u.arbitrary()? }
        };
        Ok(Self { group: GROUPS[usize::from(byte & 7)], target })
    }
}

/// The least score of a search.
#[derive(Debug, Clone, Copy)]
pub enum Threshold {
    Value(f64),
    /// The score of the first query's row number `rank`, so many steps of an `f64` or of an `f32` away.
    Score {
        rank: usize,
        wide: i8,
        narrow: i8,
    },
}

impl<'a> Arbitrary<'a> for Threshold {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        if byte & 128 == 0 {
            return Ok(Self::Value(THRESHOLDS[usize::from(byte) % THRESHOLDS.len()]));
        }
        let (wide, narrow) = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)][usize::from(byte & 7) % 5];
        Ok(Self::Score { rank: usize::from(byte >> 3 & 15), wide, narrow })
    }
}

#[derive(Debug, Clone)]
pub struct Search {
    pub queries: Vec<Query>,
    pub k: usize,
    pub now: f64,
    pub threshold: Threshold,
    /// Planned now, answered after later changes: it must still see the state of now.
    pub later: bool,
}

impl<'a> Arbitrary<'a> for Search {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let count = 1 + usize::from(byte & 7) % MOST_QUERIES;
        Ok(Self {
            k: KS[usize::from(byte >> 3 & 15) % KS.len()],
            later: byte & 128 != 0,
            now: MOMENTS[u.int_in_range(0..=MOMENTS.len() - 1)?],
            threshold: u.arbitrary()?,
            queries: (0..count).map(|_| u.arbitrary()).collect::<Result<_>>()?,
        })
    }
}

/// Calls that must be refused and change nothing.
#[derive(Debug, Clone, Copy)]
pub enum Refused {
    /// The last of the rows has a component that is not finite.
    NotFinite,
    /// The last of the rows is zero.
    Zero,
    /// The last of the rows has the id that no row can have.
    MissingId,
    /// The last of the rows has no moment at which it expires.
    NoExpiry,
    /// One group less than rows.
    TooFewGroups,
}

#[derive(Debug, Clone)]
pub enum Step {
    Upsert(Rows),
    Remove {
        ids: Ids,
        seed: u16,
    },
    RemoveGroup(u32),
    /// In steps of at most `limit`, until nothing is left.
    RemoveExpired {
        now: f64,
        limit: usize,
    },
    Search(Search),
    /// Saves and goes on with what is loaded.
    Reload,
    Refused {
        rows: Rows,
        how: Refused,
    },
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let high = usize::from(byte >> 4);
        Ok(match byte & 15 {
            0..=2 => Self::Upsert(Rows::arbitrary(u, high * 3 + 1)?),
            3..=5 => Self::Upsert(Rows::arbitrary(u, BULKS[high])?),
            6 => Self::Remove { ids: Ids::arbitrary(u, high * 3 + 1)?, seed: u.arbitrary()? },
            7 => Self::Remove { ids: Ids::arbitrary(u, BULKS[high])?, seed: u.arbitrary()? },
            8 => Self::RemoveGroup(GROUPS[high & 7]),
            9 => Self::RemoveExpired { now: MOMENTS[high & 7], limit: [4096, 70][high >> 3] },
            10 => Self::Reload,
            11 => {
                use Refused::{MissingId, NoExpiry, NotFinite, TooFewGroups, Zero};
                let how = [NotFinite, Zero, MissingId, NoExpiry, TooFewGroups][high % 5];
                Self::Refused { rows: Rows::arbitrary(u, 3 + high * 5)?, how }
            }
            _ => Self::Search(u.arbitrary()?),
        })
    }
}

/// An index to begin with, and what happens to it.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub dim: usize,
    /// Counted from the fastest one of this machine.
    pub kernel: usize,
    pub steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Scenario {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let mut steps = Vec::new();
        while !u.is_empty() && steps.len() < MOST_STEPS {
            steps.push(u.arbitrary()?);
        }
        Ok(Self { dim: DIMS[usize::from(byte & 15) % DIMS.len()], kernel: usize::from(byte >> 4), steps })
    }
}
