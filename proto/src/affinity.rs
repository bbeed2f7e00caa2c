//! What a daemon may still have at hand of jobs it ran lately, by the names that both sides
//! give it: a template version goes by its id, a set of providers by its lock file.

use crate::ids::Digest;

/// The name of the providers that a lock file selects; none for no lock file.
#[must_use]
pub fn providers(lock_file: &[u8]) -> Option<String> {
    (!lock_file.is_empty()).then(|| Digest::of(lock_file).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lock_file_names_no_providers() {
        assert_eq!(providers(b""), None);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(providers(b"abc").as_deref(), Some(abc));
    }
}
