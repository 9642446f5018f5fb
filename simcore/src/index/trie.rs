//! A persistent map from dense `u32` keys: clones are O(1) and share everything that was not changed since.
//!
//! A radix trie that is only as high as its largest key needs. A change copies the path to one value, and only the nodes
//! that some clone still shares. The fan-out is chosen by the user: copying a node counts a reference more to each of its
//! children, so it should be small where changes are scattered, and large where keys are looked up one by one.

use std::array;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Node<T, const FAN: usize> {
    Branch([Option<Arc<Node<T, FAN>>>; FAN]),
    Leaf([Option<Arc<T>>; FAN]),
}

/// A map from `u32` to `T` whose nodes have `FAN` children, a power of two.
#[derive(Debug)]
pub struct Trie<T, const FAN: usize> {
    root: Option<Arc<Node<T, FAN>>>,
    /// Levels of branches above the leaves.
    height: u32,
    len: usize,
}

impl<T, const FAN: usize> Clone for Trie<T, FAN> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), height: self.height, len: self.len }
    }
}

impl<T, const FAN: usize> Default for Trie<T, FAN> {
    fn default() -> Self {
        Self { root: None, height: 0, len: 0 }
    }
}

impl<T, const FAN: usize> Node<T, FAN> {
    fn empty(level: u32) -> Self {
        if level == 0 { Self::Leaf(array::from_fn(|_| None)) } else { Self::Branch(array::from_fn(|_| None)) }
    }

    fn try_each<'a, E>(&'a self, prefix: u32, visit: &mut impl FnMut(u32, &'a T) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Branch(children) => {
                for (slot, child) in (0..).zip(children) {
                    if let Some(child) = child {
                        child.try_each(prefix << Trie::<T, FAN>::BITS | slot, visit)?;
                    }
                }
            }
            Self::Leaf(values) => {
                for (slot, value) in (0..).zip(values) {
                    if let Some(value) = value {
                        visit(prefix << Trie::<T, FAN>::BITS | slot, value)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl<T, const FAN: usize> Trie<T, FAN> {
    const BITS: u32 = FAN.trailing_zeros();

    fn slot(key: u32, level: u32) -> usize {
        (key >> (level * Self::BITS)) as usize % FAN
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether a trie of this height has a place for `key`.
    fn covers(&self, key: u32) -> bool {
        u64::from(key).checked_shr((self.height + 1) * Self::BITS).unwrap_or(0) == 0
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
                    node = children.get(Self::slot(key, level))?.as_deref()?;
                    level -= 1;
                }
                Node::Leaf(values) => return values.get(Self::slot(key, 0))?.as_deref(),
            }
        }
    }

    /// Calls `visit` with every key and value in order of the keys; stops at the first error.
    pub fn try_each<'a, E>(&'a self, visit: &mut impl FnMut(u32, &'a T) -> Result<(), E>) -> Result<(), E> {
        self.root.as_deref().map_or(Ok(()), |root| root.try_each(0, visit))
    }
}

impl<T: Clone, const FAN: usize> Trie<T, FAN> {
    /// The value of `key`, to be changed; what clones share is copied first.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        // Looked up first: a key without a value must not cost a copy of its path.
        self.get(key)?;
        let mut node = Arc::make_mut(self.root.as_mut()?);
        let mut level = self.height;
        loop {
            match node {
                Node::Branch(children) => {
                    node = Arc::make_mut(children.get_mut(Self::slot(key, level))?.as_mut()?);
                    level -= 1;
                }
                Node::Leaf(values) => return values.get_mut(Self::slot(key, 0))?.as_mut().map(Arc::make_mut),
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
            let below = self.root.take();
            let mut children = array::from_fn(|_| None);
            children[0] = below;
            self.root = Some(Arc::new(Node::Branch(children)));
            self.height += 1;
        }
        let mut level = self.height;
        let mut node = Arc::make_mut(self.root.get_or_insert_with(|| Arc::new(Node::empty(level))));
        loop {
            match node {
                Node::Branch(children) => {
                    let child = &mut children[Self::slot(key, level)];
                    level -= 1;
                    node = Arc::make_mut(child.get_or_insert_with(|| Arc::new(Node::empty(level))));
                }
                Node::Leaf(values) => {
                    let before = values[Self::slot(key, 0)].replace(Arc::new(value));
                    self.len += usize::from(before.is_none());
                    return;
                }
            }
        }
    }

    /// Forgets `key` and the nodes that become empty; says whether it had a value.
    pub fn remove(&mut self, key: u32) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        self.len -= 1;
        let height = self.height;
        if self.root.as_mut().is_none_or(|root| Arc::make_mut(root).prune(key, height)) {
            *self = Self::default();
        }
        true
    }
}

impl<T: Clone, const FAN: usize> Node<T, FAN> {
    /// Forgets `key`; says whether the node is empty afterwards.
    fn prune(&mut self, key: u32, level: u32) -> bool {
        match self {
            Self::Branch(children) => {
                let child = &mut children[Trie::<T, FAN>::slot(key, level)];
                if child.as_mut().is_none_or(|child| Arc::make_mut(child).prune(key, level - 1)) {
                    *child = None;
                }
                children.iter().all(Option::is_none)
            }
            Self::Leaf(values) => {
                values[Trie::<T, FAN>::slot(key, 0)] = None;
                values.iter().all(Option::is_none)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::Trie;

    fn contents<const FAN: usize>(trie: &Trie<u32, FAN>) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        let Ok(()) = trie.try_each(&mut |key, &value| {
            all.push((key, value));
            Ok::<(), Infallible>(())
        });
        all
    }

    #[test]
    fn agrees_with_a_map_and_leaves_clones_alone() {
        check::<8>();
        check::<64>();
    }

    fn check<const FAN: usize>() {
        let mut trie = Trie::<u32, FAN>::default();
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
