//! `roost token`: prints a token for development and nothing else, so that a shell can catch it.

use crate::args::TokenArgs;
use crate::keys::{KeysError, sign_token};
use roost_protocol::time::Timestamp;
use std::fmt;
use std::io::{self, Write};

/// Signs a token with the data folder's key and writes it as one line.
///
/// # Errors
/// There is no usable key, or the line cannot be written.
pub fn run(args: &TokenArgs, now: Timestamp, out: &mut impl Write) -> Result<(), TokenError> {
    let token = sign_token(&args.data, &args.user, args.device.as_deref(), args.ttl_s, now)?;
    writeln!(out, "{token}").and_then(|()| out.flush()).map_err(TokenError::Output)
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// No usable key.
    Keys(KeysError),
    /// Nobody reads it.
    Output(io::Error),
}

impl From<KeysError> for TokenError {
    fn from(error: KeysError) -> Self {
        Self::Keys(error)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write the token: {error}"),
        }
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Keys(error) => Some(error),
            Self::Output(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;
    use crate::shard::auth::token::{TokenKeys, TokenRules, verify};
    use roost_protocol::ids::UserId;

    #[test]
    fn it_prints_the_token_alone() {
        let now = Timestamp { ms: 1_800_000_000_000 };
        let folder = tempfile::TempDir::new().unwrap();
        let key = SigningKey::load_or_create(folder.path()).unwrap().verifying_key().unwrap();
        let args = TokenArgs {
            data: folder.path().to_owned(),
            user: UserId::new("ann").unwrap(),
            device: None,
            ttl_s: 60,
        };
        let mut out = Vec::new();
        run(&args, now, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let token = text.strip_suffix('\n').unwrap();
        let keys = TokenKeys::new(vec![key]).unwrap();
        let claims = verify(&keys, &TokenRules::default(), token, now).unwrap();
        assert_eq!(claims.expires_ms, now.ms + 60_000);
    }
}
