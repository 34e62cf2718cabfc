//! What proves who we are.

use crate::keys::{KeysError, sign_token};
use roost_protocol::ids::UserId;
use std::path::PathBuf;

/// For how long a token of ours is good; a longer chat signs another one.
const TOKEN_TTL_S: u64 = 24 * 60 * 60;

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
