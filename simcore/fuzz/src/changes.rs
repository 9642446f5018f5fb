//! Runs a scenario on an index and on the oracle: every answer must be the same, to the bit.

use std::collections::BTreeMap;
use std::slice::Iter;

use simcore::index::{Error, Index, MISSING, PerRow, Plan, Request};
use simcore::kernel::available;
use simcore::kernel::portable::dot;

use crate::oracle::{Entry, Noise, Oracle, cells, unit};
use crate::scenario::{Ids, Query, Refused, Rows, Scenario, Search, Spread, Step, Target, Threshold};
use crate::{Cells, Scratch, assert_equal, bits};

/// Multiply-adds that the oracle may spend on a scenario, some tenths of a second: searches after that are left out, so
/// that there are many scenarios rather than long ones.
const EFFORT: usize = 20_000_000;
/// Rows that all groups may have together.
const MOST_ROWS: usize = 10_000;
/// Rows of each group that are looked for by their own vectors in the end.
const SELF_QUERIES: usize = 32;
/// Rows with the largest ids that always are: they are often those with which a group crossed a size.
const LAST: usize = 8;

/// A search that was planned, and its answer at that moment.
struct Promise<'a> {
    plan: Plan<'a>,
    k: usize,
    expected: Vec<Cells>,
}

impl Promise<'_> {
    fn keep(self) {
        let found = self.plan.run().unwrap();
        assert_eq!(found.ids.len(), self.k * self.expected.len());
        for (number, expected) in self.expected.iter().enumerate() {
            assert_equal(&bits(cells(&found, number, self.k)), expected, format_args!("query {number}"));
        }
    }
}

/// A batch of rows as the index takes it.
struct Batch {
    ids: Vec<u64>,
    groups: Vec<u32>,
    expires_at: Vec<f64>,
    vectors: Vec<f32>,
}

fn noise(seed: u16) -> Noise {
    Noise((u64::from(seed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
}

impl Batch {
    fn draw(rows: &Rows, dim: usize) -> Self {
        let mut noise = noise(rows.seed);
        let noise = &mut noise;
        let count = rows.ids.count;
        let group = |noise: &mut Noise| match rows.groups {
            Spread::One(group) => group,
            Spread::Each(of) => Rows::draw_group(noise, of),
        };
        let moment = |noise: &mut Noise| match rows.expires_at {
            Spread::One(moment) => moment,
            Spread::Each(of) => Rows::draw_moment(noise, of),
        };
        Self {
            ids: rows.ids.all(noise),
            groups: (0..count).map(|_| group(noise)).collect(),
            expires_at: (0..count).map(|_| moment(noise)).collect(),
            vectors: (0..count).flat_map(|_| rows.shape.draw(noise, dim)).collect(),
        }
    }

    /// Passes what is one for all rows as one.
    fn upsert(&self, index: &Index, rows: &Rows) -> Result<(), Error> {
        let groups = match rows.groups {
            Spread::One(group) => PerRow::One(group),
            Spread::Each(_) => PerRow::Each(self.groups.as_slice()),
        };
        let expires_at = match rows.expires_at {
            Spread::One(moment) => PerRow::One(moment),
            Spread::Each(_) => PerRow::Each(self.expires_at.as_slice()),
        };
        index.upsert(&self.ids, self.vectors.clone(), groups, expires_at)
    }
}

struct Contents {
    dim: usize,
    oracle: Oracle,
    effort: usize,
}

/// Runs a scenario; panics where the index does not do what it promises.
pub fn run(scenario: &Scenario) {
    let kernels = available();
    let mut index = Index::with_kernel(scenario.dim, 1, kernels[scenario.kernel % kernels.len()]).unwrap();
    let mut contents = Contents { dim: scenario.dim, oracle: Oracle::default(), effort: EFFORT };
    let mut steps = scenario.steps.iter();
    while contents.run_until_reload(&index, &mut steps) {
        let file = Scratch::default();
        index.save(&file.0).unwrap();
        index = Index::load(&file.0).unwrap();
        assert_eq!(index.dim(), scenario.dim);
    }
    contents.check_all(&index);
}

impl Contents {
    /// Returns whether the steps stopped at a reload.
    fn run_until_reload(&mut self, index: &Index, steps: &mut Iter<'_, Step>) -> bool {
        let mut promises = Vec::new();
        let mut reload = false;
        for step in steps {
            match step {
                Step::Upsert(rows) => self.upsert(index, rows),
                Step::Remove { ids, seed } => self.remove(index, ids, *seed),
                Step::RemoveGroup(group) => {
                    let gone = self.forget(|_, entry| entry.group == *group);
                    assert_eq!(index.remove_group(*group).unwrap(), gone);
                }
                Step::RemoveExpired { now, limit } => self.remove_expired(index, *now, *limit),
                Step::Search(search) => {
                    let Some(promise) = self.plan(index, search) else { continue };
                    if search.later { promises.push(promise) } else { promise.keep() }
                }
                Step::Refused { rows, how } => self.refuse(index, rows, *how),
                Step::Reload => reload = true,
            }
            assert_eq!(index.entries().unwrap(), self.oracle.0.len());
            if reload {
                break;
            }
        }
        promises.into_iter().for_each(Promise::keep);
        reload
    }

    /// Forgets entries; returns how many.
    fn forget(&mut self, gone: impl Fn(u64, &Entry) -> bool) -> usize {
        let before = self.oracle.0.len();
        self.oracle.0.retain(|&id, entry| !gone(id, entry));
        before - self.oracle.0.len()
    }

    fn upsert(&mut self, index: &Index, rows: &Rows) {
        if self.oracle.0.len() + rows.ids.count > MOST_ROWS {
            return;
        }
        let batch = Batch::draw(rows, self.dim);
        batch.upsert(index, rows).unwrap();
        for (row, vector) in batch.vectors.chunks(self.dim).enumerate() {
            let entry = Entry { group: batch.groups[row], expires_at: batch.expires_at[row], vector: vector.to_vec() };
            self.oracle.0.insert(batch.ids[row], entry);
        }
    }

    fn remove(&mut self, index: &Index, ids: &Ids, seed: u16) {
        let ids = ids.all(&mut noise(seed));
        let before = self.oracle.0.len();
        ids.iter().for_each(|id| drop(self.oracle.0.remove(id)));
        assert_eq!(index.remove(&ids).unwrap(), before - self.oracle.0.len());
    }

    fn remove_expired(&mut self, index: &Index, now: f64, limit: usize) {
        let mut dead = self.forget(|_, entry| entry.expires_at <= now);
        loop {
            let removed = index.remove_expired(now, limit).unwrap();
            assert_eq!(removed, dead.min(limit));
            dead -= removed;
            if removed < limit {
                return;
            }
        }
    }

    fn refuse(&self, index: &Index, rows: &Rows, how: Refused) {
        let mut batch = Batch::draw(rows, self.dim);
        let last = rows.ids.count - 1;
        let mut rows = *rows;
        match how {
            Refused::NotFinite => batch.vectors[last * self.dim] = f32::NAN,
            Refused::Zero => batch.vectors[last * self.dim..].fill(0.0),
            Refused::MissingId => batch.ids[last] = MISSING,
            Refused::NoExpiry => {
                rows.expires_at = Spread::Each(1);
                batch.expires_at[last] = f64::NAN;
            }
            Refused::TooFewGroups => {
                rows.groups = Spread::Each(1);
                batch.groups.truncate(last);
            }
        }
        let result = batch.upsert(index, &rows);
        assert!(matches!(result, Err(Error::Invalid(_))), "{how:?}: {result:?}");
    }

    fn vector(&self, query: &Query) -> Vec<f32> {
        match query.target {
            Target::Drawn { shape, seed } => shape.draw(&mut noise(seed), self.dim),
            Target::Stored { nth, away, negated } => {
                let inside = || self.oracle.0.values().filter(|entry| entry.group == query.group);
                let nth = usize::from(nth) % inside().count().max(1);
                let stored = inside().nth(nth).map_or_else(|| vec![1.0; self.dim], |entry| entry.vector.clone());
                let away = away * stored.iter().fold(0.0, |most: f32, component| most.max(component.abs()));
                let noise = noise(query.group as u16 ^ nth as u16).vectors(1, self.dim);
                let moved: Vec<f32> = stored.iter().zip(noise).map(|(component, by)| component + by * away).collect();
                // Rounding may leave nothing of components that are not normal numbers.
                let vector = if moved.iter().all(|&component| component == 0.0) { stored } else { moved };
                if negated { vector.into_iter().map(|component| -component).collect() } else { vector }
            }
        }
    }

    /// Whether the oracle may be asked about so many queries more.
    fn afford(&mut self, queries: usize) -> bool {
        let cost = self.oracle.0.len() * self.dim * queries;
        let affordable = cost <= self.effort;
        self.effort = self.effort.saturating_sub(cost);
        affordable
    }

    /// Plans a search and asks the oracle for its answer.
    fn plan<'a>(&mut self, index: &'a Index, search: &Search) -> Option<Promise<'a>> {
        if !self.afford(search.queries.len() + 1) {
            return None;
        }
        let Search { k, now, .. } = *search;
        let vectors: Vec<Vec<f32>> = search.queries.iter().map(|query| self.vector(query)).collect();
        let groups: Vec<u32> = search.queries.iter().map(|query| query.group).collect();
        let threshold = match search.threshold {
            Threshold::Value(value) => value,
            Threshold::Score { rank, wide, narrow } => {
                let best = self.oracle.search(&vectors[0], groups[0], rank + 1, now, f64::NEG_INFINITY);
                let score = best.iter().rev().find(|cell| cell.0 != MISSING).map_or(0.0, |cell| cell.1);
                let score = f64::from(match narrow {
                    0 => score,
                    1.. => score.next_up(),
                    _ => score.next_down(),
                });
                match wide {
                    0 => score,
                    1.. => score.next_up(),
                    _ => score.next_down(),
                }
            }
        };
        let same = groups.iter().all(|&group| group == groups[0]);
        let request_groups = if same { PerRow::One(groups[0]) } else { PerRow::Each(groups.as_slice()) };
        let request = Request { groups: request_groups, k, now, threshold };
        let plan = index.plan(vectors.concat(), &request).unwrap();
        let answer = |(query, group): (&Vec<f32>, &u32)| bits(self.oracle.search(query, *group, k, now, threshold));
        Some(Promise { plan, k, expected: vectors.iter().zip(&groups).map(answer).collect() })
    }

    /// Every row of every group is found, and nothing else.
    fn check_all(&self, index: &Index) {
        let mut groups: BTreeMap<u32, Vec<(u64, &Entry)>> = BTreeMap::new();
        for (&id, entry) in &self.oracle.0 {
            groups.entry(entry.group).or_default().push((id, entry));
        }
        assert_eq!(index.stats().unwrap().groups, groups.len());
        let mut noise = noise(0);
        for (group, entries) in groups {
            let query = noise.vectors(1, self.dim);
            let k = entries.len() + 1;
            let request = Request { groups: PerRow::One(group), k, now: f64::NEG_INFINITY, threshold: -2.0 };
            let found = index.search(query.clone(), &request).unwrap();
            let expected = self.oracle.search(&query, group, k, request.now, request.threshold);
            assert_equal(&bits(cells(&found, 0, k)), &bits(expected), format_args!("group {group}"));
            self.check_rows(index, &request, &entries);
        }
    }

    /// Some rows of a group, others each time, are found by their own vectors: where nothing else comes near, a row
    /// that a wrong sketch excludes shows.
    fn check_rows(&self, index: &Index, request: &Request<'_>, entries: &[(u64, &Entry)]) {
        let apart = entries.len().div_ceil(SELF_QUERIES);
        let start = self.effort % apart;
        let last = entries.iter().rev().take(LAST);
        let chosen: Vec<_> = entries.iter().skip(start).step_by(apart).chain(last).collect();
        let queries = chosen.iter().flat_map(|(_, entry)| entry.vector.iter().copied()).collect();
        let found = index.search(queries, &Request { threshold: 0.999, ..*request }).unwrap();
        for (number, (id, entry)) in chosen.into_iter().enumerate() {
            let unit = unit(entry.vector.clone());
            let wide: Vec<f64> = unit.iter().copied().map(f64::from).collect();
            let own = (*id, (dot(&wide, &unit) as f32).to_bits());
            let alive = entry.expires_at > request.now;
            let seen = bits(cells(&found, number, request.k)).contains(&own);
            assert_eq!(seen, alive, "row {id} of a group of {}", entries.len());
        }
    }
}
