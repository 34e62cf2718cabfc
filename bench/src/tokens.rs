//! Tokens for all devices, signed before the run so that signing disturbs nothing.

use roost_gateway::keys::{KeysError, SigningKey};
use roost_protocol::ids::UserId;
use std::path::Path;
use std::thread;

/// For how long tokens are good; the longest run is a day.
const TTL_S: u64 = 48 * 60 * 60;

/// The token of one user, good from now on.
///
/// # Errors
/// The key does not sign.
pub fn sign_one(key: &SigningKey, user: &str) -> Result<String, KeysError> {
    let user = UserId::new(user).expect("names are made by us");
    key.token(&user, None, TTL_S, roost_event_loop::now().wall)
}

/// One token for each user, in the same order, signed on all processors.
///
/// # Errors
/// The data folder has no key.
pub fn sign(data: &Path, users: &[String]) -> Result<Vec<String>, KeysError> {
    let key = SigningKey::load(data)?;
    let threads = thread::available_parallelism().map_or(1, Into::into);
    let share = users.len().div_ceil(threads).max(1);
    let sign_one = |user: &String| sign_one(&key, user);
    let shares: Vec<Result<Vec<String>, KeysError>> = thread::scope(|scope| {
        let running: Vec<_> = users
            .chunks(share)
            .map(|users| scope.spawn(move || users.iter().map(sign_one).collect()))
            .collect();
        running.into_iter().map(|thread| thread.join().expect("signing does not panic")).collect()
    });
    let shares: Result<Vec<_>, _> = shares.into_iter().collect();
    Ok(shares?.into_iter().flatten().collect())
}
