//! Collects `references` out of the expression trees of a plan's configuration, whose
//! shape follows each provider's schema: nested blocks are arrays or objects of the same.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The attributes by which coder resources are attached to others.
const ATTACHMENTS: [&str; 2] = ["agent_id", "resource_id"];

/// References of an expression and of everything below it. An engine lists
/// `coder_agent.main.token` together with `coder_agent.main`; only the longest is kept.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct References(pub(super) Vec<String>);

/// Expressions of one resource.
#[derive(Debug, Default)]
pub(super) struct Expressions {
    pub(super) all: References,
    /// Those of `agent_id` or `resource_id` alone.
    pub(super) attachment: Option<References>,
}

impl<'de> Deserialize<'de> for References {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Self::default();
        Collect(&mut found).deserialize(deserializer)?;
        Ok(found)
    }
}

impl<'de> Deserialize<'de> for Expressions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Attributes;
        impl<'de> Visitor<'de> for Attributes {
            type Value = Expressions;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("expressions by attribute")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Expressions, A::Error> {
                let mut expressions = Expressions::default();
                while let Some(name) = map.next_key::<String>()? {
                    let References(found) = map.next_value()?;
                    if ATTACHMENTS.contains(&name.as_str()) {
                        expressions.attachment = Some(References(found.clone()));
                    }
                    expressions.all.0.extend(found);
                }
                Ok(expressions)
            }
        }
        deserializer.deserialize_map(Attributes)
    }
}

/// Walks any value and adds what stands in arrays named `references`.
struct Collect<'r>(&'r mut References);

impl<'de> DeserializeSeed<'de> for Collect<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an expression")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "references" => map.next_value_seed(List(&mut *self.0))?,
                "constant_value" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => map.next_value_seed(Collect(&mut *self.0))?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Collect(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The value of `references`: strings, unless a provider has a block of that name.
struct List<'r>(&'r mut References);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("references")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Collect(self.0).visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut here = Vec::new();
        while seq
            .next_element_seed(Item {
                here: &mut here,
                below: &mut *self.0,
            })?
            .is_some()
        {}
        self.0.0.extend(longest(here));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

struct Item<'r> {
    here: &'r mut Vec<String>,
    below: &'r mut References,
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a reference")
    }

    fn visit_str<E>(self, reference: &str) -> Result<(), E> {
        self.here.push(reference.to_owned());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Collect(self.below).visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Collect(self.below).visit_seq(seq)
    }
}

/// Drops each reference that another one in the list goes on from.
fn longest(mut references: Vec<String>) -> Vec<String> {
    references.sort_unstable();
    references.dedup();
    let shorter: HashSet<&str> = references
        .iter()
        .flat_map(|reference| {
            reference
                .match_indices(['.', '['])
                .map(|(at, _)| &reference[..at])
        })
        .collect();
    let kept: Vec<bool> = references
        .iter()
        .map(|reference| !shorter.contains(reference.as_str()))
        .collect();
    let mut kept = kept.into_iter();
    references.retain(|_| kept.next().unwrap_or(true));
    references
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(json: &str) -> Vec<String> {
        serde_json::from_str::<References>(json).unwrap().0
    }

    #[test]
    fn references_are_found_at_every_depth_and_only_the_longest_kept() {
        let json = r#"{"a": {"references": ["t.n.x", "t.n", "t.n-x", "module.m[0].o", "module.m[0]", "module.m"]},
            "block": [{"b": {"constant_value": {"references": ["no"]}}, "c": {"references": ["var.v"]}}]}"#;
        assert_eq!(collect(json), ["module.m[0].o", "t.n-x", "t.n.x", "var.v"]);
    }

    #[test]
    fn a_block_may_be_named_references() {
        let json = r#"{"references": [{"name": {"references": ["var.v"]}}]}"#;
        assert_eq!(collect(json), ["var.v"]);
    }
}
