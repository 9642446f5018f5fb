//! Changes: what the one writer knows beside the snapshot, and how a batch turns one snapshot into the next.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Error, PerRow,
    group::Group,
    page::Row,
    places::{Place, Places},
    snapshot::Snapshot,
};
use crate::kernel::Kernel;
use crate::sketch::{Encoder, Rotation};

/// What the one writer knows beside the snapshot.
#[derive(Debug)]
pub struct Writer {
    places: Places,
    encoder: Encoder,
}

/// Rows of one upsert, all of them valid.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The caller's ids.
    pub ids: &'a [u64],
    /// Unit vectors, one after another.
    pub vectors: &'a [f32],
    /// Components per vector.
    pub dim: usize,
    /// The group of each row.
    pub groups: PerRow<'a, u32>,
    /// When each row dies, in Unix seconds.
    pub expires_at: PerRow<'a, f64>,
}

/// Takes a row out of its group; forgets the group with its last row.
fn take(
    snapshot: &mut Snapshot,
    places: &mut Places,
    id: u64,
    place: Place,
    encoder: &mut Encoder,
) -> Result<(), Error> {
    places.remove(id, place)?;
    let group = snapshot.groups.get_mut(place.group).ok_or(Error::Broken)?;
    if let Some(moved) = group.swap_remove(place.row, encoder)? {
        // What was the last row has the number of the one that went.
        places.renumber(moved, Place { row: group.rows(), ..place }, place.row)?;
    }
    if group.rows() == 0 {
        snapshot.groups.remove(place.group);
    }
    snapshot.rows = snapshot.rows.checked_sub(1).ok_or(Error::Broken)?;
    Ok(())
}

impl Writer {
    /// The writer of an empty index.
    pub fn new(dim: usize, kernel: &'static dyn Kernel) -> Self {
        Self { places: Places::default(), encoder: Encoder::new(dim, kernel) }
    }

    /// What sketches are made in.
    pub fn rotation(&self) -> &Arc<Rotation> {
        self.encoder.rotation()
    }

    /// Bytes of memory that the bookkeeping owns.
    pub fn bytes(&self) -> usize {
        self.places.size()
    }

    /// Inserts the rows, in order; a row replaces an earlier one with its id, in whatever group that is.
    pub fn upsert(&mut self, snapshot: &mut Snapshot, batch: &Batch<'_>) -> Result<(), Error> {
        let mut touched = HashMap::new();
        let rows = batch.ids.iter().zip(batch.vectors.chunks_exact(batch.dim)).enumerate();
        for (number, (&id, vector)) in rows {
            let target = batch.groups.at(number)?;
            *touched.entry(target).or_insert(0) += 1;
            let row = Row { id, expires_at: batch.expires_at.at(number)?, vector };
            match self.places.get(id, snapshot) {
                Some(place) if place.group == target => {
                    snapshot.groups.get_mut(target).ok_or(Error::Broken)?.replace(place.row, row, &mut self.encoder)?;
                    continue;
                }
                Some(place) => take(snapshot, &mut self.places, id, place, &mut self.encoder)?,
                None => {}
            }
            if snapshot.groups.get(target).is_none() {
                snapshot.groups.insert(target, Group::default());
            }
            let more = if batch.groups.is_one() { batch.ids.len() - number } else { 1 };
            let row = snapshot.groups.get_mut(target).ok_or(Error::Broken)?.push(row, more, &mut self.encoder)?;
            self.places.insert(id, Place { group: target, row });
            snapshot.rows = snapshot.rows.checked_add(1).ok_or(Error::Broken)?;
        }
        self.settle(snapshot, touched)
    }

    /// Removes the rows with these ids; returns how many there were.
    pub fn remove(&mut self, snapshot: &mut Snapshot, ids: &[u64]) -> Result<usize, Error> {
        let before = snapshot.rows;
        let mut touched = HashMap::new();
        for &id in ids {
            if let Some(place) = self.places.get(id, snapshot) {
                *touched.entry(place.group).or_insert(0) += 1;
                take(snapshot, &mut self.places, id, place, &mut self.encoder)?;
            }
        }
        self.settle(snapshot, touched)?;
        self.places.release();
        Ok(before - snapshot.rows)
    }

    /// Lets groups in which so many rows have changed go on with what a change began.
    fn settle(&mut self, snapshot: &mut Snapshot, touched: HashMap<u32, usize>) -> Result<(), Error> {
        for (group, changed) in touched {
            if snapshot.groups.get(group).is_some_and(Group::is_unsettled) {
                snapshot.groups.get_mut(group).ok_or(Error::Broken)?.settle(changed, &mut self.encoder)?;
            }
        }
        Ok(())
    }

    /// Removes a group with all its rows; returns how many there were.
    pub fn remove_group(&mut self, snapshot: &mut Snapshot, number: u32) -> Result<usize, Error> {
        let Some(group) = snapshot.groups.get(number).cloned() else {
            return Ok(0);
        };
        let mut row = 0;
        group.try_each_page(&mut |page| {
            for label in page.labels() {
                self.places.remove(label.id, Place { group: number, row })?;
                row += 1;
            }
            Ok::<(), Error>(())
        })?;
        snapshot.groups.remove(number);
        let removed = group.rows() as usize;
        snapshot.rows = snapshot.rows.checked_sub(removed).ok_or(Error::Broken)?;
        self.places.release();
        Ok(removed)
    }
}
