//! Sequences of changes: every search equals the oracle, and memory follows the contents.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod oracle;

use oracle::{Entry, Noise, Oracle, cells};
use simcore::index::{Index, PerRow, Request};

fn check(index: &Index, oracle: &Oracle, noise: &mut Noise, dim: usize) {
    let count = noise.below(4) as usize;
    let queries: Vec<f32> = (0..count).flat_map(|_| noise.coarse_vector(dim)).collect();
    let groups: Vec<u32> = (0..count).map(|_| noise.below(5) as u32).collect();
    let k = noise.below(9) as usize;
    let (now, threshold) = (noise.below(10) as f64, noise.below(5) as f64 / 2.0 - 1.0);
    let request = Request { groups: PerRow::Each(&groups), k, now, threshold };
    let found = index.search(queries.clone(), &request).unwrap();
    for (number, query) in queries.chunks(dim).enumerate() {
        assert_eq!(cells(&found, number, k), oracle.search(query, groups[number], k, now, threshold));
    }
}

#[test]
fn searches_equal_the_oracle_after_any_sequence_of_changes() {
    for seed in 1..=12 {
        let mut noise = Noise(seed);
        let dim = [1, 3, 8, 13][seed as usize % 4];
        let index = Index::new(dim, 1).unwrap();
        let mut oracle = Oracle::default();
        for _ in 0..300 {
            match noise.below(8) {
                0 => {
                    let ids: Vec<u64> = (0..noise.below(40)).map(|_| noise.below(400)).collect();
                    let before = oracle.0.len();
                    ids.iter().for_each(|id| drop(oracle.0.remove(id)));
                    assert_eq!(index.remove(&ids).unwrap(), before - oracle.0.len());
                }
                1 if noise.below(4) == 0 => {
                    let group = noise.below(5) as u32;
                    let before = oracle.0.len();
                    oracle.0.retain(|_, entry| entry.group != group);
                    assert_eq!(index.remove_group(group).unwrap(), before - oracle.0.len());
                }
                _ => {
                    let count = noise.below(90) as usize;
                    let ids: Vec<u64> = (0..count).map(|_| noise.below(400)).collect();
                    let groups: Vec<u32> = (0..count).map(|_| noise.below(4) as u32).collect();
                    let expires: Vec<f64> = (0..count).map(|_| noise.below(10) as f64).collect();
                    let vectors: Vec<f32> = (0..count).flat_map(|_| noise.coarse_vector(dim)).collect();
                    index.upsert(&ids, vectors.clone(), PerRow::Each(&groups), PerRow::Each(&expires)).unwrap();
                    for (row, vector) in vectors.chunks(dim).enumerate() {
                        let entry = Entry { group: groups[row], expires_at: expires[row], vector: vector.to_vec() };
                        oracle.0.insert(ids[row], entry);
                    }
                }
            }
            assert_eq!(index.entries().unwrap(), oracle.0.len());
            check(&index, &oracle, &mut noise, dim);
        }
    }
}

#[test]
fn memory_follows_the_contents() {
    let dim = 16;
    let index = Index::new(dim, 1).unwrap();
    let mut noise = Noise(5);
    let full: Vec<u64> = (0..1000).collect();
    let fill = |noise: &mut Noise, group: u32| {
        index.upsert(&full, noise.vectors(1000, dim), PerRow::One(group), PerRow::One(f64::INFINITY)).unwrap();
        index.stats().unwrap()
    };
    let first = fill(&mut noise, 0);
    assert_eq!((first.groups, first.blocks, first.entries), (1, 16, 1000));
    assert!(first.bytes < 1000 * (dim * 4 + 64), "{first:?}");
    for round in 1..200 {
        let stats = fill(&mut noise, round);
        assert_eq!((stats.groups, stats.blocks), (1, 16), "the old group is reclaimed");
        assert!(stats.bytes <= first.bytes * 5 / 4, "round {round}: {stats:?} after {first:?}");
    }
    assert_eq!(index.remove(&full).unwrap(), 1000);
    let empty = index.stats().unwrap();
    assert_eq!((empty.groups, empty.blocks, empty.entries), (0, 0, 0));
    assert!(empty.bytes < 1024, "{empty:?}");
}

#[test]
fn churn_at_constant_size_takes_no_more_memory_and_dead_rows_give_theirs_back() {
    let (dim, rows) = (64, 2000_u64);
    let index = Index::new(dim, 1).unwrap();
    let mut noise = Noise(6);
    let mut first = 0;
    for round in 0..120_u64 {
        // Each round adds rows that outlive it by nine rounds, to a large group and to small ones.
        let ids: Vec<u64> = (round * rows / 10..(round + 1) * rows / 10).collect();
        let groups: Vec<u32> = ids.iter().map(|id| if id % 3 == 0 { *id as u32 } else { 0 }).collect();
        let vectors = noise.vectors(ids.len(), dim);
        index.upsert(&ids, vectors, PerRow::Each(&groups), PerRow::One((round + 10) as f64)).unwrap();
        let dead = if round < 10 { 0 } else { rows as usize / 10 };
        assert_eq!(index.remove_expired(round as f64, 150).unwrap(), dead.min(150));
        assert_eq!(index.remove_expired(round as f64, 150).unwrap(), dead.saturating_sub(150));
        let stats = index.stats().unwrap();
        if round == 19 {
            first = stats.bytes;
        }
        assert!(round < 20 || (stats.entries == rows as usize && stats.bytes < first * 5 / 4), "{round}: {stats:?}");
    }
    assert_eq!(index.remove_expired(f64::MAX, usize::MAX).unwrap(), rows as usize);
    let empty = index.stats().unwrap();
    assert_eq!((empty.groups, empty.blocks, empty.entries), (0, 0, 0));
}

#[test]
fn groups_that_grow_and_shrink_through_all_sizes_answer_like_brute_force() {
    let dim = 72;
    let mut noise = Noise(12);
    let centres: Vec<Vec<f32>> = (0..30).map(|_| noise.vectors(1, dim)).collect();
    let near = |noise: &mut Noise| -> Vec<f32> {
        let centre = &centres[noise.below(30) as usize];
        let spread = [0.1, 0.4, 1.0][noise.below(3) as usize];
        centre.iter().zip(noise.vectors(1, dim)).map(|(&c, away)| c + away * spread).collect()
    };
    let index = Index::new(dim, 1).unwrap();
    let mut oracle = Oracle::default();
    let compare = |oracle: &Oracle, noise: &mut Noise| {
        for threshold in [-1.0, 0.5, 0.8, 0.95] {
            let query = near(noise);
            let request = Request { groups: PerRow::One(3), k: 5, now: 0.0, threshold };
            let found = index.search(query.clone(), &request).unwrap();
            let rows = oracle.0.len();
            assert_eq!(cells(&found, 0, 5), oracle.search(&query, 3, 5, 0.0, threshold), "{rows} rows");
        }
    };
    // Sketches from 256 rows on, a basis from 4,096, another from 32,768; and the way back.
    let sizes = [20, 60, 255, 257, 1500, 4095, 4097, 5000, 32_000, 33_000, 36_000];
    for size in sizes {
        let ids: Vec<u64> = (oracle.0.len() as u64..size).collect();
        for ids in ids.chunks(3000) {
            let vectors: Vec<f32> = ids.iter().flat_map(|_| near(&mut noise)).collect();
            index.upsert(ids, vectors.clone(), PerRow::One(3), PerRow::One(f64::INFINITY)).unwrap();
            for (&id, vector) in ids.iter().zip(vectors.chunks(dim)) {
                oracle.0.insert(id, Entry { group: 3, expires_at: f64::INFINITY, vector: vector.to_vec() });
            }
            compare(&oracle, &mut noise);
        }
    }
    for size in [34_000, 8000, 1025, 1020, 300, 129, 127, 40, 5, 0] {
        let most = oracle.0.len() - size;
        let gone: Vec<u64> = oracle.0.keys().copied().step_by(oracle.0.len() / most).take(most).collect();
        for gone in gone.chunks(5000) {
            assert_eq!(index.remove(gone).unwrap(), gone.len());
            gone.iter().for_each(|id| drop(oracle.0.remove(id)));
            compare(&oracle, &mut noise);
        }
        assert_eq!(index.entries().unwrap(), size);
    }
}

#[test]
fn groups_without_a_spread_of_their_own_answer_like_brute_force() {
    let rows = 4200;
    for dim in [8, 100, 200] {
        let mut noise = Noise(31);
        let one = noise.vectors(1, dim);
        type Rows<'a> = Box<dyn FnMut(usize, &mut Noise) -> Vec<f32> + 'a>;
        let kinds: [Rows<'_>; 5] = [
            Box::new(|_, _| one.clone()),
            Box::new(|row, _| one.iter().map(|c| if row % 2 == 0 { *c } else { -c }).collect()),
            Box::new(|row, _| (0..dim).map(|at| f32::from(u8::from(at == row % dim))).collect()),
            Box::new(|_, noise| one.iter().zip(noise.vectors(1, dim)).map(|(c, n)| c + n * 1e-6).collect()),
            // All but the last rows are one: a basis that knows nothing of those.
            Box::new(|row, noise| if row < 4150 { one.clone() } else { noise.vectors(1, dim) }),
        ];
        for (kind, mut row) in kinds.into_iter().enumerate() {
            let index = Index::new(dim, 1).unwrap();
            let mut oracle = Oracle::default();
            let vectors: Vec<Vec<f32>> = (0..rows).map(|number| row(number, &mut noise)).collect();
            let ids: Vec<u64> = (0..rows as u64).collect();
            index.upsert(&ids, vectors.concat(), PerRow::One(0), PerRow::One(f64::INFINITY)).unwrap();
            for (&id, vector) in ids.iter().zip(&vectors) {
                oracle.0.insert(id, Entry { group: 0, expires_at: f64::INFINITY, vector: vector.clone() });
            }
            for query in [one.clone(), vectors[7].clone(), vectors[4190].clone(), noise.vectors(1, dim)] {
                for threshold in [-1.0, 0.3, 0.9, 0.999_999] {
                    let request = Request { groups: PerRow::One(0), k: 3, now: 0.0, threshold };
                    let found = index.search(query.clone(), &request).unwrap();
                    let expected = oracle.search(&query, 0, 3, 0.0, threshold);
                    assert_eq!(cells(&found, 0, 3), expected, "kind {kind}, dim {dim}, {threshold}");
                }
            }
        }
    }
}

#[test]
fn threads_change_nothing_about_the_answer() {
    let (dim, rows) = (256, 70_000_u64);
    let mut noise = Noise(9);
    let ids: Vec<u64> = (0..rows).collect();
    // A small group on both sides of a large one, so that shares begin and end inside of groups.
    let groups: Vec<u32> = ids.iter().map(|id| if id % 100 == 0 { 1 } else { 3 - (id % 1000 / 999) as u32 }).collect();
    let vectors = noise.vectors(ids.len(), dim);
    let queries = noise.vectors(6, dim);
    let answer = |threads| {
        let index = Index::new(dim, threads).unwrap();
        index.upsert(&ids, vectors.clone(), PerRow::Each(&groups), PerRow::One(f64::INFINITY)).unwrap();
        let request = Request { groups: PerRow::Each(&[3, 1, 2, 3, 9, 1]), k: 50, now: 0.0, threshold: 0.1 };
        let plan = index.plan(queries.clone(), &request).unwrap();
        assert!(plan.work() > 4 << 20, "enough work for several threads");
        plan.run().unwrap()
    };
    let alone = answer(1);
    for threads in [2, 5] {
        let together = answer(threads);
        assert_eq!((together.ids, together.scores), (alone.ids.clone(), alone.scores.clone()));
    }
}
