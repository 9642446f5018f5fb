//! The file format of a saved index, version 1. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `SIMCORE\n` |
//! | 4 | version, 1 |
//! | 4 | dim |
//! | 4 | threads |
//! | 8 | rows |
//! | rows × (4 + 8 + 8 + 4 × dim) | per row: group `u32`, id `u64`, expires_at `f64`, unit vector `f32` × dim |
//! | 4 | CRC-32 (IEEE) of everything before |
//!
//! The length of a file follows from its header and is compared before anything is allocated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crc32fast::Hasher;

use super::{Error, MAX_DIM, MAX_THREADS, snapshot::Snapshot};

const MAGIC: [u8; 8] = *b"SIMCORE\n";
const VERSION: u32 = 1;
const HEADER: u64 = 8 + 4 + 4 + 4 + 8;
const TRAILER: u64 = 4;
/// Group, id and expiry of a row.
const FIXED: usize = 4 + 8 + 8;

/// What the header says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Components per vector.
    pub dim: usize,
    /// Threads of the index that was saved.
    pub threads: usize,
    /// Rows that follow.
    pub rows: u64,
}

/// One row as read; nothing about it is checked yet.
#[derive(Debug)]
pub struct StoredRow<'a> {
    /// The row's group.
    pub group: u32,
    /// The caller's id.
    pub id: u64,
    /// Unix seconds.
    pub expires_at: f64,
    /// `dim` components.
    pub vector: &'a [f32],
}

fn u32_of(number: usize) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::Broken)
}

/// Writes a snapshot to `path`, which holds either its old contents or all of the new ones at any moment.
pub fn save(path: &Path, snapshot: &Snapshot, dim: usize, threads: usize) -> Result<(), Error> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| Error::invalid("path must name a file"))?;
    // What is renamed over a device or a pipe takes its place.
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Err(Error::invalid("path names something that is not a file"));
    }
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}-{}.tmp", process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
    let temporary = path.with_file_name(temporary);
    let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    let written = write(file, snapshot, dim, threads).and_then(|()| Ok(fs::rename(&temporary, path)?));
    if written.is_err() {
        // The write's own error matters more than that of cleaning up after it.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(folder)?.sync_all()?)
}

fn write(file: File, snapshot: &Snapshot, dim: usize, threads: usize) -> Result<(), Error> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut checksum = Hasher::new();
    let mut record = Vec::with_capacity(FIXED + dim * 4);
    record.extend(MAGIC);
    record.extend(VERSION.to_le_bytes());
    record.extend(u32_of(dim)?.to_le_bytes());
    record.extend(u32_of(threads)?.to_le_bytes());
    record.extend((snapshot.rows as u64).to_le_bytes());
    checksum.update(&record);
    out.write_all(&record)?;
    snapshot.try_each_page(|group, page| {
        for slot in 0..page.len() {
            let row = page.row(slot).ok_or(Error::Broken)?;
            record.clear();
            record.extend(group.to_le_bytes());
            record.extend(row.id.to_le_bytes());
            record.extend(row.expires_at.to_le_bytes());
            record.extend(row.vector.iter().flat_map(|component| component.to_le_bytes()));
            checksum.update(&record);
            out.write_all(&record)?;
        }
        Ok(())
    })?;
    out.write_all(&checksum.finalize().to_le_bytes())?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file.sync_all()?)
}

/// Takes fixed-size fields off the front of a record.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Error::Broken)?;
        self.0 = rest;
        Ok(*field)
    }
}

/// Reads a file and calls `visit` with each row of it.
///
/// The checksum is known only at the end: on an error the caller throws away what it was given before.
pub fn load(path: &Path, mut visit: impl FnMut(&Header, &StoredRow<'_>) -> Result<(), Error>) -> Result<Header, Error> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut checksum = Hasher::new();
    let mut read = |buffer: &mut [u8]| {
        input.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::invalid("not a whole simcore index: the file is cut off"),
            _ => Error::Io(error),
        })
    };
    let mut start = [0; HEADER as usize];
    read(&mut start)?;
    checksum.update(&start);
    let header = parse_header(&start, length)?;

    let mut record = vec![0; FIXED + header.dim * 4];
    let mut vector = Vec::with_capacity(header.dim);
    for _ in 0..header.rows {
        read(&mut record)?;
        checksum.update(&record);
        let mut fields = Fields(&record);
        let group = u32::from_le_bytes(fields.take()?);
        let id = u64::from_le_bytes(fields.take()?);
        let expires_at = f64::from_le_bytes(fields.take()?);
        vector.clear();
        vector.extend(fields.0.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        visit(&header, &StoredRow { group, id, expires_at, vector: &vector })?;
    }
    let mut end = [0; TRAILER as usize];
    read(&mut end)?;
    if u32::from_le_bytes(end) != checksum.finalize() {
        return Err(Error::invalid("damaged simcore index: the checksum is wrong"));
    }
    Ok(header)
}

fn parse_header(bytes: &[u8], length: u64) -> Result<Header, Error> {
    let mut fields = Fields(bytes);
    if fields.take()? != MAGIC {
        return Err(Error::invalid("not a simcore index"));
    }
    let version = u32::from_le_bytes(fields.take()?);
    if version != VERSION {
        return Err(Error::invalid(format!("simcore index of version {version}; this build reads version {VERSION}")));
    }
    let dim = u32::from_le_bytes(fields.take()?) as usize;
    let threads = u32::from_le_bytes(fields.take()?) as usize;
    let rows = u64::from_le_bytes(fields.take()?);
    if !(1..=MAX_DIM).contains(&dim) || !(1..=MAX_THREADS).contains(&threads) {
        return Err(Error::invalid("damaged simcore index: the header is out of range"));
    }
    let record = (FIXED + dim * 4) as u64;
    let expected = rows.checked_mul(record).and_then(|body| body.checked_add(HEADER + TRAILER));
    if expected != Some(length) {
        return Err(Error::invalid("not a whole simcore index: the file's length is not what its header says"));
    }
    Ok(Header { dim, threads, rows })
}
