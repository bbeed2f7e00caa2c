//! Edges from the `configuration` of a plan: the references of every expression, through
//! module inputs and outputs, `depends_on`, `count` and `for_each`, provisioners and
//! provider settings.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::LocalHint;
use super::address::segments;
use super::graph::{Graph, Node, Role};
use super::records::{Mode, join};
use super::references::{Expressions, References};

/// `configuration` of `show -json PLAN`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Configuration<'a> {
    #[serde(borrow, default)]
    provider_config: HashMap<Cow<'a, str>, Provider<'a>>,
    #[serde(borrow, default)]
    root_module: Module<'a>,
}

#[derive(Debug, Deserialize)]
struct Provider<'a> {
    #[serde(borrow, default)]
    module_address: Cow<'a, str>,
    #[serde(default)]
    expressions: References,
}

#[derive(Debug, Default, Deserialize)]
struct Module<'a> {
    #[serde(borrow, default)]
    outputs: BTreeMap<Cow<'a, str>, Output>,
    #[serde(borrow, default)]
    resources: Vec<Resource<'a>>,
    #[serde(borrow, default)]
    module_calls: BTreeMap<Cow<'a, str>, Call<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Output {
    #[serde(default)]
    expression: References,
    #[serde(default)]
    depends_on: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resource<'a> {
    mode: Mode,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    provider_config_key: Cow<'a, str>,
    #[serde(default)]
    expressions: Expressions,
    #[serde(default)]
    count_expression: References,
    #[serde(default)]
    for_each_expression: References,
    #[serde(default)]
    provisioners: References,
    #[serde(default)]
    depends_on: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    expressions: BTreeMap<Cow<'a, str>, References>,
    #[serde(default)]
    count_expression: References,
    #[serde(default)]
    for_each_expression: References,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(borrow, default)]
    module: Module<'a>,
}

/// Adds every edge of a configuration to the graph.
pub(super) fn add(configuration: &Configuration, locals: &[LocalHint], graph: &mut Graph) {
    let mut builder = Builder { graph };
    for (key, provider) in &configuration.provider_config {
        let scope = Scope::of(&provider.module_address);
        let node = builder.other(&format!("provider:{key}"));
        builder.refer(node, &scope, &provider.expressions);
    }
    for local in locals {
        let scope = Scope::of_calls(&local.module);
        let node = builder.other(&scope.named("local:", &local.name));
        for reference in &local.references {
            builder.reference(node, &scope, reference);
        }
    }
    builder.module(&Scope::default(), &configuration.root_module);
}

/// Name of the node that stands for the attribute by which a coder resource is attached.
pub(super) fn attachment(label: &str) -> String {
    format!("attachment:{label}")
}

/// The module in which a reference is read, as a label: `module.a.module.b`.
#[derive(Debug, Clone, Default)]
struct Scope(String);

impl Scope {
    fn of(module_address: &str) -> Self {
        Self(super::address::label(module_address))
    }

    fn of_calls(calls: &str) -> Self {
        calls
            .split('.')
            .filter(|call| !call.is_empty())
            .fold(Self::default(), |scope, call| scope.child(call))
    }

    fn child(&self, call: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}module.{call}", self.0))
    }

    /// Colons cannot stand in names, so these never collide with resources.
    fn named(&self, what: &str, name: &str) -> String {
        format!("{}:{what}{name}", self.0)
    }

    fn input(&self, name: &str) -> String {
        self.named("var:", name)
    }

    fn output(&self, name: &str) -> String {
        self.named("output:", name)
    }

    /// What all resources in the module wait for.
    fn call(&self) -> String {
        self.named("call:", "")
    }

    /// What waits for all resources in the module.
    fn whole(&self) -> String {
        self.named("whole:", "")
    }

    /// What refers to all outputs of the module.
    fn outputs(&self) -> String {
        self.named("outputs:", "")
    }
}

struct Builder<'g> {
    graph: &'g mut Graph,
}

impl Builder<'_> {
    fn other(&mut self, label: &str) -> Node {
        self.graph.node(label, Role::Other)
    }

    fn resource(&mut self, scope: &Scope, mode: Mode, kind: &str, name: &str) -> Node {
        let role = match mode {
            Mode::Managed => Role::Managed(kind.to_owned()),
            Mode::Data | Mode::Ephemeral => Role::Other,
        };
        self.graph.node(&join(&scope.0, mode, kind, name), role)
    }

    fn module(&mut self, scope: &Scope, module: &Module) {
        let (whole, outputs) = (self.other(&scope.whole()), self.other(&scope.outputs()));
        let call = self.other(&scope.call());
        for resource in &module.resources {
            let node = self.resource(scope, resource.mode, &resource.kind, &resource.name);
            self.graph.edge(whole, node);
            self.graph.edge(node, call);
            self.resource_edges(node, scope, resource);
        }
        for (name, output) in &module.outputs {
            let node = self.other(&scope.output(name));
            self.graph.edge(outputs, node);
            self.refer(node, scope, &output.expression);
            self.depend(node, scope, &output.depends_on);
        }
        for (name, called) in &module.module_calls {
            let child = scope.child(name);
            let node = self.other(&child.call());
            self.graph.edge(node, call);
            self.refer(node, scope, &called.count_expression);
            self.refer(node, scope, &called.for_each_expression);
            self.depend(node, scope, &called.depends_on);
            for (input, expression) in &called.expressions {
                let node = self.other(&child.input(input));
                self.refer(node, scope, expression);
            }
            self.module(&child, &called.module);
            let inner = self.other(&child.whole());
            self.graph.edge(whole, inner);
        }
    }

    fn resource_edges(&mut self, node: Node, scope: &Scope, resource: &Resource) {
        let provider = self.other(&format!("provider:{}", resource.provider_config_key));
        self.graph.edge(node, provider);
        for references in [
            &resource.expressions.all,
            &resource.count_expression,
            &resource.for_each_expression,
            &resource.provisioners,
        ] {
            self.refer(node, scope, references);
        }
        self.depend(node, scope, &resource.depends_on);
        if let Some(attached) = &resource.expressions.attachment {
            let label = attachment(self.graph.label(node));
            let node = self.other(&label);
            self.refer(node, scope, attached);
        }
    }

    fn refer(&mut self, from: Node, scope: &Scope, references: &References) {
        for reference in &references.0 {
            self.reference(from, scope, reference);
        }
    }

    fn depend(&mut self, from: Node, scope: &Scope, depends_on: &[String]) {
        for dependency in depends_on {
            let parts: Vec<&str> = segments(dependency).map(|segment| segment.name).collect();
            if let ["module", call] = parts[..] {
                let whole = self.other(&scope.child(call).whole());
                self.graph.edge(from, whole);
            } else {
                self.reference(from, scope, dependency);
            }
        }
    }

    /// One reference as plan JSON has them: `coder_agent.main.token`, `module.m[0].out`.
    fn reference(&mut self, from: Node, scope: &Scope, reference: &str) {
        let parts: Vec<&str> = segments(reference).map(|segment| segment.name).collect();
        let to = match parts[..] {
            ["var", name, ..] => self.other(&scope.input(name)),
            ["local", name, ..] => self.other(&scope.named("local:", name)),
            ["module", call, output, ..] => self.other(&scope.child(call).output(output)),
            ["module", call] => self.other(&scope.child(call).outputs()),
            ["data", kind, name, ..] => self.resource(scope, Mode::Data, kind, name),
            ["ephemeral", kind, name, ..] => self.resource(scope, Mode::Ephemeral, kind, name),
            [
                "each" | "count" | "path" | "self" | "terraform" | "tofu",
                ..,
            ] => return,
            [kind, name, ..] => self.resource(scope, Mode::Managed, kind, name),
            [] | [_] => return,
        };
        self.graph.edge(from, to);
    }
}
