//! Tokens for all devices, signed before the run so that signing disturbs nothing.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use roost_gateway::keys::{KeysError, SigningKey};
use roost_protocol::ids::UserId;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

/// For how long tokens are good; the longest run is a day.
const TTL_S: u64 = 48 * 60 * 60;
/// How the server is told to call the secret of a run.
const SECRET_KID: &str = "bench";
/// How many random bytes it is made of.
const SECRET_BYTES: usize = 32;

/// A secret that a server was started with, for tokens signed with HS256.
#[derive(Debug, Clone)]
pub struct Secret {
    file: PathBuf,
    text: String,
}

impl Secret {
    /// The secret of a run, in a folder of its own. A server that is started again gets the same.
    ///
    /// # Errors
    /// It cannot be read or written, or there is nothing random.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        let file = folder.join("token-secret");
        if let Ok(text) = fs::read_to_string(&file) {
            return Ok(Self { file, text });
        }
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(io::Error::other)?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let mut created =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        created.write_all(text.as_bytes())?;
        Ok(Self { file, text })
    }

    /// What the server's configuration says of it.
    #[must_use]
    pub fn configuration(&self) -> String {
        let file = toml::Value::from(self.file.to_string_lossy().into_owned());
        format!("[[auth.keys]]\nkid = \"{SECRET_KID}\"\nalgorithm = \"HS256\"\nfile = {file}\n")
    }
}

/// What the tokens of a run are signed with.
#[derive(Debug)]
pub enum Signer {
    /// The key in the server's data folder, which signs with Ed25519.
    Folder(SigningKey),
    /// A secret of this run.
    Secret(Secret),
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
}

impl Signer {
    /// The secret, if there is one, else the key in a data folder.
    ///
    /// # Errors
    /// The folder has no key.
    pub fn new(secret: Option<&Secret>, data: &Path) -> Result<Self, KeysError> {
        match secret {
            Some(secret) => Ok(Self::Secret(secret.clone())),
            None => SigningKey::load(data).map(Self::Folder),
        }
    }

    /// The token of one user, good from now on.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn sign_one(&self, user: &str) -> Result<String, KeysError> {
        let now = roost_event_loop::now().wall;
        match self {
            Self::Folder(key) => {
                let user = UserId::new(user).expect("names are made by us");
                key.token(&user, None, TTL_S, now)
            }
            Self::Secret(secret) => {
                let iat = now.ms / 1_000;
                let claims = Claims { sub: user, iat, exp: iat + TTL_S };
                let kid = Some(SECRET_KID.to_owned());
                let header = Header { kid, ..Header::new(Algorithm::HS256) };
                let key = EncodingKey::from_secret(secret.text.as_bytes());
                Ok(jsonwebtoken::encode(&header, &claims, &key).expect("a secret signs claims"))
            }
        }
    }

    /// One token for each user, in the same order, signed on all processors.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn sign(&self, users: &[String]) -> Result<Vec<String>, KeysError> {
        let threads = thread::available_parallelism().map_or(1, Into::into);
        let share = users.len().div_ceil(threads).max(1);
        let sign_one = |user: &String| self.sign_one(user);
        let shares: Vec<Result<Vec<String>, KeysError>> = thread::scope(|scope| {
            let running: Vec<_> = users
                .chunks(share)
                .map(|users| scope.spawn(move || users.iter().map(sign_one).collect()))
                .collect();
            let joined = running.into_iter().map(|thread| thread.join());
            joined.map(|share| share.expect("signing does not panic")).collect()
        });
        let shares: Result<Vec<_>, _> = shares.into_iter().collect();
        Ok(shares?.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_gateway::keys::{TokenKeyFile, load_token_keys};

    #[test]
    fn a_secret_is_one_the_server_takes_and_stays_the_same() {
        let folder =
            std::env::temp_dir().join(format!("roost-bench-secret-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let secret = Secret::in_folder(&folder).unwrap();
        assert_eq!(Secret::in_folder(&folder).unwrap().text, secret.text);
        let told: toml::Table = secret.configuration().parse().unwrap();
        let keys: Vec<TokenKeyFile> = told["auth"]["keys"].clone().try_into().unwrap();
        assert_eq!(load_token_keys(&keys).unwrap()[0].kid(), SECRET_KID);
        let tokens = Signer::Secret(secret).sign(&["ann".to_owned(), "bob".to_owned()]).unwrap();
        assert!(tokens.iter().all(|token| token.split('.').count() == 3));
        fs::remove_dir_all(&folder).unwrap();
    }
}
