//! Edges between transactions, and the cycles among them.
//!
//! Strongly connected components are found with Tarjan's algorithm (1972), written without recursion because histories
//! are longer than stacks are deep. It runs once per set of edges, from the fewest to all, so that a cycle is named
//! after the least it needs.

use super::append::Anomaly;
use std::collections::{HashSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    WriteWrite,
    WriteRead,
    ReadWrite,
    RealTime,
}

use Edge::{ReadWrite, RealTime, WriteRead, WriteWrite};

pub(super) struct Graph {
    /// The first so many nodes are transactions; the others are instants.
    transactions: usize,
    edges: Vec<Vec<(usize, Edge)>>,
}

impl Graph {
    pub(super) fn new(transactions: usize) -> Self {
        Self { transactions, edges: vec![Vec::new(); transactions] }
    }

    pub(super) fn node(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    /// An edge to itself says nothing: a transaction may well append after what it read.
    pub(super) fn link(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges[from].push((to, edge));
        }
    }

    /// One anomaly per knot of transactions, named after the fewest kinds of edges that tie it.
    pub(super) fn cycles(&self) -> Vec<Anomaly> {
        let mut reported: HashSet<usize> = HashSet::new();
        let mut anomalies = Vec::new();
        let sets: [&[Edge]; 4] = [
            &[WriteWrite],
            &[WriteWrite, WriteRead],
            &[WriteWrite, WriteRead, ReadWrite],
            &[WriteWrite, WriteRead, ReadWrite, RealTime],
        ];
        for (which, allowed) in sets.into_iter().enumerate() {
            for knot in self.components(allowed) {
                let fresh = knot.iter().all(|node| !reported.contains(node));
                if knot.len() < 2 || !fresh {
                    continue;
                }
                let inside: HashSet<usize> = knot.iter().copied().collect();
                let cycle = || self.cycle_through(knot[0], allowed, &inside);
                anomalies.push(match which {
                    0 => Anomaly::WriteCycle(cycle()),
                    1 => Anomaly::CircularInformation(cycle()),
                    2 => match self.single(&knot, &inside) {
                        Some(cycle) => Anomaly::SingleAntiDependency(cycle),
                        None => Anomaly::AntiDependencyCycle(cycle()),
                    },
                    _ => Anomaly::RealTimeCycle(cycle()),
                });
                reported.extend(knot);
            }
        }
        anomalies
    }

    /// A cycle with one read-write edge: a way back from its end to its beginning without another one.
    fn single(&self, knot: &[usize], inside: &HashSet<usize>) -> Option<Vec<usize>> {
        knot.iter().find_map(|&reader| {
            self.edges[reader].iter().find_map(|&(writer, edge)| {
                let candidate = edge == ReadWrite && inside.contains(&writer);
                let back = candidate
                    .then(|| self.path(writer, reader, &[WriteWrite, WriteRead], inside))??;
                Some(self.only_transactions(back))
            })
        })
    }

    fn cycle_through(&self, node: usize, allowed: &[Edge], inside: &HashSet<usize>) -> Vec<usize> {
        let steps =
            self.edges[node].iter().filter(|(to, e)| allowed.contains(e) && inside.contains(to));
        let cycle =
            steps.filter_map(|(to, _)| self.path(*to, node, allowed, inside)).min_by_key(Vec::len);
        self.only_transactions(cycle.unwrap_or_default())
    }

    fn only_transactions(&self, path: Vec<usize>) -> Vec<usize> {
        path.into_iter().filter(|node| *node < self.transactions).collect()
    }

    /// A shortest path, both ends included.
    fn path(
        &self,
        from: usize,
        to: usize,
        allowed: &[Edge],
        inside: &HashSet<usize>,
    ) -> Option<Vec<usize>> {
        let mut came_from = std::collections::HashMap::from([(from, from)]);
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                let mut path = vec![node];
                let mut at = node;
                while at != from {
                    at = came_from[&at];
                    path.push(at);
                }
                path.reverse();
                return Some(path);
            }
            for &(next, edge) in &self.edges[node] {
                if allowed.contains(&edge)
                    && inside.contains(&next)
                    && !came_from.contains_key(&next)
                {
                    came_from.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    /// Tarjan's strongly connected components over the edges `allowed`.
    fn components(&self, allowed: &[Edge]) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.edges.len();
        let (mut order, mut low) = (vec![UNSEEN; count], vec![0; count]);
        let (mut stack, mut on_stack) = (Vec::new(), vec![false; count]);
        let (mut found, mut next) = (Vec::new(), 0);
        for root in 0..count {
            if order[root] != UNSEEN {
                continue;
            }
            // A frame is a node and how many of its edges are done.
            let mut frames = vec![(root, 0)];
            while let Some((node, done)) = frames.last_mut() {
                let node = *node;
                if *done == 0 {
                    (order[node], low[node]) = (next, next);
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                let Some(&(to, edge)) = self.edges[node].get(*done) else {
                    frames.pop();
                    if let Some((parent, _)) = frames.last() {
                        low[*parent] = low[*parent].min(low[node]);
                    }
                    if low[node] == order[node] {
                        found.push(pop_component(node, &mut stack, &mut on_stack));
                    }
                    continue;
                };
                *done += 1;
                if !allowed.contains(&edge) {
                    continue;
                }
                if order[to] == UNSEEN {
                    frames.push((to, 0));
                } else if on_stack[to] {
                    low[node] = low[node].min(order[to]);
                }
            }
        }
        found
    }
}

fn pop_component(root: usize, stack: &mut Vec<usize>, on_stack: &mut [bool]) -> Vec<usize> {
    let mut component = Vec::new();
    while let Some(node) = stack.pop() {
        on_stack[node] = false;
        component.push(node);
        if node == root {
            break;
        }
    }
    component
}
