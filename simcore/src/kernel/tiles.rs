//! How products of many rows with many vectors are shared out: tiles whose sums fit in registers.

/// Writes the products of each vector with all rows, those of the first vector first.
///
/// `many` multiplies `R` rows with `V` vectors, `alone` the rows of one of the last vectors; what goes beyond the last row
/// repeats it and is thrown away.
pub(super) fn products<const R: usize, const V: usize, const A: usize>(
    (rows, vectors, dim): (&[f32], &[f32], usize),
    products: &mut [f32],
    many: impl Fn([&[f32]; R], [&[f32]; V]) -> [[f32; R]; V],
    alone: impl Fn([&[f32]; A], [&[f32]; 1]) -> [[f32; A]; 1],
) {
    let count = rows.len() / dim;
    let row = |number: usize| &rows[number * dim..(number + 1) * dim];
    let (some, rest) = vectors.split_at(vectors.len() / dim / V * V * dim);
    let (some_products, rest_products) = products.split_at_mut(some.len() / dim * count);
    for (vectors, products) in some.chunks_exact(V * dim).zip(some_products.chunks_exact_mut(V * count)) {
        for first in (0..count).step_by(R) {
            let rows = std::array::from_fn(|next| row((first + next).min(count - 1)));
            let found = many(rows, std::array::from_fn(|number| &vectors[number * dim..(number + 1) * dim]));
            for (number, found) in found.iter().enumerate() {
                let end = count.min(first + R);
                products[number * count + first..number * count + end].copy_from_slice(&found[..end - first]);
            }
        }
    }
    for (vector, products) in rest.chunks_exact(dim).zip(rest_products.chunks_exact_mut(count)) {
        for (first, products) in (0..count).step_by(A).zip(products.chunks_mut(A)) {
            let rows = std::array::from_fn(|next| row((first + next).min(count - 1)));
            let [found] = alone(rows, [vector]);
            products.copy_from_slice(&found[..products.len()]);
        }
    }
}
