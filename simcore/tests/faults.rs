//! Wrong input, panics and concurrency.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod oracle;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use oracle::{Noise, cells, unit};
use simcore::index::{Error, Index, MAX_CELLS, MISSING, PerRow, Request};
use simcore::kernel::portable::dot;

type Call = fn(&Index) -> Result<(), Error>;

const ALWAYS: PerRow<'static, f64> = PerRow::One(f64::INFINITY);

fn request(k: usize) -> Request<'static> {
    Request { groups: PerRow::One(0), k, now: 0.0, threshold: -1.0 }
}

fn one_row() -> Index {
    let index = Index::new(2, 1).unwrap();
    index.upsert(&[1], vec![1.0, 0.0], PerRow::One(0), ALWAYS).unwrap();
    index
}

#[test]
fn wrong_input_is_refused_and_changes_nothing() {
    let index = one_row();
    let upsert = |ids: &[u64], vectors: &[f32]| index.upsert(ids, vectors.to_vec(), PerRow::One(0), ALWAYS);
    let refused = [
        upsert(&[2], &[1.0]),
        upsert(&[2], &[1.0, 2.0, 3.0]),
        upsert(&[2, 3], &[1.0, 0.0, 0.0, 0.0]),
        upsert(&[2, 3], &[1.0, 0.0, f32::NAN, 0.0]),
        upsert(&[2, 3], &[1.0, 0.0, f32::INFINITY, 0.0]),
        upsert(&[2, MISSING], &[1.0, 0.0, 1.0, 0.0]),
        index.upsert(&[2], vec![1.0, 0.0], PerRow::Each(&[]), ALWAYS),
        index.upsert(&[2], vec![1.0, 0.0], PerRow::One(0), PerRow::One(f64::NAN)),
        index.upsert(&[2], vec![1.0, 0.0], PerRow::One(0), PerRow::Each(&[1.0, 2.0])),
        index.search(vec![0.0, 0.0], &request(1)).map(drop),
        index.search(vec![1.0], &request(1)).map(drop),
        index.search(vec![1.0, 0.0], &request(MAX_CELLS + 1)).map(drop),
        index.search(vec![1.0, 0.0], &request(usize::MAX)).map(drop),
        index.search(vec![1.0, 0.0], &Request { now: f64::NAN, ..request(1) }).map(drop),
        index.search(vec![1.0, 0.0], &Request { threshold: f64::NAN, ..request(1) }).map(drop),
        index.remove_expired(f64::NAN, 1).map(drop),
        Index::new(0, 1).map(drop),
        Index::new(usize::MAX, 1).map(drop),
        Index::new(8, 0).map(drop),
        Index::new(8, usize::MAX).map(drop),
    ];
    for (number, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Invalid(_))), "case {number}: {result:?}");
    }
    assert_eq!(index.entries().unwrap(), 1);
    assert_eq!(index.search(vec![3.0, 0.0], &request(2)).unwrap().ids, [1, MISSING]);
    assert!(index.search(vec![3.0, 0.0], &request(0)).unwrap().ids.is_empty());
}

#[test]
fn a_panic_is_one_error_and_then_the_index_is_quarantined() {
    let calls: [Call; 4] = [
        |index| index.upsert(&[2], vec![0.0, 1.0], PerRow::One(0), ALWAYS),
        |index| index.remove(&[1]).map(drop),
        |index| index.remove_group(0).map(drop),
        |index| index.search(vec![1.0, 0.0], &request(1)).map(drop),
    ];
    for faulty in calls {
        let index = one_row();
        index.inject_panic();
        assert!(matches!(faulty(&index), Err(Error::Poisoned(_))));
        for call in calls {
            assert!(matches!(call(&index), Err(Error::Quarantined)));
        }
        assert!(matches!(index.entries(), Err(Error::Quarantined)));
        assert!(matches!(index.stats(), Err(Error::Quarantined)));
        assert!(matches!(index.save("never-written".as_ref()), Err(Error::Quarantined)));
    }
}

#[test]
fn a_poisoned_lock_is_recovered() {
    let index = one_row();
    index.inject_poison();
    assert_eq!(index.search(vec![1.0, 0.0], &request(1)).unwrap().ids, [1]);
    index.upsert(&[2], vec![0.0, 1.0], PerRow::One(0), ALWAYS).unwrap();
    assert_eq!(index.entries().unwrap(), 2);
}

#[test]
fn of_many_callers_at_once_one_learns_of_the_fault_first() {
    for _ in 0..50 {
        let index = one_row();
        let start = Barrier::new(8);
        index.inject_panic();
        let poisoned: usize = thread::scope(|scope| {
            let call = |id| {
                start.wait();
                let results = (0..20).map(|_| index.upsert(&[id], vec![0.0, 1.0], PerRow::One(0), ALWAYS));
                results.filter(|result| matches!(result, Err(Error::Poisoned(_)))).count()
            };
            let handles: Vec<_> = (0..8).map(|id| scope.spawn(move || call(id))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).sum()
        });
        assert_eq!(poisoned, 1);
        assert!(matches!(index.entries(), Err(Error::Quarantined)));
    }
}

#[test]
fn a_search_sees_one_state_while_others_write() {
    let (dim, rows) = (4, 300_u64);
    let index = Index::new(dim, 1).unwrap();
    let publish = |generation: u64, noise: &mut Noise| {
        let ids: Vec<u64> = (0..rows).collect();
        let expires = PerRow::One((generation + 1) as f64);
        index.upsert(&ids, noise.vectors(ids.len(), dim), PerRow::One(0), expires).unwrap();
    };
    let mut noise = Noise(8);
    publish(0, &mut noise);
    thread::scope(|scope| {
        let writer = scope.spawn(|| (1..400).for_each(|generation| publish(generation, &mut noise)));
        let mut queries = Noise(2);
        let mut searches = 0;
        while !writer.is_finished() || searches < 50 {
            // All rows expire together, so at any `now` a consistent state has all of them or none.
            let at = Request { now: queries.below(400) as f64, ..request(rows as usize) };
            let found = index.search(queries.vectors(1, dim), &Request { threshold: -2.0, ..at }).unwrap();
            let live = found.ids.iter().filter(|&&id| id != MISSING).count();
            assert!(live == 0 || live == rows as usize, "{live} rows of a torn state");
            searches += 1;
        }
    });
}

#[test]
fn a_search_beside_a_writer_answers_for_a_state_that_there_was() {
    let (dim, rows, changes) = (16, 4500_u64, 80);
    let mut noise = Noise(21);
    // What is stored of a row: it is normalised when it comes in.
    let given: Vec<Vec<f32>> = (0..rows).map(|_| noise.vectors(1, dim)).collect();
    let mut state: Vec<Vec<f32>> = given.iter().cloned().map(unit).collect();
    let index = Index::new(dim, 1).unwrap();
    let ids: Vec<u64> = (0..rows).collect();
    index.upsert(&ids, given.concat(), PerRow::One(0), ALWAYS).unwrap();
    // Every state there will be, and the change that leads to each.
    let mut states = vec![state.clone()];
    let mut batches = Vec::new();
    for _ in 0..changes {
        let ids: Vec<u64> = (0..256).map(|_| noise.below(rows)).collect();
        let vectors: Vec<Vec<f32>> = ids.iter().map(|_| noise.vectors(1, dim)).collect();
        for (&id, vector) in ids.iter().zip(&vectors) {
            state[id as usize] = unit(vector.clone());
        }
        batches.push((ids, vectors.concat()));
        states.push(state.clone());
    }
    let published = AtomicUsize::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (ids, vectors) in batches {
                index.upsert(&ids, vectors, PerRow::One(0), ALWAYS).unwrap();
                published.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut queries = Noise(22);
        let mut searches = 0;
        while !writer.is_finished() || searches < 20 {
            let query = queries.vectors(1, dim);
            let first = published.load(Ordering::SeqCst);
            let threshold = [-1.0, 0.6, 0.8][searches % 3];
            let found = index.search(query.clone(), &Request { threshold, ..request(5) }).unwrap();
            // One more may be visible than has been counted.
            let last = (published.load(Ordering::SeqCst) + 1).min(changes);
            let wide: Vec<f64> = unit(query).into_iter().map(f64::from).collect();
            let answers = states[first..=last].iter().map(|state| {
                let scored = (0..).zip(state).map(|(id, row): (u64, _)| (id, dot(&wide, row) as f32));
                let mut all: Vec<_> = scored.filter(|&(_, score)| f64::from(score) >= threshold).collect();
                all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
                all.resize(5, (MISSING, f32::NEG_INFINITY));
                all
            });
            let found = cells(&found, 0, 5);
            assert!(answers.into_iter().any(|answer| answer == found), "no state from {first} to {last} answers so");
            searches += 1;
        }
    });
}
