//! A persistent B-tree of slots, ordered by the keys in them. Cloning it is O(1); what is inserted afterwards copies the
//! nodes on its way and shares all others.
//!
//! ```text
//!   arena   0: "b"  1: "x"  2: "a"  3: "b"          slots, in the order they came; none ever moves or changes
//!   tree    [ 2, 3, 1 ]                             numbers of slots, in the order of their keys; 3 has replaced 0
//! ```
//!
//! A node is numbers and nothing else, so copying one is copying a few hundred bytes, where a map of handles would count
//! each of them up, in memory all over the place. Beside each number stands the *head* of its key: the eight bytes after
//! what all keys of the node share. A search compares heads, and looks into the arena for the one or two keys left.
//!
//! Invariants: within a node heads never decrease; the slot that stands for a child is not behind any key in it, and is
//! behind all keys of the children before; only an empty tree has an empty node. Nodes are split when full and not merged
//! when they empty, since a tree lives for one layer and is then dropped.

use std::{cmp::Ordering, sync::Arc};

/// Most entries of a node.
const NODE_MAX: usize = 32;
/// Most nodes above a leaf. Each needs sixteen times as many insertions as the one below it, and slots are numbered with
/// 32 bits.
const DEPTH_MAX: usize = 8;

/// Where the keys are.
pub(super) trait Keys {
    /// The key in `slot`.
    fn key(&self, slot: u32) -> &[u8];
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    root: Arc<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    entries: Entries,
    /// A child for each entry; none in a leaf.
    children: Vec<Arc<Node>>,
}

#[derive(Clone, Debug, Default)]
struct Entries {
    len: usize,
    /// How many bytes all the keys begin with in common, at least.
    shared: usize,
    heads: [u64; NODE_MAX],
    slots: [u32; NODE_MAX],
}

impl Tree {
    pub(super) fn is_empty(&self) -> bool {
        self.root.entries.len == 0
    }

    /// The slot with `key`.
    pub(super) fn find(&self, keys: &impl Keys, key: &[u8]) -> Option<u32> {
        let mut node = &*self.root;
        while !node.children.is_empty() {
            node = &node.children[node.child_for(keys, key)];
        }
        node.entries.search(keys, key).ok().map(|at| node.entries.slots[at])
    }

    /// Puts `slot` where its key belongs. Answers the slot that had this key.
    pub(super) fn insert(&mut self, keys: &impl Keys, slot: u32) -> Option<u32> {
        let mut inserted = Inserted::default();
        Arc::make_mut(&mut self.root).insert(keys, keys.key(slot), slot, &mut inserted);
        if let Some(right) = inserted.split {
            let left = std::mem::take(&mut self.root);
            let root = Arc::make_mut(&mut self.root);
            for (at, child) in [left, right].into_iter().enumerate() {
                root.entries.insert(keys, at, child.entries.slots[0]);
                root.children.push(child);
            }
        }
        inserted.replaced
    }

    /// Takes out the slot with `key`.
    pub(super) fn remove(&mut self, keys: &impl Keys, key: &[u8]) -> Option<u32> {
        self.find(keys, key)?;
        let removed = Arc::make_mut(&mut self.root).remove(keys, key);
        while self.root.children.len() == 1 {
            let only = self.root.children[0].clone();
            self.root = only;
        }
        removed
    }

    /// The first entry whose key is not before `key`; the end, if there is none.
    pub(super) fn seek<'a>(&'a self, keys: &impl Keys, key: &[u8]) -> Path<'a> {
        let mut path = self.path();
        while !path.leaf.children.is_empty() {
            let at = path.leaf.child_for(keys, key);
            path.descend(at);
        }
        path.at = path.leaf.entries.search(keys, key).unwrap_or_else(|at| at);
        path.settle();
        path
    }

    /// Before the first entry.
    pub(super) fn begin(&self) -> Path<'_> {
        let mut path = self.path();
        while !path.leaf.children.is_empty() {
            path.descend(0);
        }
        path
    }

    /// Behind the last entry.
    pub(super) fn end(&self) -> Path<'_> {
        let mut path = self.path();
        while !path.leaf.children.is_empty() {
            path.descend(path.leaf.children.len() - 1);
        }
        path.at = path.leaf.entries.len;
        path
    }

    fn path(&self) -> Path<'_> {
        Path { above: [None; DEPTH_MAX], depth: 0, leaf: &self.root, at: 0 }
    }
}

/// What came of an insertion below.
#[derive(Default)]
struct Inserted {
    replaced: Option<u32>,
    /// A node with the upper part of what the node had, to stand behind it.
    split: Option<Arc<Node>>,
}

impl Node {
    /// Which child has `key`, if any has.
    fn child_for(&self, keys: &impl Keys, key: &[u8]) -> usize {
        match self.entries.search(keys, key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    fn insert(&mut self, keys: &impl Keys, key: &[u8], slot: u32, inserted: &mut Inserted) {
        if self.children.is_empty() {
            match self.entries.search(keys, key) {
                Ok(at) => inserted.replaced = Some(self.entries.replace(at, slot)),
                Err(at) => inserted.split = self.add(keys, at, slot, None),
            }
            return;
        }
        let at = match self.entries.search(keys, key) {
            Ok(at) => at,
            Err(0) => {
                // Before everything: what stands for the first child has to be so as well.
                self.entries.remove(0);
                self.entries.insert(keys, 0, slot);
                0
            }
            Err(at) => at - 1,
        };
        Arc::make_mut(&mut self.children[at]).insert(keys, key, slot, inserted);
        if let Some(right) = inserted.split.take() {
            inserted.split = self.add(keys, at + 1, right.entries.slots[0], Some(right));
        }
    }

    /// Adds an entry, splitting the node if it is full.
    fn add(
        &mut self,
        keys: &impl Keys,
        at: usize,
        slot: u32,
        child: Option<Arc<Node>>,
    ) -> Option<Arc<Node>> {
        if self.entries.len < NODE_MAX {
            self.put(keys, at, slot, child);
            return None;
        }
        // Keys that come in order fill their nodes.
        let middle = if at == NODE_MAX { NODE_MAX } else { NODE_MAX / 2 };
        let mut right = Self::default();
        right.entries.take_from(keys, &mut self.entries, middle);
        if !self.children.is_empty() {
            right.children = self.children.split_off(middle);
        }
        match at.checked_sub(middle) {
            Some(at) if middle == NODE_MAX || at > 0 => right.put(keys, at, slot, child),
            _ => self.put(keys, at, slot, child),
        }
        Some(Arc::new(right))
    }

    fn put(&mut self, keys: &impl Keys, at: usize, slot: u32, child: Option<Arc<Self>>) {
        self.entries.insert(keys, at, slot);
        if let Some(child) = child {
            self.children.insert(at, child);
        }
    }

    /// Removes `key`, which must be there.
    fn remove(&mut self, keys: &impl Keys, key: &[u8]) -> Option<u32> {
        if self.children.is_empty() {
            let at = self.entries.search(keys, key).ok()?;
            return Some(self.entries.remove(at));
        }
        let at = self.child_for(keys, key);
        let child = Arc::make_mut(&mut self.children[at]);
        let removed = child.remove(keys, key);
        if child.entries.len == 0 {
            self.entries.remove(at);
            self.children.remove(at);
        }
        removed
    }
}

impl Entries {
    /// Where `key` is, or would be.
    fn search(&self, keys: &impl Keys, key: &[u8]) -> Result<usize, usize> {
        if self.len == 0 {
            return Err(0);
        }
        let shared = &keys.key(self.slots[0])[..self.shared];
        let begins = &key[..key.len().min(self.shared)];
        match begins.cmp(shared) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len),
            Ordering::Equal => {}
        }
        let head = head(&key[self.shared..]);
        let first = self.heads[..self.len].partition_point(|other| *other < head);
        let alike = self.heads[first..self.len].partition_point(|other| *other == head);
        let found =
            self.slots[first..first + alike].binary_search_by(|slot| keys.key(*slot).cmp(key));
        found.map(|at| first + at).map_err(|at| first + at)
    }

    fn insert(&mut self, keys: &impl Keys, at: usize, slot: u32) {
        let key = keys.key(slot);
        let shared = match self.len {
            0 => key.len(),
            _ => self.shared.min(common(key, keys.key(self.slots[0]))),
        };
        self.heads.copy_within(at..self.len, at + 1);
        self.slots.copy_within(at..self.len, at + 1);
        (self.slots[at], self.heads[at]) = (slot, head(&key[shared..]));
        self.len += 1;
        if shared != self.shared {
            self.share(keys, shared);
        }
    }

    /// Puts a slot with the same key in the place of the one at `at`.
    fn replace(&mut self, at: usize, slot: u32) -> u32 {
        std::mem::replace(&mut self.slots[at], slot)
    }

    fn remove(&mut self, at: usize) -> u32 {
        let slot = self.slots[at];
        self.heads.copy_within(at + 1..self.len, at);
        self.slots.copy_within(at + 1..self.len, at);
        self.len -= 1;
        slot
    }

    /// Takes the entries of `other` from `middle` on, having none itself.
    fn take_from(&mut self, keys: &impl Keys, other: &mut Self, middle: usize) {
        self.len = other.len - middle;
        self.slots[..self.len].copy_from_slice(&other.slots[middle..other.len]);
        other.len = middle;
        for entries in [self, other] {
            if let [first, .., last] = entries.slots[..entries.len] {
                entries.share(keys, common(keys.key(first), keys.key(last)));
            } else if let [only] = entries.slots[..entries.len] {
                entries.share(keys, keys.key(only).len());
            }
        }
    }

    fn share(&mut self, keys: &impl Keys, shared: usize) {
        self.shared = shared;
        for (head_at, slot) in self.heads.iter_mut().zip(self.slots).take(self.len) {
            *head_at = head(&keys.key(slot)[shared..]);
        }
    }
}

/// The first eight bytes, as a number that orders as they do; what is missing counts as zeros.
fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(first)
        }
    }
}

/// How many bytes `a` and `b` begin with in common.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A place in a tree: before an entry, or behind the last one.
#[derive(Clone, Debug)]
pub(super) struct Path<'a> {
    /// The nodes above the leaf, and which child of each is on the path.
    above: [Option<(&'a Node, usize)>; DEPTH_MAX],
    depth: usize,
    leaf: &'a Node,
    at: usize,
}

impl Path<'_> {
    /// The slot of the entry it is before.
    pub(super) fn slot(&self) -> Option<u32> {
        self.leaf.entries.slots[..self.leaf.entries.len].get(self.at).copied()
    }

    /// Whether both are before the same entry of the same tree.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        std::ptr::eq(self.leaf, other.leaf) && self.at == other.at
    }

    /// Moves behind the entry it is before.
    pub(super) fn advance(&mut self) {
        self.at += 1;
        self.settle();
    }

    /// Moves before the entry in front of it; whether there is one.
    pub(super) fn retreat(&mut self) -> bool {
        if self.at == 0 {
            let Some(before) = self.sibling(|at| at.checked_sub(1)) else { return false };
            *self = before;
            while !self.leaf.children.is_empty() {
                self.descend(self.leaf.children.len() - 1);
            }
            self.at = self.leaf.entries.len;
        }
        // Only the leaf of an empty tree has nothing in it.
        self.at = self.at.saturating_sub(1);
        self.leaf.entries.len > 0
    }

    /// Behind the last entry of a leaf is before the first one of the next, if there is one.
    fn settle(&mut self) {
        if self.at < self.leaf.entries.len {
            return;
        }
        if let Some(next) = self.sibling(|at| Some(at + 1)) {
            *self = next;
            while !self.leaf.children.is_empty() {
                self.descend(0);
            }
            self.at = 0;
        }
    }

    /// The nearest node beside the path, in the direction that `step` takes.
    fn sibling(&self, step: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        for depth in (0..self.depth).rev() {
            let (node, at) = self.above[depth]?;
            if let Some(beside) = step(at).filter(|beside| *beside < node.children.len()) {
                let mut path = Self { above: self.above, depth, leaf: node, at: 0 };
                path.descend(beside);
                return Some(path);
            }
        }
        None
    }

    fn descend(&mut self, at: usize) {
        self.above[self.depth] = Some((self.leaf, at));
        self.depth += 1;
        self.leaf = &self.leaf.children[at];
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, NODE_MAX, Node, Tree};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Keys for Vec<Vec<u8>> {
        fn key(&self, slot: u32) -> &[u8] {
            &self[slot as usize]
        }
    }

    /// Keys of few bytes, so that many share beginnings, ends and heads.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0_u8), Just(7), Just(255)];
        prop_oneof![
            proptest::collection::vec(byte.clone(), 1..12),
            proptest::collection::vec(byte, 1..4).prop_map(|end| [
                b"a-shared-beginning-",
                &end[..]
            ]
            .concat()),
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Vec<u8>),
        Remove(Vec<u8>),
        Keep,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => keys().prop_map(Step::Insert),
            3 => keys().prop_map(Step::Remove),
            1 => Just(Step::Keep),
        ];
        proptest::collection::vec(step, 0..400)
    }

    type Model = BTreeMap<Vec<u8>, u32>;

    fn check(tree: &Tree, arena: &Vec<Vec<u8>>, model: &Model) {
        check_node(&tree.root, arena, true);
        let mut forward = Vec::new();
        let (mut path, end) = (tree.begin(), tree.end());
        while !path.is_at(&end) {
            forward.extend(path.slot());
            path.advance();
        }
        assert_eq!(forward, model.values().copied().collect::<Vec<_>>());
        let mut backward = Vec::new();
        let mut path = tree.end();
        while path.retreat() {
            backward.extend(path.slot());
        }
        backward.reverse();
        assert_eq!(backward, forward);
    }

    fn check_node(node: &Node, arena: &Vec<Vec<u8>>, is_root: bool) {
        let entries = &node.entries;
        assert!(entries.len > 0 || is_root && node.children.is_empty());
        assert!(node.children.is_empty() || node.children.len() == entries.len);
        assert!(entries.heads[..entries.len].is_sorted());
        for child in &node.children {
            check_node(child, arena, false);
        }
        let keys_of = |node: &Node| {
            let slots = node.entries.slots[..node.entries.len].to_vec();
            slots.into_iter().map(|slot| arena.key(slot)).collect::<Vec<_>>()
        };
        assert!(keys_of(node).is_sorted());
        for (at, child) in node.children.iter().enumerate() {
            let bound = arena.key(entries.slots[at]);
            assert!(keys_of(child).into_iter().all(|key| key >= bound));
            let before = at.checked_sub(1).map(|before| keys_of(&node.children[before]));
            assert!(before.into_iter().flatten().all(|key| key < bound));
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_an_ordered_map_and_its_clones_stay_as_they_are(steps in steps(), sought in keys()) {
            let (mut tree, mut arena, mut model) = (Tree::default(), Vec::new(), Model::new());
            let mut kept = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key) => {
                        let slot = arena.len() as u32;
                        arena.push(key.clone());
                        prop_assert_eq!(tree.insert(&arena, slot), model.insert(key, slot));
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(tree.remove(&arena, &key), model.remove(&key));
                    }
                    Step::Keep => kept.push((tree.clone(), model.clone())),
                }
            }
            prop_assert_eq!(tree.is_empty(), model.is_empty());
            prop_assert_eq!(tree.find(&arena, &sought), model.get(&sought).copied());
            prop_assert_eq!(tree.seek(&arena, &sought).slot(), model.range(sought..).next().map(|(_, slot)| *slot));
            kept.push((tree, model));
            for (tree, model) in kept {
                check(&tree, &arena, &model);
            }
        }
    }

    #[test]
    fn keys_in_order_fill_their_nodes() {
        let arena: Vec<_> = (0..1_000_u32).map(|number| number.to_be_bytes().to_vec()).collect();
        let mut tree = Tree::default();
        for slot in 0..1_000 {
            assert_eq!(tree.insert(&arena, slot), None);
        }
        assert_eq!(tree.begin().leaf.entries.len, NODE_MAX);
        assert_eq!(tree.seek(&arena, &500_u32.to_be_bytes()).slot(), Some(500));
    }
}
