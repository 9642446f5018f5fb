//! Saved indexes as bytes: made from parts, and judged by the description of the format alone.

use std::collections::HashSet;

use arbitrary::{Arbitrary, Result, Unstructured};
use simcore::index::{MAX_DIM, MAX_THREADS, MISSING};
use simcore::kernel::portable::dot;
use simcore::kernel::unit::normalise;

const MAGIC: &[u8; 8] = b"SIMCORE\n";
const VERSION: u32 = 1;
/// Where the dim stands.
const DIM_AT: usize = 12;
/// Where the number of threads stands.
const THREADS_AT: usize = 16;
/// Where the number of rows stands.
const ROWS_AT: usize = 20;
const HEADER: usize = 28;
const CHECKSUM: usize = 4;
/// How far from 1 the squared length of a row may be.
const TOLERANCE: f64 = 1e-6;
/// Group, id and expiry of a row.
const FIXED: usize = 4 + 8 + 8;
/// The least that a row takes.
pub const LEAST_RECORD: usize = FIXED + 4;

const DIMS: [u32; 8] = [8, 1, 2, 16, 64, 65, 100, 3];
const GROUPS: [u32; 8] = [0, 1, 63, 64, 4095, 4096, 1 << 24, u32::MAX];
const FIRST_IDS: [u64; 4] = [0, 5, 1 << 40, MISSING - 40];
const EXPIRIES: [f64; 8] = [f64::INFINITY, 1.0, 2.0, 0.0, -1.0, f64::NEG_INFINITY, 2.0000000000000004, f64::NAN];
/// Factors of a unit vector's length: inside of what a file may hold, at its edges, and outside.
const LENGTHS: [f32; 8] = [1.0, 1.0, 1.0 + 3e-7, 1.0 - 3e-7, 1.0 + 4.8e-7, 1.0 - 4.8e-7, 1.000_001, 1.0001];
/// How many rows are made from one: around the sizes at which a group changes its structure.
const COPIES: [u64; 8] = [1, 2, 3, 40, 64, 257, 300, 2100];
const MOST_PARTS: usize = 8;
/// Parts after so many rows are left out, so that there are many files rather than large ones.
const MOST_ROWS: usize = 2500;

/// A row of a file.
#[derive(Debug, Clone)]
pub struct Row {
    pub group: u32,
    pub id: u64,
    pub expires_at: f64,
    pub vector: Vec<f32>,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Image {
    pub dim: u32,
    pub threads: u32,
    pub rows: Vec<Row>,
}

/// Takes a fixed number of bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (field, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*field)
}

/// Sets the checksum of a file; one too short for it stays as it is.
pub fn seal(file: &mut [u8]) {
    if let Some((body, checksum)) = file.split_last_chunk_mut::<CHECKSUM>() {
        *checksum = crc32fast::hash(body).to_le_bytes();
    }
}

/// What is left of some bytes when everything that a guess would hardly get right is made right: magic, version, the
/// number of rows, the length and the checksum. Dim and threads come near to what is allowed.
pub fn mend(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    file.resize(bytes.len().max(HEADER + CHECKSUM), 0);
    file[..8].copy_from_slice(MAGIC);
    file[8..DIM_AT].copy_from_slice(&VERSION.to_le_bytes());
    let dim = u32::from_le_bytes([file[DIM_AT], file[DIM_AT + 1], file[DIM_AT + 2], file[DIM_AT + 3]]);
    let dim = if dim > MAX_DIM as u32 + 1 { dim % 20 } else { dim };
    file[DIM_AT..THREADS_AT].copy_from_slice(&dim.to_le_bytes());
    let threads = u32::from(file[THREADS_AT]) + u32::from(file[THREADS_AT + 1] & 1);
    file[THREADS_AT..ROWS_AT].copy_from_slice(&threads.to_le_bytes());
    let record = FIXED + dim as usize * 4;
    let rows = (file.len() - HEADER - CHECKSUM) / record;
    file[ROWS_AT..HEADER].copy_from_slice(&(rows as u64).to_le_bytes());
    file.truncate(HEADER + rows * record + CHECKSUM);
    seal(&mut file);
    file
}

/// What is left of a file when one byte is changed, or some are cut off or added, as the end of `bytes` says. Half of
/// the changes are in the header, half of them of a single bit.
pub fn damage(file: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    if let Some(&[low, high, change, resize]) = bytes.last_chunk::<4>() {
        let range = if high & 128 == 0 { HEADER } else { file.len() };
        file[usize::from(u16::from_le_bytes([low, high & 63])) % range] ^=
            if high & 64 == 0 { 1 << (change & 7) } else { change };
        match resize % 4 {
            1 => file.truncate(file.len().saturating_sub(usize::from(resize / 4) + 1)),
            2 => file.resize(file.len() + usize::from(resize / 4) + 1, change),
            _ => {}
        }
    }
    file
}

/// Whether `vector` is what normalising leaves behind, up to rounding.
fn is_unit(vector: &[f32]) -> bool {
    let wide: Vec<f64> = vector.iter().copied().map(f64::from).collect();
    (dot(&wide, vector) - 1.0).abs() <= TOLERANCE
}

impl Image {
    /// The file that holds this.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(VERSION.to_le_bytes());
        file.extend(self.dim.to_le_bytes());
        file.extend(self.threads.to_le_bytes());
        file.extend((self.rows.len() as u64).to_le_bytes());
        for row in &self.rows {
            file.extend(row.group.to_le_bytes());
            file.extend(row.id.to_le_bytes());
            file.extend(row.expires_at.to_le_bytes());
            file.extend(row.vector.iter().flat_map(|component| component.to_le_bytes()));
        }
        file.extend([0; CHECKSUM]);
        seal(&mut file);
        file
    }

    /// What a file holds; `None` for one that must be refused.
    pub fn read(file: &[u8]) -> Option<Self> {
        let (body, checksum) = file.split_last_chunk::<CHECKSUM>()?;
        let mut rest = body;
        let magic: [u8; 8] = take(&mut rest)?;
        let version = u32::from_le_bytes(take(&mut rest)?);
        let dim = u32::from_le_bytes(take(&mut rest)?);
        let threads = u32::from_le_bytes(take(&mut rest)?);
        let count = u64::from_le_bytes(take(&mut rest)?);
        let in_range = (1..=MAX_DIM).contains(&(dim as usize)) && (1..=MAX_THREADS).contains(&(threads as usize));
        if &magic != MAGIC || version != VERSION || !in_range {
            return None;
        }
        let record = FIXED + dim as usize * 4;
        if u128::from(count) * record as u128 != rest.len() as u128 {
            return None;
        }
        let mut ids = HashSet::new();
        let mut rows = Vec::new();
        for mut record in rest.chunks_exact(record) {
            let group = u32::from_le_bytes(take(&mut record)?);
            let id = u64::from_le_bytes(take(&mut record)?);
            let expires_at = f64::from_le_bytes(take(&mut record)?);
            let vector: Vec<f32> = record.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            if id == MISSING || !ids.insert(id) || expires_at.is_nan() || !is_unit(&vector) {
                return None;
            }
            rows.push(Row { group, id, expires_at, vector });
        }
        (crc32fast::hash(body).to_le_bytes() == *checksum).then_some(Self { dim, threads, rows })
    }

    /// Every row as it stands in a file, sorted: files that hold the same give the same.
    pub fn contents(&self) -> Vec<Vec<u8>> {
        let one = |row: &Row| Self { dim: self.dim, threads: self.threads, rows: vec![row.clone()] }.bytes();
        let mut contents: Vec<_> = self.rows.iter().map(one).collect();
        contents.sort_unstable();
        contents
    }
}

impl<'a> Arbitrary<'a> for Image {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        let dim = DIMS[usize::from(byte & 7)];
        let threads = [1, 2, 3, 256][usize::from(byte >> 3 & 3)];
        let parts = 1 + usize::from(byte >> 5) % MOST_PARTS;
        let mut rows = Vec::new();
        while !u.is_empty() && rows.len() < parts {
            let byte: u8 = u.arbitrary()?;
            let (copies, length) = (COPIES[usize::from(byte & 7)], LENGTHS[usize::from(byte >> 3 & 7)]);
            let apart = byte & 64 != 0;
            let byte: u8 = u.arbitrary()?;
            let group = GROUPS[usize::from(byte & 7)];
            let expires_at = EXPIRIES[usize::from(byte >> 3 & 7)];
            let first = FIRST_IDS[usize::from(byte >> 6)].wrapping_add(u.arbitrary::<u8>()?.into());
            // At most so many bytes as components; what is missing is zero.
            let drawn = u.bytes(u.len().min(dim as usize))?;
            let mut vector: Vec<f32> = drawn.iter().map(|&byte| f32::from(byte as i8)).collect();
            vector.resize(dim as usize, 0.0);
            if normalise(&mut vector, &mut Vec::new()).is_err() {
                vector[0] = 1.0;
            }
            vector.iter_mut().for_each(|component| *component *= length);
            let room = (MOST_ROWS - rows.len()) as u64;
            for copy in 0..copies.min(room) {
                let mut vector = vector.clone();
                vector.rotate_right(copy as usize % dim as usize);
                if copy / u64::from(dim) % 2 == 1 {
                    vector.iter_mut().for_each(|component| *component = -*component);
                }
                let group = if apart { group.wrapping_add((copy as u32).wrapping_mul(0x0102_0305)) } else { group };
                rows.push(Row { group, id: first.wrapping_add(copy), expires_at, vector });
            }
        }
        Ok(Self { dim, threads, rows })
    }
}
