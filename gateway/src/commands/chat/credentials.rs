//! What proves who we are.

use crate::keys::{KeysError, sign_token};
use roost_protocol::ids::UserId;
use serde::Deserialize;
use std::path::PathBuf;

/// For how long a token of ours is good; a longer chat signs another one.
const TOKEN_TTL_S: u64 = 24 * 60 * 60;

/// What a token says, to whoever believes it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Claims {
    /// The user.
    #[serde(default)]
    pub(super) sub: Option<String>,
    /// The name of the device.
    #[serde(default)]
    pub(super) device: Option<String>,
}

/// Looks into a token without checking it: the server does. What cannot be read says nothing.
pub(super) fn peek(token: &str) -> Claims {
    jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap_or_default()
}

/// Where tokens come from.
#[derive(Debug)]
pub(super) enum Credentials {
    /// From the key of a data folder.
    Key { data: PathBuf, user: UserId, device: Option<String> },
    /// From the command line: there is no other one.
    Token,
}

impl Credentials {
    /// A new token, if we can make one.
    pub(super) fn renew(&self) -> Result<Option<String>, KeysError> {
        let Self::Key { data, user, device } = self else { return Ok(None) };
        let now = roost_event_loop::now().wall;
        sign_token(data, user, device.as_deref(), TOKEN_TTL_S, now).map(Some)
    }
}
