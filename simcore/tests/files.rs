//! Saved indexes: whole ones come back to the bit, anything else is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod oracle;

use std::fs;
use std::path::PathBuf;

use oracle::Noise;
use simcore::index::{Error, Index, PerRow, Request};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("simcore-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn index(rows: u64) -> Index {
    let index = Index::new(5, 3).unwrap();
    let ids: Vec<u64> = (0..rows).map(|id| id * 7).collect();
    let groups: Vec<u32> = (0..rows).map(|id| (id % 3) as u32 * 1_000_000).collect();
    let expires: Vec<f64> = (0..rows).map(|id| if id % 5 == 0 { f64::INFINITY } else { id as f64 }).collect();
    let vectors = Noise(3).vectors(ids.len(), 5);
    index.upsert(&ids, vectors, PerRow::Each(&groups), PerRow::Each(&expires)).unwrap();
    index
}

fn answers(index: &Index) -> Vec<(Vec<u64>, Vec<u32>)> {
    let ask = |group| {
        let request = Request { groups: PerRow::One(group), k: 200, now: 20.0, threshold: -1.0 };
        let found = index.search(Noise(4).vectors(3, 5), &request).unwrap();
        (found.ids, found.scores.into_iter().map(f32::to_bits).collect())
    };
    [0, 1_000_000, 2_000_000].into_iter().map(ask).collect()
}

#[test]
fn a_saved_index_comes_back_to_the_bit() {
    let folder = Folder::new("round-trip");
    for rows in [0, 1, 500] {
        let path = folder.0.join("index");
        let original = index(rows);
        original.save(&path).unwrap();
        let loaded = Index::load(&path).unwrap();
        assert_eq!(answers(&loaded), answers(&original));
        let (a, b) = (loaded.stats().unwrap(), original.stats().unwrap());
        assert_eq!((a.dim, a.entries, a.groups, a.threads), (b.dim, b.entries, b.groups, b.threads));
        assert_eq!(loaded.remove(&[7]).unwrap(), usize::from(rows > 1), "the loaded index can be changed");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file stays");
    }
}

#[test]
fn torn_and_damaged_files_are_refused() {
    let folder = Folder::new("damage");
    let path = folder.0.join("index");
    index(4).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        matches!(Index::load(&path), Err(Error::Invalid(_)))
    };
    for length in 0..whole.len() {
        assert!(refused(&whole[..length]), "cut at {length}");
    }
    assert!(refused(&[whole.as_slice(), b"x"].concat()), "a byte more");
    for position in 0..whole.len() {
        for bit in [1, 128] {
            let mut damaged = whole.clone();
            damaged[position] ^= bit;
            assert!(refused(&damaged), "bit {bit} of byte {position}");
        }
    }
    assert!(refused(b"{\"not\": \"an index, but longer than its header would be\"}"));
}

#[test]
fn impossible_rows_are_refused_behind_a_right_checksum() {
    let folder = Folder::new("forged");
    let path = folder.0.join("index");
    index(2).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let row = 28;
    for (name, offset, bytes) in [
        ("reserved id", row + 4, u64::MAX.to_le_bytes().to_vec()),
        ("id of the other row", row + 4, 7_u64.to_le_bytes().to_vec()),
        ("NaN expiry", row + 12, f64::NAN.to_le_bytes().to_vec()),
        ("NaN component", row + 20, f32::NAN.to_le_bytes().to_vec()),
        ("long vector", row + 20, 2_f32.to_le_bytes().to_vec()),
        ("rows beyond any memory", 20, u64::MAX.to_le_bytes().to_vec()),
        ("dim 0", 12, 0_u32.to_le_bytes().to_vec()),
        ("version 2", 8, 2_u32.to_le_bytes().to_vec()),
    ] {
        let mut forged = whole.clone();
        forged[offset..offset + bytes.len()].copy_from_slice(&bytes);
        let body = forged.len() - 4;
        let checksum = crc32fast::hash(&forged[..body]);
        forged[body..].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, &forged).unwrap();
        assert!(matches!(Index::load(&path), Err(Error::Invalid(_))), "{name}");
    }
}

#[test]
fn the_operating_system_refusals_are_told_apart() {
    let folder = Folder::new("refusals");
    assert!(matches!(Index::load(&folder.0.join("absent")), Err(Error::Io(_))));
    assert!(matches!(index(1).save(&folder.0.join("absent/index")), Err(Error::Io(_))));
    // A folder stands where the file should go: the temporary file must not stay behind.
    fs::create_dir_all(folder.0.join("taken/inside")).unwrap();
    assert!(matches!(index(1).save(&folder.0.join("taken")), Err(Error::Io(_))));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced() {
    let folder = Folder::new("socket");
    let path = folder.0.join("socket");
    let _bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(index(1).save(&path), Err(Error::Invalid(_))));
    assert!(!fs::metadata(&path).unwrap().is_file());
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}
