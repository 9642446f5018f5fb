//! A persistent map from dense `u32` keys: clones are O(1) and share everything that was not changed since.
//!
//! A radix trie of fan-out 64 that is only as high as its largest key needs. A change copies the path to one
//! value (at most six nodes), and only the nodes that some clone still shares.

use std::sync::Arc;

const BITS: u32 = 6;
const MASK: u32 = (1 << BITS) - 1;

#[derive(Debug, Clone)]
enum Node<T> {
    Branch(Vec<Option<Arc<Node<T>>>>),
    Leaf(Vec<Option<Arc<T>>>),
}

/// A map from `u32` to `T`.
#[derive(Debug)]
pub struct Trie<T> {
    root: Option<Arc<Node<T>>>,
    /// Levels of branches above the leaves.
    height: u32,
    len: usize,
}

impl<T> Clone for Trie<T> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), height: self.height, len: self.len }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: None, height: 0, len: 0 }
    }
}

fn slot(key: u32, level: u32) -> usize {
    (key >> (level * BITS) & MASK) as usize
}

/// The entry at `slot`, which is made if the node is too short for it.
fn entry<V>(entries: &mut Vec<Option<V>>, slot: usize) -> &mut Option<V> {
    if entries.len() <= slot {
        entries.resize_with(slot + 1, || None);
    }
    &mut entries[slot]
}

/// Forgets empty entries at the end, so that a node is as long as its last entry needs.
fn trim<V>(entries: &mut Vec<Option<V>>) {
    let used = entries.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    entries.truncate(used);
}

impl<T> Trie<T> {
    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether a trie of this height has a place for `key`.
    fn covers(&self, key: u32) -> bool {
        u64::from(key) >> ((self.height + 1) * BITS) == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: u32) -> Option<&T> {
        if !self.covers(key) {
            return None;
        }
        let mut node = self.root.as_deref()?;
        let mut level = self.height;
        loop {
            match node {
                Node::Branch(children) => {
                    node = children.get(slot(key, level))?.as_deref()?;
                    level -= 1;
                }
                Node::Leaf(values) => return values.get(slot(key, 0))?.as_deref(),
            }
        }
    }

    /// Calls `visit` with every key and value in order of the keys; stops at the first error.
    pub fn try_each<'a, E>(&'a self, visit: &mut impl FnMut(u32, &'a T) -> Result<(), E>) -> Result<(), E> {
        fn walk<'a, T, E>(
            node: &'a Node<T>,
            prefix: u32,
            visit: &mut impl FnMut(u32, &'a T) -> Result<(), E>,
        ) -> Result<(), E> {
            match node {
                Node::Branch(children) => {
                    for (slot, child) in (0..).zip(children) {
                        if let Some(child) = child {
                            walk(child, prefix << BITS | slot, visit)?;
                        }
                    }
                }
                Node::Leaf(values) => {
                    for (slot, value) in (0..).zip(values) {
                        if let Some(value) = value {
                            visit(prefix << BITS | slot, value)?;
                        }
                    }
                }
            }
            Ok(())
        }
        self.root.as_deref().map_or(Ok(()), |root| walk(root, 0, visit))
    }
}

impl<T: Clone> Trie<T> {
    /// The value of `key`, to be changed; what clones share is copied first.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        // Looked up first: a key without a value must not cost a copy of its path.
        self.get(key)?;
        let mut node = Arc::make_mut(self.root.as_mut()?);
        let mut level = self.height;
        loop {
            match node {
                Node::Branch(children) => {
                    node = Arc::make_mut(children.get_mut(slot(key, level))?.as_mut()?);
                    level -= 1;
                }
                Node::Leaf(values) => return values.get_mut(slot(key, 0))?.as_mut().map(Arc::make_mut),
            }
        }
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, key: u32, value: T) {
        if self.root.is_none() {
            while !self.covers(key) {
                self.height += 1;
            }
        }
        while !self.covers(key) {
            self.root = Some(Arc::new(Node::Branch(vec![self.root.take()])));
            self.height += 1;
        }
        let mut level = self.height;
        let empty = |level| Arc::new(if level == 0 { Node::Leaf(Vec::new()) } else { Node::Branch(Vec::new()) });
        let mut node = Arc::make_mut(self.root.get_or_insert_with(|| empty(level)));
        loop {
            match node {
                Node::Branch(children) => {
                    let child = entry(children, slot(key, level));
                    level -= 1;
                    node = Arc::make_mut(child.get_or_insert_with(|| empty(level)));
                }
                Node::Leaf(values) => {
                    let before = entry(values, slot(key, 0)).replace(Arc::new(value));
                    self.len += usize::from(before.is_none());
                    return;
                }
            }
        }
    }

    /// Forgets `key` and the nodes that become empty; says whether it had a value.
    pub fn remove(&mut self, key: u32) -> bool {
        /// Says whether the node is empty afterwards.
        fn prune<T: Clone>(node: &mut Node<T>, key: u32, level: u32) -> bool {
            match node {
                Node::Branch(children) => {
                    let child = entry(children, slot(key, level));
                    if child.as_mut().is_none_or(|child| prune(Arc::make_mut(child), key, level - 1)) {
                        *child = None;
                    }
                    trim(children);
                    children.is_empty()
                }
                Node::Leaf(values) => {
                    *entry(values, slot(key, 0)) = None;
                    trim(values);
                    values.is_empty()
                }
            }
        }
        if self.get(key).is_none() {
            return false;
        }
        self.len -= 1;
        let height = self.height;
        if self.root.as_mut().is_none_or(|root| prune(Arc::make_mut(root), key, height)) {
            *self = Self::default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::Trie;

    fn contents(trie: &Trie<u32>) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        let Ok(()) = trie.try_each(&mut |key, &value| {
            all.push((key, value));
            Ok::<(), Infallible>(())
        });
        all
    }

    #[test]
    fn agrees_with_a_map_and_leaves_clones_alone() {
        let mut trie = Trie::default();
        let mut map = BTreeMap::new();
        let mut clones = Vec::new();
        let mut state = 1_u32;
        for step in 0..4000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = match state >> 30 {
                0 => state >> 10,
                1 => u32::MAX - (state >> 24),
                _ => state >> 8 & 127,
            };
            match state >> 4 & 3 {
                0 => assert_eq!(trie.remove(key), map.remove(&key).is_some()),
                1 => {
                    let value = trie.get_mut(key);
                    assert_eq!(value.as_deref(), map.get(&key));
                    if let Some(value) = value {
                        *value += 1;
                        map.insert(key, *value);
                    }
                }
                _ => {
                    trie.insert(key, step);
                    map.insert(key, step);
                }
            }
            assert_eq!(trie.get(key), map.get(&key));
            assert_eq!(trie.len(), map.len());
            if step % 400 == 0 {
                clones.push((trie.clone(), map.clone()));
            }
        }
        clones.push((trie.clone(), map.clone()));
        for (clone, then) in clones {
            assert_eq!(contents(&clone), then.into_iter().collect::<Vec<_>>());
        }
        for key in map.into_keys() {
            assert!(trie.remove(key));
        }
        assert!(trie.root.is_none() && trie.len() == 0);
    }
}
