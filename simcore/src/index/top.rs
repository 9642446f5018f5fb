//! The best k of a stream of candidates.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row that may be part of an answer. The smaller candidate is the better one: higher score, then lower id.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Never NaN: rows and queries are finite.
    pub score: f32,
    /// The caller's id.
    pub id: u64,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // Not `total_cmp`: 0.0 and -0.0 are the same score.
        other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Keeps the best `k` candidates; its memory grows with what it keeps, not with `k`.
#[derive(Debug, Clone, Default)]
pub struct Top {
    k: usize,
    worst_first: BinaryHeap<Candidate>,
}

impl Top {
    /// Nothing kept yet.
    pub fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::new() }
    }

    /// Keeps `candidate` if it is among the best `k` so far.
    #[inline]
    pub fn offer(&mut self, candidate: Candidate) {
        if self.worst_first.len() < self.k {
            self.worst_first.push(candidate);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// The score that a candidate must have at least to be kept now, if that is more than any.
    pub fn bar(&self) -> Option<f32> {
        self.worst_first.peek().filter(|_| self.worst_first.len() >= self.k).map(|worst| worst.score)
    }

    /// Offers everything that `other` kept.
    pub fn merge(&mut self, other: Self) {
        other.worst_first.into_iter().for_each(|candidate| self.offer(candidate));
    }

    /// What was kept, best first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        self.worst_first.into_sorted_vec()
    }
}
