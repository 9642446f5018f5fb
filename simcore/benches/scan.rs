//! Time of one plain scan: `cargo bench --bench scan`. Prints JSON, the last line is the whole result.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use simcore::index::{Index, PerRow, Request};
use simcore::kernel::{Kernel, available};

/// As in what Python loads.
#[cfg(target_os = "linux")]
#[global_allocator]
static MEMORY: simcore::kernel::memory::Memory = simcore::kernel::memory::Memory::new();

const DIM: usize = 384;
const ROUNDS: usize = 7;

/// Components in (-1, 1) from xorshift64*; a scan's time does not depend on their distribution.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..count)
        .map(|_| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The least time of [`ROUNDS`] calls, in microseconds.
fn least<R>(mut call: impl FnMut() -> R) -> f64 {
    let once = |_| {
        let start = Instant::now();
        black_box(call());
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..ROUNDS).map(once).fold(f64::INFINITY, f64::min)
}

/// One block of rows that stays in the processor's cache.
fn kernel_us(kernel: &dyn Kernel) -> f64 {
    let rows = noise(64 * DIM);
    let query: Vec<f64> = rows.iter().take(DIM).copied().map(f64::from).collect();
    let mut scores = vec![0.0; 64];
    least(|| kernel.score_rows(black_box(&query), &rows, &mut scores))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut parts: Vec<String> = available()
        .into_iter()
        .map(|kernel| format!("\"kernel_{}_64_rows_us\": {:.2}", kernel.name(), kernel_us(kernel)))
        .collect();
    let query = noise(DIM);
    for rows in [10_u64, 1_000, 10_000, 100_000] {
        let ids: Vec<u64> = (0..rows).collect();
        let index = Index::new(DIM, 1)?;
        let vectors = noise(ids.len() * DIM);
        let start = Instant::now();
        index.upsert(&ids, vectors, PerRow::One(0), PerRow::One(f64::INFINITY))?;
        let build = start.elapsed().as_secs_f64() * 1e6 / rows as f64;
        let request = Request { groups: PerRow::One(0), k: 4, now: 0.0, threshold: -1.0 };
        let search = least(|| index.search(query.clone(), &request));
        let put = least(|| index.upsert(&[0], query.clone(), PerRow::One(0), PerRow::One(f64::INFINITY)));
        parts.push(format!(
            "\"rows_{rows}\": {{\"search_us\": {search:.1}, \"build_us_per_row\": {build:.2}, \"upsert_one_us\": {put:.1}}}"
        ));
    }
    println!("{{\"dim\": {DIM}, {}}}", parts.join(", "));
    Ok(())
}
