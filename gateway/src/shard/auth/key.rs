//! The keys that tokens are checked with: each has a name and one algorithm.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use std::fmt;

/// Most bytes of a key's name.
pub const KID_MAX_BYTES: usize = 64;
/// Least bytes of a secret for HS256: as many as its hash has (RFC 7518, section 3.2).
pub const SECRET_MIN_BYTES: usize = 32;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TokenAlgorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// RSA of 2,048 to 8,192 bits, PKCS #1 1.5, with SHA-256.
    RS256,
    /// HMAC with SHA-256: whoever can check a token can make one.
    HS256,
}

impl TokenAlgorithm {
    /// As `alg` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::HS256 => "HS256",
        }
    }

    pub(super) const fn in_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
        }
    }
}

/// A key that tokens are checked with. Its debug text shows no key.
#[derive(Clone)]
pub struct TokenKey {
    kid: String,
    pub(super) algorithm: TokenAlgorithm,
    pub(super) key: DecodingKey,
}

impl TokenKey {
    /// A public key in PEM, for any algorithm but HS256.
    ///
    /// # Errors
    /// The name is no good, the algorithm takes a secret, or the text is not a public key of
    /// that algorithm.
    pub fn from_pem(
        kid: &str,
        algorithm: TokenAlgorithm,
        pem: &[u8],
    ) -> Result<Self, TokenKeyError> {
        check_kid(kid)?;
        let invalid = TokenKeyError::NotAPublicKey(algorithm);
        if find(pem, b"PRIVATE KEY-----") {
            return Err(TokenKeyError::PrivateKey);
        }
        let (key, check): (_, &'static dyn VerificationAlgorithm) = match algorithm {
            TokenAlgorithm::EdDSA => (DecodingKey::from_ed_pem(pem), &ED25519),
            TokenAlgorithm::ES256 => (DecodingKey::from_ec_pem(pem), &ECDSA_P256_SHA256_FIXED),
            TokenAlgorithm::RS256 => (DecodingKey::from_rsa_pem(pem), &RSA_PKCS1_2048_8192_SHA256),
            TokenAlgorithm::HS256 => return Err(TokenKeyError::SecretExpected),
        };
        let key = key.map_err(|_| invalid)?;
        let bytes = key.try_get_as_bytes().map_err(|_| invalid)?;
        ParsedPublicKey::new(check, bytes).map_err(|_| invalid)?;
        if algorithm == TokenAlgorithm::RS256 && !rsa_size_is_good(bytes) {
            return Err(invalid);
        }
        Ok(Self { kid: kid.to_owned(), algorithm, key })
    }

    /// A secret shared with the app's backend, for HS256.
    ///
    /// # Errors
    /// The name is no good, the secret is short, or it is the text of a key: what many may read
    /// is no secret.
    pub fn from_secret(kid: &str, secret: &[u8]) -> Result<Self, TokenKeyError> {
        check_kid(kid)?;
        if find(secret, b"-----BEGIN ") {
            return Err(TokenKeyError::SecretIsPem);
        }
        if secret.len() < SECRET_MIN_BYTES {
            return Err(TokenKeyError::SecretTooShort);
        }
        let key = DecodingKey::from_secret(secret);
        Ok(Self { kid: kid.to_owned(), algorithm: TokenAlgorithm::HS256, key })
    }

    /// The name that tokens call it by.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm.name(), self.kid)
    }
}

fn check_kid(kid: &str) -> Result<(), TokenKeyError> {
    if kid.is_empty() || kid.len() > KID_MAX_BYTES || kid.chars().any(char::is_control) {
        return Err(TokenKeyError::Kid);
    }
    Ok(())
}

fn rsa_size_is_good(der: &[u8]) -> bool {
    RsaParameters::public_modulus_len(der).is_ok_and(|bits| (2_048..=8_192).contains(&bits))
}

fn find(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKeyError {
    /// The name is empty, over 64 bytes, or holds a control character.
    Kid,
    /// Two keys have the same name.
    KidRepeated,
    /// HS256 takes a secret, not a public key.
    SecretExpected,
    /// The text is a private key.
    PrivateKey,
    /// The text is not a public key in PEM of this algorithm.
    NotAPublicKey(TokenAlgorithm),
    /// A secret under 32 bytes.
    SecretTooShort,
    /// The secret is the text of a key.
    SecretIsPem,
}

impl fmt::Display for TokenKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kid => "the kid must be 1 to 64 bytes without control characters",
            Self::KidRepeated => "two keys have the same kid; give each its own",
            Self::SecretExpected => "HS256 takes a secret, not a public key",
            Self::PrivateKey => "this is a private key; give the server the public one only",
            Self::NotAPublicKey(TokenAlgorithm::EdDSA) => "this is no Ed25519 public key in PEM",
            Self::NotAPublicKey(TokenAlgorithm::ES256) => "this is no P-256 public key in PEM",
            Self::NotAPublicKey(TokenAlgorithm::RS256 | TokenAlgorithm::HS256) => {
                "this is no RSA public key in PEM of 2048 to 8192 bits"
            }
            Self::SecretTooShort => "a secret needs at least 32 bytes",
            Self::SecretIsPem => "this is the text of a key, not a secret; use 32 random bytes",
        })
    }
}

impl std::error::Error for TokenKeyError {}

/// The keys that tokens are checked with, by name.
#[derive(Debug, Clone, Default)]
pub struct TokenKeys(Vec<TokenKey>);

impl TokenKeys {
    /// Keeps the keys. Without any, every token is refused.
    ///
    /// # Errors
    /// [`TokenKeyError::KidRepeated`].
    pub fn new(keys: Vec<TokenKey>) -> Result<Self, TokenKeyError> {
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().skip(index + 1).any(|other| other.kid == key.kid) {
                return Err(TokenKeyError::KidRepeated);
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn find(&self, kid: &str) -> Option<&TokenKey> {
        self.0.iter().find(|key| key.kid == kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, RsaKeySize};

    const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

    #[test]
    fn keys_are_checked_when_they_are_read() {
        let pair = |algorithm| KeyPair::generate_for(algorithm).unwrap();
        let (ed, ec) = (pair(&rcgen::PKCS_ED25519), pair(&rcgen::PKCS_ECDSA_P256_SHA256));
        let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let read = |algorithm, pair: &KeyPair| {
            TokenKey::from_pem("k", algorithm, pair.public_key_pem().as_bytes()).map(|_| ())
        };
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for (algorithm, wrong) in [
            (TokenAlgorithm::EdDSA, &rsa),
            (TokenAlgorithm::ES256, &ed),
            (TokenAlgorithm::ES256, &p384),
            (TokenAlgorithm::RS256, &ec),
        ] {
            assert_eq!(read(algorithm, wrong), Err(TokenKeyError::NotAPublicKey(algorithm)));
        }
        assert_eq!(read(TokenAlgorithm::HS256, &ed), Err(TokenKeyError::SecretExpected));
        let private = TokenKey::from_pem("k", TokenAlgorithm::EdDSA, ed.serialize_pem().as_bytes());
        assert_eq!(private.unwrap_err(), TokenKeyError::PrivateKey);
        let short = TokenKey::from_secret("k", &SECRET[..31]);
        assert_eq!(short.unwrap_err(), TokenKeyError::SecretTooShort);
        assert_eq!(TokenKey::from_secret("", SECRET).unwrap_err(), TokenKeyError::Kid);
        let twice = vec![TokenKey::from_secret("k", SECRET).unwrap(); 2];
        assert_eq!(TokenKeys::new(twice).unwrap_err(), TokenKeyError::KidRepeated);
    }
}
