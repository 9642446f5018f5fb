//! Every kernel of this machine does what the specification says.

use super::further::{BlockSigns, Doubt, FurtherLook, RowSigns};
use super::levels::{self, FINE, LevelCodes, LevelLook, PER_LINE};
use super::signs::{Bar, Layout, SignCodes, SignLook, TRIPLE, place};
use super::{BLOCK, ByteQuery, Line, PARTIAL_SUMS, available, portable};

fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn every_component_has_one_place_in_a_layout() {
    for layout in [Layout::Nibbles, Layout::Sixes] {
        let lines = 4 * TRIPLE;
        let groups = 0..layout.groups(lines);
        let mut all: Vec<usize> =
            groups.flat_map(|group| (0..layout.bits()).map(move |bit| layout.component(group, bit))).collect();
        all.sort_unstable();
        assert_eq!(all, (0..lines * 8).collect::<Vec<_>>());
    }
}

#[test]
fn all_kernels_pass_the_specified_rows() {
    let mut state = 7;
    for lines in [9, 18, 24, 48, 51 * 9, 513] {
        for round in 0..24 {
            let blocks = 1 + round % 3;
            let codes: Vec<Line> =
                (0..lines * blocks).map(|_| Line(std::array::from_fn(|_| noise(&mut state) as u8))).collect();
            let cosines: Vec<[f32; BLOCK]> = (0..blocks)
                .map(|_| std::array::from_fn(|_| 0.7 + (noise(&mut state) % 1000) as f32 / 4000.0))
                .collect();
            let least: Vec<f32> = cosines.iter().map(|some| some.iter().copied().fold(1.0, f32::min)).collect();
            let codes = SignCodes { lines: &codes, cosines: &cosines, least: &least };
            for kernel in available() {
                let layout = kernel.layout();
                let groups = layout.groups(lines);
                let most = (65_535 / groups as u64).min(127);
                let size = 1 << layout.bits();
                let tables: Vec<Vec<u8>> = (0..1 + round % 7)
                    .map(|_| (0..groups * size).map(|_| (noise(&mut state) % (most + 1)) as u8).collect())
                    .collect();
                let mean = (most as usize * groups / 2) as f32;
                let looks: Vec<SignLook<'_>> = (0..)
                    .zip(&tables)
                    .map(|(query, table)| {
                        let straight = mean * (1.2 + (query * 5 + round) as f32 / 100.0);
                        let bar = Bar { straight, across: mean * 0.3, offset: round as f32 - 20.0 };
                        SignLook { table, bar }
                    })
                    .collect();
                let expected: Vec<u64> = looks
                    .iter()
                    .flat_map(|look| {
                        codes.blocks().map(move |block| {
                            let passes = |slot: usize| {
                                let component = |number: usize| {
                                    usize::from(block.lines[number / 8].0[place(slot)] >> (number % 8) & 1)
                                };
                                let sum: u32 = (0..groups)
                                    .map(|group| {
                                        let bit = |bit| component(layout.component(group, bit)) << bit;
                                        let pattern: usize = (0..layout.bits()).map(bit).sum();
                                        u32::from(look.table[group * size + pattern])
                                    })
                                    .sum();
                                sum as f32 + look.bar.offset >= look.bar.required(block.cosines[slot])
                            };
                            (0..BLOCK).map(|slot| u64::from(passes(slot)) << slot).sum()
                        })
                    })
                    .collect();
                let mut masks = vec![1; looks.len() * blocks];
                kernel.signs(&looks, &codes, &mut masks);
                assert_eq!(masks, expected, "{} {lines}", kernel.name());
                assert!(round > 0 || masks.iter().any(|&mask| mask != 0 && mask != u64::MAX), "{lines}");
            }
        }
    }
}

#[test]
fn all_kernels_give_the_same_products_of_bytes() {
    let mut state = 9;
    for width in [64, 128, 192, 384, 4096] {
        for extreme in [false, true] {
            let mut byte = || if extreme { [-127, 127][noise(&mut state) as usize % 2] } else { (noise(&mut state) % 255) as i32 - 127 } as i8;
            let query: Vec<i8> = (0..width).map(|_| byte()).collect();
            let rows: Vec<i8> = (0..width * 67).map(|_| byte()).collect();
            let lines: Vec<Line> =
                rows.as_chunks().0.iter().map(|line: &[i8; 64]| Line(line.map(i8::cast_unsigned))).collect();
            let expected: Vec<i32> = rows
                .chunks(width)
                .map(|row| row.iter().zip(&query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum())
                .collect();
            for kernel in available() {
                for count in [1, 2, 3, 64, 67] {
                    let mut dots = vec![0; count];
                    kernel.dot_bytes(&ByteQuery::new(&query), &lines[..count * width / 64], &mut dots);
                    assert_eq!(dots, expected[..count], "{} {width}", kernel.name());
                }
            }
        }
    }
}

#[test]
fn all_kernels_give_the_specified_scores_to_the_bit() {
    let mut state = 11;
    for dim in [1, 3, 7, 8, 9, 15, 16, 17, 100, 383, 384, 1536, 4096] {
        for rows in [1, 2, 3, 4, 5, 9, 64] {
            let mut component =
                || (noise(&mut state) as f32 / (1_u64 << 31) as f32 - 0.5) * [1e-30, 1.0][(dim + rows) % 2];
            let query: Vec<f64> = (0..dim).map(|_| f64::from(component())).collect();
            let vectors: Vec<f32> = (0..dim * rows).map(|_| component()).collect();
            let expected: Vec<u32> =
                vectors.chunks(dim).map(|row| (portable::dot(&query, row) as f32).to_bits()).collect();
            for kernel in available() {
                let mut scores = vec![0.0_f32; rows];
                kernel.score_rows(&query, &vectors, &mut scores);
                let bits: Vec<u32> = scores.iter().map(|score| score.to_bits()).collect();
                assert_eq!(bits, expected, "{} {dim}x{rows}", kernel.name());
            }
        }
    }
}

#[test]
fn all_kernels_pass_the_rows_whose_levels_reach() {
    let mut state = 5;
    for components in [8, 16, 64, 72, 128] {
        for round in 0..40 {
            let blocks = 1 + round % 3;
            let extreme = round % 5 == 0;
            let rows: Vec<(Vec<u8>, [u8; 2])> = (0..blocks * BLOCK)
                .map(|_| {
                    let mut level = || if extreme { 15 } else { (noise(&mut state) % 16) as u8 };
                    let levels = (0..components).map(|_| level()).collect();
                    (levels, if extreme { [255; 2] } else { [0, 1].map(|_| noise(&mut state) as u8) })
                })
                .collect();
            let per_block = levels::lines_per_block(components);
            assert_eq!(per_block, components / PER_LINE * 4 + 2);
            let mut lines = vec![Line::default(); per_block * blocks];
            for (number, (levels, left_out)) in rows.iter().enumerate() {
                // Written over another code, as a change does.
                let block = &mut lines[number / BLOCK * per_block..][..per_block];
                levels::write(block, number % BLOCK, &vec![9; components], [7; 2]).unwrap();
                levels::write(block, number % BLOCK, levels, *left_out).unwrap();
            }
            let weights: Vec<Vec<i8>> = (0..1 + round % 7)
                .map(|_| {
                    let weight = |_| if extreme { 127 } else { (noise(&mut state) % 255) as i32 - 127 };
                    (0..components).map(weight).map(|weight| weight as i8).collect()
                })
                .collect();
            let of_left = if extreme { [i16::MAX; 2] } else { [0, 1].map(|_| (noise(&mut state) % 32_768) as i16) };
            let sum = |weights: &[i8], (levels, left_out): &(Vec<u8>, [u8; 2])| {
                let products = weights.iter().zip(levels).map(|(&w, &l)| i32::from(w) * i32::from(l));
                let left = [0, 1].map(|part| i32::from(of_left[part]) * i32::from(left_out[part]));
                FINE * products.sum::<i32>() + left[0] + left[1]
            };
            let looks: Vec<LevelLook<'_>> = weights
                .iter()
                .map(|weights| {
                    // What some row just reaches.
                    let least = sum(weights, &rows[noise(&mut state) as usize % rows.len()]);
                    LevelLook { weights, of_left, least }
                })
                .collect();
            let expected: Vec<u64> = looks
                .iter()
                .flat_map(|look| {
                    rows.chunks(BLOCK).map(move |block| {
                        let reaches = |row| u64::from(sum(look.weights, row) >= look.least);
                        (0..).zip(block).map(|(slot, row)| reaches(row) << slot).sum()
                    })
                })
                .collect();
            for kernel in available() {
                let mut masks = vec![1; looks.len() * blocks];
                let mut sums = vec![[0; BLOCK]; masks.len()];
                kernel.levels(&looks, &LevelCodes::new(&lines, components), &mut masks, &mut sums);
                assert_eq!(masks, expected, "{} {components}", kernel.name());
                for (number, (&mask, sums)) in masks.iter().zip(&sums).enumerate() {
                    let (look, block) = (&looks[number / blocks], &rows[number % blocks * BLOCK..][..BLOCK]);
                    for slot in (0..BLOCK).filter(|slot| mask >> slot & 1 == 1) {
                        assert_eq!(sums[slot], sum(look.weights, &block[slot]), "{}", kernel.name());
                    }
                }
            }
        }
    }
}

#[test]
fn all_kernels_project_within_the_stated_error() {
    const ROWS: usize = 13;
    const VECTORS: usize = 7;
    let mut state = 3;
    for dim in [1, 8, 31, 32, 33, 100, 384, 1536, 4096] {
        let mut component = || noise(&mut state) as f32 / (1_u64 << 31) as f32 - 0.5;
        let vectors: Vec<f32> = (0..dim * VECTORS).map(|_| component()).collect();
        let rows: Vec<f32> = (0..dim * ROWS).map(|_| component()).collect();
        let length = |some: &[f32]| some.iter().map(|&c| f64::from(c) * f64::from(c)).sum::<f64>().sqrt();
        for kernel in available() {
            let mut products = vec![9.0; ROWS * VECTORS];
            kernel.project(&rows, &vectors, dim, &mut products);
            for (number, &product) in products.iter().enumerate() {
                let (row, vector) = (&rows[number % ROWS * dim..][..dim], &vectors[number / ROWS * dim..][..dim]);
                let exact: f64 = row.iter().zip(vector).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let allowed = (dim / PARTIAL_SUMS + 2 * PARTIAL_SUMS + 8) as f64 * 2_f64.powi(-24);
                assert!((f64::from(product) - exact).abs() <= allowed * length(row) * length(vector), "{dim}");
            }
        }
    }
}

#[test]
fn all_kernels_keep_the_rows_whose_signs_reach() {
    let mut state = 13;
    for round in 0..60 {
        let weights = std::array::from_fn(|_| match round % 3 {
            0 => [-127, 127][noise(&mut state) as usize % 2],
            1 => 127,
            _ => (noise(&mut state) % 255) as i32 as i8,
        });
        let weights = weights.map(|weight: i8| weight.max(-127));
        let mut part = || noise(&mut state) as f32 / (1_u64 << 31) as f32;
        let look = FurtherLook {
            weights,
            total: weights.iter().copied().map(i32::from).sum(),
            sum: part() * 1e-4,
            fixed: part() - 0.5,
            vertex: part() * 1e-5,
            lost: part() * 1e-4,
            beside: part() * 1e-3,
            outside: part() * 1e-3,
            replaced: part() * 1e-3,
        };
        let mut byte = || noise(&mut state) as u8;
        let rows: Vec<RowSigns> = (0..100)
            .map(|_| RowSigns {
                bits: std::array::from_fn(|_| if round % 3 == 1 { 255 } else { byte() }),
                along: byte(),
                beside: byte(),
                outside: byte(),
                replaced: byte(),
            })
            .collect();
        let doubts: Vec<Doubt> = (0..round)
            .map(|_| Doubt { number: noise(&mut state) as u32 % 100, sum: noise(&mut state) as i32 % 10_000 })
            .collect();
        let most = |doubt: &Doubt| {
            let row = &rows[doubt.number as usize];
            let bit = |at: usize| i32::from(row.bits[at / 8] >> (at % 8) & 1);
            let set: i32 = (0..64).map(|at| bit(at) * i32::from(weights[at])).sum();
            look.most(*doubt, row, set)
        };
        let blocks: Vec<BlockSigns> =
            rows.chunks(BLOCK).map(|some| BlockSigns(std::array::from_fn(|slot| some[slot % some.len()]))).collect();
        // What some row just reaches.
        let least = doubts.first().map_or(0.0, most);
        let expected: Vec<u32> = doubts.iter().filter(|doubt| most(doubt) >= least).map(|doubt| doubt.number).collect();
        for kernel in available() {
            let mut kept = doubts.clone();
            kernel.further(&look, &blocks, &mut kept, least);
            let kept: Vec<u32> = kept.iter().map(|doubt| doubt.number).collect();
            assert_eq!(kept, expected, "{}", kernel.name());
        }
    }
}
