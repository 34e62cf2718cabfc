//! The first four bytes of a connection, from the device: protocol and version.

/// `ROO` and the version.
pub const PREFACE: [u8; 4] = [b'R', b'O', b'O', VERSION];
/// The version of the protocol this crate speaks.
pub const VERSION: u8 = 1;

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// Ours.
    Valid,
    /// Right so far.
    Incomplete,
    /// Our protocol in a version we do not speak.
    UnsupportedVersion(u8),
    /// Something else.
    Invalid,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn check(bytes: &[u8]) -> Preface {
    let name = PREFACE.iter().take(3);
    if !bytes.iter().zip(name).all(|(byte, expected)| byte == expected) {
        return Preface::Invalid;
    }
    match bytes.get(3) {
        None => Preface::Incomplete,
        Some(&VERSION) => Preface::Valid,
        Some(&version) => Preface::UnsupportedVersion(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_known_by_its_first_wrong_byte() {
        assert_eq!(check(b""), Preface::Incomplete);
        assert_eq!(check(b"RO"), Preface::Incomplete);
        assert_eq!(check(b"G"), Preface::Invalid);
        assert_eq!(check(b"ROO\x01"), Preface::Valid);
        assert_eq!(check(b"ROO\x02"), Preface::UnsupportedVersion(2));
    }
}
