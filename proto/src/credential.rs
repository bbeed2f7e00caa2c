//! How provisioner keys and client tokens are made, and what is stored of them.

use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What a credential is for; its first letters say so, so that scanners and people
/// recognize a leaked one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A provisioner key, held by daemons.
    Key,
    /// A client token, held by people and scripts.
    Token,
}

impl Credential {
    /// The prefix of such a credential.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Key => "pdk_",
            Self::Token => "pdt_",
        }
    }

    /// A new credential: the prefix and 256 random bits in hex.
    #[must_use]
    pub fn generate(self) -> Secret {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let random = Zeroizing::new(rand::random::<[u8; 32]>());
        let mut text = String::with_capacity(self.prefix().len() + 64);
        text.push_str(self.prefix());
        for byte in random.iter() {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Secret::from(text)
    }
}

/// SHA-256 of a credential: what a store keeps of it. Enough without salt or
/// stretching, because a credential is 256 random bits.
#[must_use]
pub fn hash(secret: &Secret) -> [u8; 32] {
    sha2::Sha256::digest(secret.expose().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_differ_and_name_their_use() {
        let one = Credential::Key.generate();
        let two = Credential::Key.generate();
        assert_ne!(one, two);
        assert!(one.expose().starts_with("pdk_"));
        assert_eq!(one.expose().len(), 4 + 64);
        assert!(Credential::Token.generate().expose().starts_with("pdt_"));
    }

    #[test]
    fn what_is_stored_is_sha256_of_the_text() {
        let stored = hash(&Secret::from("abc".to_owned()));
        assert_eq!(stored, *crate::ids::Digest::of(b"abc").as_bytes());
    }
}
