//! Traffic secrets, and the keys that follow from them.
//!
//! Secrets are wiped with `zeroize`, which rustls and aws-lc-rs use, too: a plain assignment to
//! memory that is about to be freed may be left out by the compiler, and the writes that may not
//! are `unsafe`, which this crate does without.

use aws_lc_rs::aead::{AES_128_GCM, Algorithm, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::Zeroize;

/// Bytes of a secret: a SHA-256.
pub(crate) const SECRET_BYTES: usize = 32;
/// Bytes of an IV.
pub(crate) const IV_BYTES: usize = 12;
/// Bytes of the shorter key.
const KEY_BYTES: usize = 16;

/// The two that are spoken. Both have SHA-256, so that secrets are of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`
    Aes128Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`
    ChaCha20Poly1305,
}

impl Suite {
    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// Records that may be sealed with one key: RFC 8446 (5.5) allows 2^24.5 of the largest.
    pub(crate) const fn records_max(self) -> u64 {
        match self {
            Self::Aes128Gcm => 1 << 24,
            Self::ChaCha20Poly1305 => u64::MAX,
        }
    }
}

/// What a key is derived by.
const KEY: &[u8] = b"key";

/// A traffic secret, before it has a place; or a key.
#[derive(Default)]
pub(crate) struct Secret(pub(crate) [u8; SECRET_BYTES]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What one direction is sealed or opened with. It has no gaps and no heap.
pub(crate) struct Keys {
    secret: [u8; SECRET_BYTES],
    /// That of AES. ChaCha20's is twice as long and hardly ever agreed on, so it is derived
    /// whenever it is needed: everybody else would carry an empty place for it.
    key: [u8; KEY_BYTES],
    iv: [u8; IV_BYTES],
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl Keys {
    /// Derives key and IV. `None`: the library failed.
    pub(crate) fn of(suite: Suite, secret: &Secret) -> Option<Self> {
        let mut keys = Self { secret: secret.0, key: [0; KEY_BYTES], iv: [0; IV_BYTES] };
        keys.derive(suite)?;
        Some(keys)
    }

    fn derive(&mut self, suite: Suite) -> Option<()> {
        let secret = Prk::new_less_safe(HKDF_SHA256, &self.secret);
        match suite {
            Suite::Aes128Gcm => expand_label(&secret, KEY, &mut self.key)?,
            Suite::ChaCha20Poly1305 => {}
        }
        expand_label(&secret, b"iv", &mut self.iv)
    }

    /// Does something with the key. `None`: the library failed.
    fn with_key<T>(&self, suite: Suite, does: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        match suite {
            Suite::Aes128Gcm => does(&self.key),
            Suite::ChaCha20Poly1305 => {
                let mut key = Secret::default();
                let secret = Prk::new_less_safe(HKDF_SHA256, &self.secret);
                expand_label(&secret, KEY, &mut key.0)?;
                does(&key.0)
            }
        }
    }

    /// The next generation (RFC 8446, 7.2), written over this one.
    pub(crate) fn update(&mut self, suite: Suite) -> Option<()> {
        let mut next = Secret::default();
        let secret = Prk::new_less_safe(HKDF_SHA256, &self.secret);
        expand_label(&secret, b"traffic upd", &mut next.0)?;
        self.secret.copy_from_slice(&next.0);
        self.derive(suite)
    }

    /// Whether these are what rustls has derived.
    pub(crate) fn are(&self, suite: Suite, key: &[u8], iv: &[u8]) -> bool {
        use aws_lc_rs::constant_time::verify_slices_are_equal as equal;
        let is_key = self.with_key(suite, |own| equal(own, key).ok()).is_some();
        is_key && equal(&self.iv, iv).is_ok()
    }

    /// The key as the AEAD wants it: made anew for each stretch of records, because a few bytes are
    /// read faster from a cold cache than the kilobyte that it is.
    pub(crate) fn aead(&self, suite: Suite) -> Option<LessSafeKey> {
        let made = |key: &[u8]| UnboundKey::new(suite.algorithm(), key).ok();
        self.with_key(suite, made).map(LessSafeKey::new)
    }

    /// RFC 8446, 5.3.
    pub(crate) fn nonce(&self, sequence: u64) -> [u8; IV_BYTES] {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }
}

/// So many bytes of output.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label without a context (RFC 8446, 7.1).
fn expand_label(secret: &Prk, label: &[u8], out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_bytes = u8::try_from(label.len()).ok()?.checked_add(6)?;
    let info = [&length[..], &[label_bytes], b"tls13 ", label, &[0]];
    secret.expand(&info, Bytes(out.len())).and_then(|bytes| bytes.fill(out)).ok()
}

/// HKDF-Expand with any label, for what is not TLS.
pub(crate) fn expand(secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> Option<()> {
    let secret = Prk::new_less_safe(HKDF_SHA256, secret);
    secret.expand(info, Bytes(out.len())).and_then(|bytes| bytes.fill(out)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let digits: Vec<u8> = text
            .bytes()
            .filter(u8::is_ascii_hexdigit)
            .map(|digit| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap())
            .collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect();
        bytes.try_into().unwrap()
    }

    /// The server's application keys of the first handshake in RFC 8448, section 3.
    #[test]
    fn keys_are_those_of_rfc_8448() {
        let secret = Secret(hex(
            "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f \
             cb 63 16 43",
        ));
        let keys = Keys::of(Suite::Aes128Gcm, &secret).unwrap();
        let key: [u8; 16] = hex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56");
        let iv: [u8; 12] = hex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84");
        assert!(keys.are(Suite::Aes128Gcm, &key, &iv));
        let mut other = key;
        other[0] ^= 1;
        assert!(!keys.are(Suite::Aes128Gcm, &other, &iv));
    }

    /// What RFC 8446 (7.3) makes of a secret was computed apart from this, with Python's `hmac`.
    #[test]
    fn the_longer_key_is_derived_when_it_is_needed() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let keys = Keys::of(Suite::ChaCha20Poly1305, &Secret(bytes)).unwrap();
        let key: [u8; 32] = hex("2f fb c4 49 e8 78 44 05 1c 77 68 f6 1f fd 8a d0 \
             70 83 0f 01 ec 2c 52 0e f6 5f 08 e8 29 6d ff a0");
        let iv: [u8; 12] = hex("2f 41 c8 46 a4 31 a1 63 81 4b cd 71");
        assert!(keys.are(Suite::ChaCha20Poly1305, &key, &iv));
        assert!(!keys.are(Suite::ChaCha20Poly1305, &[0; 32], &iv));
        assert_eq!(keys.key, [0; KEY_BYTES]);
    }

    #[test]
    fn every_sequence_number_has_a_nonce_of_its_own() {
        let keys = Keys::of(Suite::ChaCha20Poly1305, &Secret([7; 32])).unwrap();
        let nonces: std::collections::BTreeSet<_> =
            (0..1000).chain(1 << 40..(1 << 40) + 1000).map(|n| keys.nonce(n)).collect();
        assert_eq!(nonces.len(), 2000);
        assert_eq!(keys.nonce(0), keys.iv);
    }
}
