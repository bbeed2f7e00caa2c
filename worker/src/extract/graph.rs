//! What refers to what, between labels. Walks visit each edge a bounded number of times,
//! however many paths there are.
//!
//! *Down* leads from a resource to what it refers to, *up* to what refers to it.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};

/// Index of a node.
pub(super) type Node = usize;

/// What a node stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// A managed resource, by its type.
    Managed(String),
    /// Everything that only passes references on: data sources, variables, outputs,
    /// locals, modules, providers.
    Other,
}

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Down,
    Up,
}

/// A node found by a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) node: Node,
    /// References on the longest way there.
    distance: usize,
}

/// The graph. Edges may come before the nodes they lead to.
#[derive(Debug, Default)]
pub(super) struct Graph {
    index: HashMap<String, Node>,
    labels: Vec<String>,
    roles: Vec<Role>,
    down: Vec<Vec<Node>>,
    up: Vec<Vec<Node>>,
    steps: Cell<u64>,
}

impl Graph {
    /// The node of a label, made when it is new.
    pub(super) fn node(&mut self, label: &str, role: Role) -> Node {
        if let Some(node) = self.index.get(label) {
            return *node;
        }
        let node = self.labels.len();
        self.index.insert(label.to_owned(), node);
        self.labels.push(label.to_owned());
        self.roles.push(role);
        self.down.push(Vec::new());
        self.up.push(Vec::new());
        node
    }

    /// Notes that `from` refers to `to`.
    pub(super) fn edge(&mut self, from: Node, to: Node) {
        if from != to {
            self.down[from].push(to);
            self.up[to].push(from);
        }
    }

    /// The node of a label, if there is one.
    pub(super) fn find(&self, label: &str) -> Option<Node> {
        self.index.get(label).copied()
    }

    pub(super) fn label(&self, node: Node) -> &str {
        &self.labels[node]
    }

    /// Is there a managed resource of this type in the configuration or state?
    pub(super) fn has_managed(&self, kind: &str) -> bool {
        self.roles
            .iter()
            .any(|role| matches!(role, Role::Managed(known) if known == kind))
    }

    /// Edges followed by all walks so far.
    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    #[cfg(test)]
    pub(super) fn edges(&self) -> usize {
        self.down.iter().map(Vec::len).sum()
    }

    /// The wanted managed resources that are reached without passing another wanted one,
    /// nearest first, then by label. One that reaches the start only *beside* its way
    /// through another wanted one is not near: the graph is walked as if it were
    /// transitively reduced.
    pub(super) fn nearest(
        &self,
        from: Node,
        way: Way,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<Found> {
        let is_wanted = |node: Node| {
            node != from && matches!(&self.roles[node], Role::Managed(kind) if wanted(kind))
        };
        let (mut inside, mut ends) = (vec![false; self.labels.len()], Vec::new());
        inside[from] = true;
        let mut open = VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            for next in self.follow(node, way) {
                if !std::mem::replace(&mut inside[next], true) {
                    if is_wanted(next) {
                        ends.push(next);
                    } else {
                        open.push_back(next);
                    }
                }
            }
        }
        let ends = self.without_farther(ends, way);
        let distances = self.longest(from, way, &inside, is_wanted);
        let mut found: Vec<Found> = ends
            .into_iter()
            .map(|node| Found {
                node,
                distance: distances.get(&node).copied().unwrap_or(usize::MAX),
            })
            .collect();
        found.sort_by(|a, b| {
            (a.distance, self.label(a.node)).cmp(&(b.distance, self.label(b.node)))
        });
        found
    }

    /// Drops the ends that lie beyond another end.
    fn without_farther(&self, ends: Vec<Node>, way: Way) -> Vec<Node> {
        if ends.len() < 2 {
            return ends;
        }
        let mut beyond = vec![false; self.labels.len()];
        let mut open: Vec<Node> = ends.clone();
        while let Some(node) = open.pop() {
            for next in self.follow(node, way) {
                if !std::mem::replace(&mut beyond[next], true) {
                    open.push(next);
                }
            }
        }
        let near: Vec<Node> = ends.iter().copied().filter(|node| !beyond[*node]).collect();
        // Only a cycle, which no engine writes, could leave none.
        if near.is_empty() { ends } else { near }
    }

    /// Longest ways from the start within the nodes walked, in topological order.
    fn longest(
        &self,
        from: Node,
        way: Way,
        inside: &[bool],
        is_end: impl Fn(Node) -> bool,
    ) -> HashMap<Node, usize> {
        let back = match way {
            Way::Down => &self.up,
            Way::Up => &self.down,
        };
        let mut waiting: HashMap<Node, usize> = HashMap::new();
        let mut distances = HashMap::from([(from, 0)]);
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            let distance = distances[&node] + 1;
            for next in self.follow(node, way) {
                let left = waiting.entry(next).or_insert_with(|| {
                    self.count(back[next].len());
                    back[next].iter().filter(|before| inside[**before]).count()
                });
                *left = left.saturating_sub(1);
                let known = distances.entry(next).or_default();
                *known = (*known).max(distance);
                if *left == 0 && !is_end(next) {
                    open.push(next);
                }
            }
        }
        distances
    }

    fn follow(&self, node: Node, way: Way) -> impl Iterator<Item = Node> {
        let next = match way {
            Way::Down => &self.down[node],
            Way::Up => &self.up[node],
        };
        self.count(next.len());
        next.iter().copied()
    }

    fn count(&self, steps: usize) {
        self.steps.set(self.steps.get() + steps as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kind: &str) -> bool {
        !kind.starts_with("coder_")
    }

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            let nodes = [from, to].map(|label| match label.split_once('.') {
                Some((kind, _)) => graph.node(label, Role::Managed(kind.to_owned())),
                None => graph.node(label, Role::Other),
            });
            graph.edge(nodes[0], nodes[1]);
        }
        graph
    }

    fn above(graph: &Graph, label: &str) -> Vec<String> {
        graph
            .nearest(graph.find(label).unwrap(), Way::Up, host)
            .iter()
            .map(|found| graph.label(found.node).to_owned())
            .collect()
    }

    #[test]
    fn a_resource_behind_another_is_not_near() {
        let edges = [
            ("vm.b", "coder_agent.x"),
            ("vm.a", "coder_agent.x"),
            ("vm.a", "vm.b"),
        ];
        assert_eq!(above(&graph(&edges), "coder_agent.x"), ["vm.b"]);
    }

    #[test]
    fn a_direct_reference_beside_a_longer_way_does_not_bring_nearer() {
        let edges = [
            ("vm.a", "local"),
            ("local", "coder_agent.x"),
            ("vm.a", "coder_agent.x"),
            ("vm.b", "coder_agent.x"),
        ];
        assert_eq!(above(&graph(&edges), "coder_agent.x"), ["vm.b", "vm.a"]);
    }

    #[test]
    fn equal_distances_go_by_label() {
        let edges = [("vm.b", "coder_agent.x"), ("vm.a", "coder_agent.x")];
        assert_eq!(above(&graph(&edges), "coder_agent.x"), ["vm.a", "vm.b"]);
    }

    #[test]
    fn a_cycle_ends() {
        let edges = [
            ("one", "coder_agent.x"),
            ("one", "two"),
            ("two", "one"),
            ("vm.a", "two"),
        ];
        assert_eq!(above(&graph(&edges), "coder_agent.x"), ["vm.a"]);
        let hosts = [
            ("vm.a", "coder_agent.x"),
            ("vm.b", "coder_agent.x"),
            ("vm.a", "vm.b"),
            ("vm.b", "vm.a"),
        ];
        assert_eq!(above(&graph(&hosts), "coder_agent.x").len(), 2);
    }

    #[test]
    fn steps_grow_with_edges_not_with_paths() {
        // A ladder of 1,000 rungs has 2^1000 paths from its top to the agent.
        let mut graph = Graph::default();
        let mut below = [graph.node("coder_agent.x", Role::Managed("coder_agent".into())); 2];
        for rung in 0..1_000 {
            let here = ["l", "r"].map(|side| graph.node(&format!("{side}{rung}"), Role::Other));
            for from in here {
                for to in below {
                    graph.edge(from, to);
                }
            }
            below = here;
        }
        let top = graph.node("vm.top", Role::Managed("vm".into()));
        graph.edge(top, below[0]);
        graph.edge(top, below[1]);
        assert!(graph.labels.len() > 2_000);
        assert_eq!(above(&graph, "coder_agent.x"), ["vm.top"]);
        assert!(
            graph.steps() <= 4 * graph.edges() as u64,
            "{} steps",
            graph.steps()
        );
    }
}
