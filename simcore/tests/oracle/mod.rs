//! The index's promises, computed the slow way.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use simcore::index::{Found, MISSING};
use simcore::kernel::portable::dot;
use simcore::kernel::unit::normalise;

/// xorshift64*: every test replays from its seed.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 24
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Few distinct components, so that equal scores are frequent.
    pub fn coarse_vector(&mut self, dim: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dim).map(|_| self.below(5) as f32 - 2.0).collect();
        if vector.iter().all(|&component| component == 0.0) {
            vector[0] = 1.0;
        }
        vector
    }

    pub fn vectors(&mut self, count: usize, dim: usize) -> Vec<f32> {
        (0..count * dim).map(|_| self.below(2000) as f32 / 1000.0 - 0.9995).collect()
    }
}

#[derive(Clone)]
pub struct Entry {
    pub group: u32,
    pub expires_at: f64,
    pub vector: Vec<f32>,
}

/// Entries by id.
#[derive(Clone, Default)]
pub struct Oracle(pub BTreeMap<u64, Entry>);

pub fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    assert_eq!(normalise(&mut vector, &mut Vec::new()), Ok(()));
    vector
}

impl Oracle {
    pub fn search(&self, query: &[f32], group: u32, k: usize, now: f64, threshold: f64) -> Vec<(u64, f32)> {
        let query: Vec<f64> = unit(query.to_vec()).into_iter().map(f64::from).collect();
        let live = self.0.iter().filter(|(_, entry)| entry.group == group && entry.expires_at > now);
        let scored = live.map(|(&id, entry)| (id, dot(&query, &unit(entry.vector.clone())) as f32));
        let mut all: Vec<_> = scored.filter(|&(_, score)| f64::from(score) >= threshold).collect();
        // Stable, so equal scores stay in order of their ids.
        all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal));
        all.resize(k, (MISSING, f32::NEG_INFINITY));
        all
    }
}

/// The cells of one query.
pub fn cells(found: &Found, query: usize, k: usize) -> Vec<(u64, f32)> {
    let range = query * k..(query + 1) * k;
    found.ids[range.clone()].iter().copied().zip(found.scores[range].iter().copied()).collect()
}
