//! Addresses as engines print them. A *label* is an address without instance keys:
//! `module.a[0].coder_agent.x["k"]` has the label `module.a.coder_agent.x`. Configuration
//! speaks in labels, values in addresses.

/// The address without its instance keys.
pub(super) fn label(address: &str) -> String {
    segments(address)
        .map(|segment| segment.name)
        .collect::<Vec<_>>()
        .join(".")
}

/// A part of an address between dots, and its instance key with brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) name: &'a str,
    pub(super) key: &'a str,
}

/// Splits at the dots that are not inside an instance key, which may hold anything.
pub(super) fn segments(address: &str) -> impl Iterator<Item = Segment<'_>> {
    let mut rest = (!address.is_empty()).then_some(address);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = segment_end(text);
        rest = text.get(end + 1..);
        let segment = &text[..end];
        let (name, key) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
        Some(Segment { name, key })
    })
}

/// Where the first segment ends: at a dot outside brackets, and quotes within those.
fn segment_end(text: &str) -> usize {
    let (mut inside, mut quoted, mut escaped) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if inside => quoted = !quoted,
            b'[' if !quoted => inside = true,
            b']' if !quoted => inside = false,
            b'.' if !inside => return at,
            _ => {}
        }
    }
    text.len()
}

/// How many leading modules two module addresses share, keys included.
pub(super) fn shared_modules(one: &str, other: &str) -> usize {
    segments(one)
        .zip(segments(other))
        .take_while(|(one, other)| one == other)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lose_every_kind_of_key() {
        for (address, expected) in [
            ("null_resource.a", "null_resource.a"),
            ("null_resource.a[0]", "null_resource.a"),
            (
                r#"module.m["x.y[0]\"]"].data.t.n["."]"#,
                "module.m.data.t.n",
            ),
            ("", ""),
        ] {
            assert_eq!(label(address), expected);
        }
    }

    #[test]
    fn modules_are_shared_only_with_the_same_key() {
        assert_eq!(
            shared_modules("module.a[0].module.b", "module.a[0].module.b"),
            4
        );
        assert_eq!(shared_modules("module.a[0]", "module.a[1]"), 1);
        assert_eq!(shared_modules("", "module.a"), 0);
    }

    #[test]
    fn broken_addresses_do_not_panic() {
        for address in [".", "a.", "[", "a[\"", "a[\"\\", "é.ü[ö"] {
            let _ = label(address);
        }
    }
}
