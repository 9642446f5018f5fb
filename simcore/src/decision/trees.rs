//! Boosted trees in flat form.

use super::format::TreeOfFile;
use super::verifier::Invalid;

/// Inner nodes of a tree at most; more would be another kind of model.
const MOST_NODES: usize = 1 << 10;

#[derive(Clone, Copy, Debug)]
struct Node {
    feature: u32,
    threshold: f64,
    left: i32,
    right: i32,
}

/// One checked tree: every walk from its root ends in a leaf after at most as many steps as it has nodes.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    value: Vec<f64>,
}

impl Tree {
    /// Checks a tree of a file; `features` is the number of inputs.
    pub fn new(tree: TreeOfFile, features: usize) -> Result<Self, Invalid> {
        let count = tree.feature.len();
        if count > MOST_NODES {
            return Err(Invalid(format!("has {count} inner nodes; at most {MOST_NODES} are allowed")));
        }
        if [tree.threshold.len(), tree.left.len(), tree.right.len()].iter().any(|other| *other != count) {
            return Err(Invalid("has lists of different lengths".to_owned()));
        }
        if tree.value.len() != count + 1 {
            return Err(Invalid(format!("has {} leaves for {count} inner nodes", tree.value.len())));
        }
        if let Some(value) = tree.value.iter().chain(&tree.threshold).find(|value| !value.is_finite()) {
            return Err(Invalid(format!("holds the number {value}")));
        }
        let (mut nodes, mut met, mut leaves) = (Vec::with_capacity(count), vec![false; count], vec![false; count + 1]);
        for (at, feature) in tree.feature.iter().enumerate() {
            if *feature as usize >= features {
                return Err(Invalid(format!("node {at} reads feature {feature} of {features}")));
            }
            let child = |side: &[i32]| side.get(at).copied().unwrap_or_default();
            let (left, right) = (child(&tree.left), child(&tree.right));
            for child in [left, right] {
                let slot = if child < 0 {
                    leaves.get_mut(child.unsigned_abs() as usize - 1)
                } else {
                    // Children come later in the list, so a walk cannot go round in circles.
                    met.get_mut(child as usize).filter(|_| child as usize > at)
                };
                match slot {
                    Some(slot) if !*slot => *slot = true,
                    _ => return Err(Invalid(format!("node {at} has the impossible child {child}"))),
                }
            }
            let threshold = tree.threshold.get(at).copied().unwrap_or_default();
            nodes.push(Node { feature: *feature, threshold, left, right });
        }
        Ok(Self { nodes, value: tree.value })
    }

    /// What the tree adds for some inputs.
    pub fn value(&self, x: &[f32]) -> f64 {
        let mut at = if self.nodes.is_empty() { -1 } else { 0 };
        while let Some(node) = usize::try_from(at).ok().and_then(|at| self.nodes.get(at)) {
            let input = x.get(node.feature as usize).copied().unwrap_or_default();
            at = if f64::from(input) <= node.threshold { node.left } else { node.right };
        }
        self.value.get(at.unsigned_abs() as usize - 1).copied().unwrap_or_default()
    }
}
