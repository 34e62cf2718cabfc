//! What happened, as one number to compare two runs by, and in words for whoever replays a seed.

use std::fmt;

/// See the module's comment.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    told: Option<Vec<String>>,
}

impl Trace {
    /// Words are kept only when `told`.
    #[must_use]
    pub fn new(told: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, told: told.then(Vec::new) }
    }

    /// Takes a number into the hash.
    pub fn number(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3);
        self.hash ^= self.hash >> 29;
    }

    /// Takes bytes into the hash.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// Tells a line, at a virtual time.
    pub fn tell(&mut self, now_ns: u64, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let us = now_ns / 1000;
            told.push(format!("{:>5}.{:06}  {}", us / 1_000_000, us % 1_000_000, line()));
        }
    }

    /// The number that two equal runs share.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were told.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.told.as_deref().unwrap_or_default()
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// In words.
    pub what: String,
}

impl Broken {
    /// From words.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Broken {}
