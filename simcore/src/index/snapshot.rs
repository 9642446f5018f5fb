//! One immutable state of the index: groups of rows. Snapshots share all that no change has touched in between.

use super::{Error, group::Group, page::Page, places::Place, trie::Trie};

/// Children of a node above the groups: many, because a search looks one group up.
const FAN: usize = 64;

/// One state of the index.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The groups that have rows.
    pub groups: Trie<Group, FAN>,
    /// Rows in all groups, expired ones included.
    pub rows: usize,
    /// Bytes of memory that the writer's bookkeeping of this state owns.
    pub writer_bytes: usize,
}

/// A walk ends before it is through: as much was found as was wanted.
struct Enough;

impl Snapshot {
    /// The id of the row at a place.
    pub fn id(&self, place: Place) -> Option<u64> {
        self.groups.get(place.group)?.id(place.row)
    }

    /// The ids of at most `limit` rows that are dead at `now`.
    pub fn expired(&self, now: f64, limit: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut look = |page: &Page| {
            let dead = page.labels().iter().filter(|label| label.expires_at <= now);
            ids.extend(dead.map(|label| label.id).take(limit.saturating_sub(ids.len())));
            if ids.len() < limit { Ok(()) } else { Err(Enough) }
        };
        let walked = self.groups.try_each(&mut |_, group| {
            if group.chunks() == 0 {
                return look(group.few());
            }
            group.try_each_chunk(&mut |chunk| {
                let due = chunk.earliest() <= now;
                if due { chunk.pages().iter().try_for_each(|page| look(page)) } else { Ok(()) }
            })
        });
        let (Ok(()) | Err(Enough)) = walked;
        ids
    }

    /// Calls `visit` with the number of a group and a page of it, for all pages, in order.
    pub fn try_each_page<'a>(&'a self, mut visit: impl FnMut(u32, &'a Page) -> Result<(), Error>) -> Result<(), Error> {
        self.groups.try_each(&mut |number, group| group.try_each_page(&mut |page| visit(number, page)))
    }
}
