//! What must hold for any file: it is loaded if and only if it is well-formed, and then it is that index.

use std::fs;
use std::path::Path;

use simcore::index::{Error, Index, MISSING, PerRow, Request};
use simcore::kernel::portable::dot;

use crate::image::{Image, Row};
use crate::oracle::{Noise, cells, unit};
use crate::{Cells, Scratch, assert_equal, bits};

/// Rows of an image that are looked for.
const SEARCHED: usize = 3;
/// Below any score.
const NO_THRESHOLD: f64 = -2.0;

/// Loads `file` and checks what comes of it. `load` stands between for what one target measures.
pub fn check(file: &[u8], load: impl Fn(&Path) -> Result<Index, Error>) {
    let scratch = Scratch::default();
    let path = scratch.0.as_path();
    fs::write(path, file).unwrap();
    let loaded = load(path);
    let (image, index) = match (Image::read(file), loaded) {
        (Some(image), Ok(index)) => (image, index),
        (None, Err(Error::Invalid(_))) => return,
        (image, result) => panic!("well-formed: {}, but loading gave {result:?}", image.is_some()),
    };
    let stats = index.stats().unwrap();
    assert_eq!((stats.dim, stats.threads), (image.dim as usize, image.threads as usize));
    assert_eq!(stats.entries, image.rows.len());
    search(&index, &image);

    index.save(path).unwrap();
    let kept = Image::read(&fs::read(path).unwrap()).expect("a saved index is well-formed");
    assert_eq!((kept.dim, kept.threads), (image.dim, image.threads));
    assert!(kept.contents() == image.contents(), "rows are not kept to the bit");
    search(&Index::load(path).unwrap(), &image);
}

/// The answer to a query, from the rows as they stand in the file: the oracle of the tests would normalise them anew.
fn best(rows: &[Row], query: &[f32], group: u32, request: &Request<'_>) -> Cells {
    let query: Vec<f64> = unit(query.to_vec()).into_iter().map(f64::from).collect();
    let live = rows.iter().filter(|row| row.group == group && row.expires_at > request.now);
    let scored = live.map(|row| (row.id, dot(&query, &row.vector) as f32));
    let mut all: Vec<_> = scored.filter(|&(_, score)| f64::from(score) >= request.threshold).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.resize(request.k, (MISSING, f32::NEG_INFINITY));
    bits(all)
}

fn search(index: &Index, image: &Image) {
    let dim = image.dim as usize;
    let stored = image.rows.chunks(image.rows.len().div_ceil(SEARCHED).max(1)).filter_map(|part| part.last());
    let mut queries: Vec<(u32, Vec<f32>)> = stored.map(|row| (row.group, row.vector.clone())).collect();
    queries.push((image.rows.first().map_or(0, |row| row.group), Noise(7).vectors(1, dim)));
    let groups: Vec<u32> = queries.iter().map(|query| query.0).collect();
    let vectors: Vec<f32> = queries.iter().flat_map(|query| query.1.iter().copied()).collect();
    for (k, now, threshold) in
        [(1, 0.0, NO_THRESHOLD), (1, 1.0, 1.0), (5, 0.5, 0.7), (image.rows.len() + 1, f64::NEG_INFINITY, NO_THRESHOLD)]
    {
        let request = Request { groups: PerRow::Each(&groups), k, now, threshold };
        let found = index.search(vectors.clone(), &request).unwrap();
        for (number, (group, query)) in queries.iter().enumerate() {
            let expected = best(&image.rows, query, *group, &request);
            let what = format_args!("query {number}, k {k}, threshold {threshold}");
            assert_equal(&bits(cells(&found, number, k)), &expected, what);
        }
    }
}
