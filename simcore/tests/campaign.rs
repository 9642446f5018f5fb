//! Seeded cases against brute force under the defined score, on every kernel of this machine.
//!
//! `SIMCORE_CAMPAIGN_CASES` sets how many (the default is part of `make test`) and `SIMCORE_CAMPAIGN_SEED` where they
//! start; a failure names its seed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a campaign says how far it got")]

mod oracle;

use std::collections::BTreeMap;
use std::env;

use oracle::{Entry, Noise, cells, unit};
use simcore::index::{Index, MISSING, PerRow, Request};
use simcore::kernel::{available, portable::dot};

/// As in what Python loads.
#[cfg(target_os = "linux")]
#[global_allocator]
static MEMORY: simcore::kernel::memory::Memory = simcore::kernel::memory::Memory::new();

const DEFAULT_CASES: usize = 24_000;
const QUERIES: usize = 8;
const REQUESTS: usize = 12;
/// Dims at, below and above padding; the largest with fewer rows, because the oracle takes its time.
const DIMS: [usize; 16] = [8, 384, 64, 100, 65, 9, 128, 768, 63, 200, 4096, 16, 1000, 384, 31, 1536];
/// The large group; others stay below the size from which on rows have sketches, or just reach it.
const LARGE: u32 = 7;
/// Of so many seeds one has a group so large that a basis is learned of it.
const BASIS_EVERY: u64 = 6;

fn setting(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Values of one kind per index: what is hard for a bound differs.
struct Vectors {
    dim: usize,
    kind: u64,
    centres: Vec<Vec<f32>>,
}

impl Vectors {
    fn new(noise: &mut Noise, dim: usize) -> Self {
        let kind = noise.below(7);
        let count = 1 + noise.below(5) as usize;
        let centres = noise.vectors(count, dim).chunks(dim).map(<[f32]>::to_vec).collect();
        Self { dim, kind, centres }
    }

    fn near(&self, noise: &mut Noise, centre: &[f32], spread: f32) -> Vec<f32> {
        let away = noise.vectors(1, self.dim);
        centre.iter().zip(away).map(|(&c, a)| c + a * spread).collect()
    }

    fn draw(&self, noise: &mut Noise) -> Vec<f32> {
        let centre = &self.centres[noise.below(self.centres.len() as u64) as usize];
        let spread = [0.0, 1e-6, 0.05, 0.3, 1.0][noise.below(5) as usize];
        let vector = match self.kind {
            0 => noise.coarse_vector(self.dim),
            1 => {
                // Axes and what is nearly one.
                let mut axis = vec![0.0; self.dim];
                axis[noise.below(self.dim as u64) as usize] = 1.0;
                axis[noise.below(self.dim as u64) as usize] -= [0.0, 0.25, 1e-7][noise.below(3) as usize];
                axis
            }
            2 => self.near(noise, centre, spread).into_iter().map(|c| c * f32::from_bits(700)).collect(),
            3 => self.near(noise, centre, spread).into_iter().map(|c| c * (f32::MAX / 8.0)).collect(),
            4 => {
                // Lengths of components far apart.
                let near = self.near(noise, centre, spread);
                near.into_iter().enumerate().map(|(i, c)| c * 0.5_f32.powi((i % 40) as i32)).collect()
            }
            _ => self.near(noise, centre, spread),
        };
        if vector.iter().all(|&component| component == 0.0) { vec![1.0; self.dim] } else { vector }
    }
}

struct Case {
    noise: Noise,
    vectors: Vectors,
    indexes: Vec<Index>,
    entries: BTreeMap<u64, Entry>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut noise = Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let dim = DIMS[seed as usize % DIMS.len()];
        let indexes = available().into_iter().map(|kernel| Index::with_kernel(dim, 1, kernel).unwrap()).collect();
        let vectors = Vectors::new(&mut noise, dim);
        Self { noise, vectors, indexes, entries: BTreeMap::new() }
    }

    fn upsert(&mut self, ids: &[u64], large_share: u64) {
        let (noise, dim) = (&mut self.noise, self.vectors.dim);
        let mut groups = Vec::new();
        let mut expires = Vec::new();
        let mut vectors = Vec::new();
        for &id in ids {
            let group = if noise.below(10) < large_share { LARGE } else { noise.below(3) as u32 };
            let known = self.entries.len() as u64;
            let vector = match self.entries.values().nth(noise.below(known.max(1)) as usize) {
                Some(entry) if noise.below(6) == 0 => entry.vector.clone(),
                _ => self.vectors.draw(noise),
            };
            let expires_at = if noise.below(3) == 0 { noise.below(6) as f64 } else { f64::INFINITY };
            self.entries.insert(id, Entry { group, expires_at, vector: unit(vector.clone()) });
            groups.push(group);
            expires.push(expires_at);
            vectors.extend(vector);
        }
        assert_eq!(vectors.len(), ids.len() * dim);
        for index in &self.indexes {
            index.upsert(ids, vectors.clone(), PerRow::Each(&groups), PerRow::Each(&expires)).unwrap();
        }
        // What is stored of a duplicate is normalised once more.
        for (&id, vector) in ids.iter().zip(vectors.chunks(dim)) {
            self.entries.get_mut(&id).unwrap().vector = unit(vector.to_vec());
        }
    }

    fn remove(&mut self, count: u64) {
        let ids: Vec<u64> = (0..count).map(|_| self.noise.below(1500)).collect();
        let before = self.entries.len();
        ids.iter().for_each(|id| drop(self.entries.remove(id)));
        for index in &self.indexes {
            assert_eq!(index.remove(&ids).unwrap(), before - self.entries.len());
        }
    }

    fn query(&mut self) -> Vec<f32> {
        let noise = &mut self.noise;
        let some = noise.below(self.entries.len() as u64) as usize;
        let stored = self.entries.values().nth(some).map(|entry| entry.vector.clone()).unwrap();
        match noise.below(6) {
            0 => stored,
            1 => stored.into_iter().map(|c| -c).collect(),
            2 | 3 => {
                let spread = [1e-6, 0.01, 0.03][noise.below(3) as usize];
                self.vectors.near(noise, &stored, spread)
            }
            _ => self.vectors.draw(noise),
        }
    }

    /// All scores of one query's group, best first.
    fn ranked(&self, query: &[f32], group: u32) -> Vec<(u64, f32, f64)> {
        let query: Vec<f64> = unit(query.to_vec()).into_iter().map(f64::from).collect();
        let inside = self.entries.iter().filter(|(_, entry)| entry.group == group);
        let mut all: Vec<_> =
            inside.map(|(&id, entry)| (id, dot(&query, &entry.vector) as f32, entry.expires_at)).collect();
        all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
        all
    }

    /// A threshold: any, or one that some row just reaches or just misses.
    fn threshold(&mut self, ranked: &[Vec<(u64, f32, f64)>]) -> f64 {
        let noise = &mut self.noise;
        let some = &ranked[noise.below(ranked.len() as u64) as usize];
        let first = some.len().min(12) as u64;
        if first == 0 || noise.below(2) == 0 {
            return [-2.0, -1.0, -0.3, 0.0, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1][noise.below(12) as usize];
        }
        let score = some[noise.below(first) as usize].1;
        match noise.below(5) {
            0 => f64::from(score.next_up()),
            1 => f64::from(score.next_down()),
            2 => f64::from(score).next_up(),
            3 => f64::from(score).next_down(),
            _ => f64::from(score),
        }
    }

    /// Compares; returns how many cases that were.
    fn check(&mut self, seed: u64) -> usize {
        if self.entries.is_empty() {
            return 0;
        }
        let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| self.query()).collect();
        let groups: Vec<u32> =
            (0..QUERIES).map(|_| if self.noise.below(4) > 0 { LARGE } else { self.noise.below(4) as u32 }).collect();
        let ranked: Vec<_> = queries.iter().zip(&groups).map(|(query, &group)| self.ranked(query, group)).collect();
        let batch = queries.concat();
        for _ in 0..REQUESTS {
            let threshold = self.threshold(&ranked);
            let k = [1, 1, 1, 2, 5, 10, 64, 3000][self.noise.below(8) as usize];
            let now = self.noise.below(7) as f64 - 1.0;
            let request = Request { groups: PerRow::Each(&groups), k, now, threshold };
            for (index, kernel) in self.indexes.iter().zip(available()) {
                let found = index.search(batch.clone(), &request).unwrap();
                for (number, all) in ranked.iter().enumerate() {
                    let live = all.iter().filter(|row| row.2 > now && f64::from(row.1) >= threshold);
                    let mut expected: Vec<_> = live.take(k).map(|row| (row.0, row.1.to_bits())).collect();
                    expected.resize(k, (MISSING, f32::NEG_INFINITY.to_bits()));
                    let got: Vec<_> = cells(&found, number, k).into_iter().map(|(id, s)| (id, s.to_bits())).collect();
                    let dim = self.vectors.dim;
                    assert_eq!(
                        got,
                        expected,
                        "seed {seed}, {}, dim {dim}, kind {}, query {number}, k {k}, threshold {threshold:?}, now {now}",
                        kernel.name(),
                        self.vectors.kind
                    );
                }
            }
        }
        QUERIES * REQUESTS * self.indexes.len()
    }

    /// Fills, searches, changes, and searches again.
    fn run(mut self, seed: u64) -> usize {
        let large = seed.is_multiple_of(BASIS_EVERY) && self.vectors.dim <= 400;
        let most = if self.vectors.dim > 1000 { 400 } else { 900 };
        let rows = self.noise.below(most) + if large { 5200 } else { 2 };
        let ids: Vec<u64> = (0..rows).collect();
        self.upsert(&ids, 8);
        let mut cases = self.check(seed);
        let again: Vec<u64> = (0..self.noise.below(300)).map(|_| self.noise.below(1500)).collect();
        let large_share = self.noise.below(11);
        self.upsert(&again, large_share);
        let gone = self.noise.below(1200);
        self.remove(gone);
        cases += self.check(seed);
        cases
    }
}

#[test]
fn every_search_equals_brute_force() {
    let wanted = setting("SIMCORE_CAMPAIGN_CASES", DEFAULT_CASES);
    let start = setting("SIMCORE_CAMPAIGN_SEED", 1) as u64;
    let mut cases = 0;
    for seed in start.. {
        cases += Case::new(seed).run(seed);
        if cases >= wanted {
            println!("{cases} cases, 0 mismatches, seeds {start} to {seed}");
            return;
        }
    }
}
