//! Where each id's row is. Searches do not need it.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{Error, snapshot::Snapshot};

/// A row: its group, and its number in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The row's group.
    pub group: u32,
    /// Its number there.
    pub row: u32,
}

/// Part of the hash of an id, and where its row is: the id itself is with the row.
#[derive(Debug)]
struct Entry {
    hash: u32,
    place: Place,
}

/// The places of all ids.
#[derive(Debug, Default)]
pub struct Places {
    table: HashTable<Entry>,
    hasher: RandomState,
}

/// The table takes slots by the lower and tags by the upper bits of 64.
fn spread(hash: u32) -> u64 {
    // The golden ratio's digits (Knuth, The Art of Computer Programming, 6.4).
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Places {
    fn hash(&self, id: u64) -> u32 {
        (self.hasher.hash_one(id) >> 32) as u32
    }

    /// Where the row with this id is in `snapshot`, if it is there.
    pub fn get(&self, id: u64, snapshot: &Snapshot) -> Option<Place> {
        let hash = self.hash(id);
        let found = self.table.find(spread(hash), |entry| entry.hash == hash && snapshot.id(entry.place) == Some(id));
        found.map(|entry| entry.place)
    }

    /// Sets the place of an id that has none.
    pub fn insert(&mut self, id: u64, place: Place) {
        let hash = self.hash(id);
        self.table.insert_unique(spread(hash), Entry { hash, place }, |entry| spread(entry.hash));
    }

    /// Forgets an id whose row is at this place.
    pub fn remove(&mut self, id: u64, place: Place) -> Result<(), Error> {
        let hash = self.hash(id);
        let entry = self.table.find_entry(spread(hash), |entry| entry.place == place).map_err(|_| Error::Broken)?;
        entry.remove();
        Ok(())
    }

    /// Sets another number for an id whose row was at this place.
    pub fn renumber(&mut self, id: u64, before: Place, row: u32) -> Result<(), Error> {
        let hash = self.hash(id);
        let entry = self.table.find_mut(spread(hash), |entry| entry.place == before).ok_or(Error::Broken)?;
        entry.place.row = row;
        Ok(())
    }

    /// Gives memory back once most of the table is unused; the quarter keeps the cost amortised.
    pub fn release(&mut self) {
        if self.table.len() < self.table.capacity() / 4 {
            self.table.shrink_to(self.table.len() * 2, |entry| spread(entry.hash));
        }
    }

    /// Bytes of memory that it owns.
    pub fn size(&self) -> usize {
        self.table.allocation_size()
    }
}
