//! The secrets of a data folder, in `keys/`: made at the first start, never written over.
//!
//! | file | mode | what |
//! |---|---|---|
//! | `token-signing.pem` | 0600 | Ed25519, PKCS #8: signs what `roost token` prints |
//! | `token-public.pem` | 0644 | its public half |
//! | `tickets.json` | 0600 | the keys of resume tickets; replaced daily: see `ticket_keys` |
//! | `tls-tickets.json` | 0600 | the keys of TLS session tickets; likewise |
//! | `tls-key.pem` | 0600 | P-256, PKCS #8, for development |
//! | `tls-cert.pem` | 0644 | its certificate: localhost, 127.0.0.1, ::1 |
//!
//! A private file that any user of the machine may read is refused. Group access is left to the
//! operator: container volumes often force it.

use crate::shard::auth::key::{TokenAlgorithm, TokenKey, TokenKeyError};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use roost_protocol::ids::UserId;
use roost_protocol::time::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, str};

const FOLDER: &str = "keys";
const SIGNING_FILE: &str = "token-signing.pem";
const PUBLIC_FILE: &str = "token-public.pem";
/// The development certificate, in a data folder.
pub const TLS_CERTIFICATE: &str = "keys/tls-cert.pem";
const TLS_CERTIFICATE_FILE: &str = "tls-cert.pem";
const TLS_KEY_FILE: &str = "tls-key.pem";

pub(crate) const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const FILE_MAX_BYTES: u64 = 64 * 1024;

// ---- the signing key ----

/// The key that signs tokens on a developer's machine.
pub struct SigningKey {
    pair: KeyPair,
    path: PathBuf,
}

impl SigningKey {
    /// Reads the key of a data folder, or makes it at the first start.
    ///
    /// # Errors
    /// The file or folder cannot be written or read, or is not what it should be.
    pub fn load_or_create(data: &Path) -> Result<Self, KeysError> {
        let folder = make_folder(data)?;
        let path = folder.join(SIGNING_FILE);
        if !exists(&path)? {
            create(&path, new_signing_key()?.as_bytes(), PRIVATE)?;
        }
        let key = Self::load(data)?;
        let public = folder.join(PUBLIC_FILE);
        if !exists(&public)? {
            create(&public, key.pair.public_key_pem().as_bytes(), PUBLIC)?;
        }
        Ok(key)
    }

    /// Reads the key of a data folder.
    ///
    /// # Errors
    /// [`KeysError::NoSigningKey`] when the folder has none; others as above.
    pub fn load(data: &Path) -> Result<Self, KeysError> {
        let path = data.join(FOLDER).join(SIGNING_FILE);
        let pem = match read_private(&path) {
            Err(KeysError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(KeysError::NoSigningKey { path });
            }
            pem => pem?,
        };
        let pair = str::from_utf8(&pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        match pair {
            Some(pair) if *pair.algorithm() == rcgen::PKCS_ED25519 => Ok(Self { pair, path }),
            _ => Err(KeysError::Damaged {
                path,
                what: "is not an Ed25519 key in PKCS #8 PEM",
                remedy: "restore it, or remove it and the tokens it signed",
            }),
        }
    }

    /// `dev-` and the start of the SHA-256 of the public key.
    #[must_use]
    pub fn kid(&self) -> String {
        let hash = digest(&SHA256, self.pair.public_key_raw());
        let (start, _) = hash.as_ref().split_first_chunk().expect("a SHA-256 has 32 bytes");
        format!("dev-{:08x}", u32::from_be_bytes(*start))
    }

    /// Signs a token for development, good for `ttl_s` seconds.
    ///
    /// # Errors
    /// [`KeysError::Damaged`]: the key does not sign.
    pub fn token(
        &self,
        user: &UserId,
        device: Option<&str>,
        ttl_s: u64,
        now: Timestamp,
    ) -> Result<String, KeysError> {
        let iat = now.ms / 1_000;
        let claims = NewClaims { sub: user.as_str(), device, iat, exp: iat.saturating_add(ttl_s) };
        let header = Header { kid: Some(self.kid()), ..Header::new(Algorithm::EdDSA) };
        let private = EncodingKey::from_ed_der(self.pair.serialized_der());
        jsonwebtoken::encode(&header, &claims, &private).map_err(|_| KeysError::Damaged {
            path: self.path.clone(),
            what: "does not sign",
            remedy: "restore it, or remove it and the tokens it signed",
        })
    }

    /// What the server checks tokens with.
    ///
    /// # Errors
    /// [`KeysError::TokenKey`], which would be a mistake of ours.
    pub fn verifying_key(&self) -> Result<TokenKey, KeysError> {
        let pem = self.pair.public_key_pem();
        TokenKey::from_pem(&self.kid(), TokenAlgorithm::EdDSA, pem.as_bytes())
            .map_err(|error| KeysError::TokenKey { path: self.path.clone(), error })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signing key {}", self.kid())
    }
}

/// PKCS #8 version 1: other tools do not all read version 2.
fn new_signing_key() -> Result<String, KeysError> {
    let der = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8v1());
    let der = der.map_err(|_| KeysError::Random)?;
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(der.as_ref());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519);
    Ok(pair.map_err(|_| KeysError::Random)?.serialize_pem())
}

#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    iat: u64,
    exp: u64,
}

/// Signs one token, as [`SigningKey::token`] does. Reads the signing key and nothing else.
///
/// # Errors
/// As [`SigningKey::load`].
pub fn sign_token(
    data: &Path,
    user: &UserId,
    device: Option<&str>,
    ttl_s: u64,
    now: Timestamp,
) -> Result<String, KeysError> {
    SigningKey::load(data)?.token(user, device, ttl_s, now)
}

// ---- what the operator configured ----

/// A key that tokens of the app's backend are checked with, and the file it is in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyFile {
    /// The name that tokens call it by.
    pub kid: String,
    /// How it signs.
    pub algorithm: TokenAlgorithm,
    /// A public key in PEM; for HS256 the secret, without a line end.
    pub file: PathBuf,
}

/// Reads the keys that the operator configured.
///
/// # Errors
/// A file cannot be read, may be read by everybody and holds a secret, or is no such key.
pub fn load_token_keys(files: &[TokenKeyFile]) -> Result<Vec<TokenKey>, KeysError> {
    files.iter().map(load_token_key).collect()
}

fn load_token_key(from: &TokenKeyFile) -> Result<TokenKey, KeysError> {
    let key = if from.algorithm == TokenAlgorithm::HS256 {
        let secret = read_private(&from.file)?;
        let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
        TokenKey::from_secret(&from.kid, secret.strip_suffix(b"\r").unwrap_or(secret))
    } else {
        TokenKey::from_pem(&from.kid, from.algorithm, &read(&from.file, false)?)
    };
    key.map_err(|error| KeysError::TokenKey { path: from.file.clone(), error })
}

// ---- random bytes ----

/// A nonce prefix for one shard and one start, for `Secrets`.
///
/// # Errors
/// [`KeysError::Random`].
pub fn nonce_prefix() -> Result<[u8; 8], KeysError> {
    random()
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeysError::Random)?;
    Ok(bytes)
}

// ---- the development certificate ----

/// Where a certificate and its key are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, the server's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The development certificate of a data folder; made at the first start. It is its own
/// authority: `roost chat --tls --ca` takes the certificate's file.
///
/// # Errors
/// A file or the folder cannot be written or read, or only the certificate is left.
pub fn load_or_create_tls(data: &Path) -> Result<TlsFiles, KeysError> {
    let folder = make_folder(data)?;
    let files =
        TlsFiles { certificate: folder.join(TLS_CERTIFICATE_FILE), key: folder.join(TLS_KEY_FILE) };
    if !exists(&files.key)? {
        if exists(&files.certificate)? {
            return Err(KeysError::KeyMissing { key: files.key, certificate: files.certificate });
        }
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pem = pair.map_err(|_| KeysError::Random)?.serialize_pem();
        create(&files.key, pem.as_bytes(), PRIVATE)?;
    }
    let key = read_private(&files.key)?;
    if !exists(&files.certificate)? {
        let pem = certify(&key).ok_or_else(|| KeysError::Damaged {
            path: files.key.clone(),
            what: "is not a private key in PKCS #8 PEM",
            remedy: "restore it, or remove it to have a new pair made",
        })?;
        create(&files.certificate, pem.as_bytes(), PUBLIC)?;
    }
    Ok(files)
}

fn certify(key: &[u8]) -> Option<String> {
    let pair = KeyPair::from_pem(str::from_utf8(key).ok()?).ok()?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names).ok()?;
    params.distinguished_name.push(DnType::CommonName, "Roost development");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Some(params.self_signed(&pair).ok()?.pem())
}

// ---- files ----

pub(crate) fn make_folder(data: &Path) -> Result<PathBuf, KeysError> {
    let folder = data.join(FOLDER);
    fs::create_dir_all(&folder).map_err(KeysError::file("make", &folder))?;
    Ok(folder)
}

pub(crate) fn exists(path: &Path) -> Result<bool, KeysError> {
    path.try_exists().map_err(KeysError::file("look for", path))
}

pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, KeysError> {
    read(path, true)
}

fn read(path: &Path, is_private: bool) -> Result<Vec<u8>, KeysError> {
    let file = File::open(path).map_err(KeysError::file("open", path))?;
    let facts = file.metadata().map_err(KeysError::file("read", path))?;
    if is_private && facts.mode() & 0o007 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode: facts.mode() & 0o777 });
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(KeysError::file("read", path))?;
    Ok(bytes)
}

/// Writes a file that is not there yet, as a whole or not at all. Keeps what another process may
/// have written meanwhile.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeysError> {
    let draft = write_draft(path, bytes, mode)?;
    let renamed = match renameat_with(CWD, &draft, CWD, path, RenameFlags::NOREPLACE) {
        // Some file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if !exists(path)? => {
            fs::rename(&draft, path)
        }
        result => result.map_err(io::Error::from),
    };
    match renamed {
        Ok(()) => sync_folder(path),
        Err(error) => {
            fs::remove_file(&draft).map_err(KeysError::file("remove", &draft))?;
            if exists(path)? { Ok(()) } else { Err(KeysError::file("write", path)(error)) }
        }
    }
}

/// Puts a new version in the place of a file.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeysError> {
    let draft = write_draft(path, bytes, mode)?;
    if let Err(error) = fs::rename(&draft, path) {
        drop(fs::remove_file(&draft));
        return Err(KeysError::file("replace", path)(error));
    }
    sync_folder(path)
}

fn write_draft(path: &Path, bytes: &[u8], mode: u32) -> Result<PathBuf, KeysError> {
    let draft = path.with_added_extension(format!("{:016x}", u64::from_le_bytes(random()?)));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .map_err(KeysError::file("create", &draft))?;
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        // Half a secret is of no use, and this is tried again. That it stays says nothing new.
        drop(fs::remove_file(&draft));
        return Err(KeysError::file("write", &draft)(error));
    }
    Ok(draft)
}

fn sync_folder(path: &Path) -> Result<(), KeysError> {
    let folder = path.parent().expect("every key is in a folder");
    File::open(folder).and_then(|file| file.sync_all()).map_err(KeysError::file("flush", folder))
}

/// Why the secrets cannot be used. The text names the file and the remedy.
#[derive(Debug)]
pub enum KeysError {
    /// The system refuses.
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder has no signing key: nothing was ever started there.
    NoSigningKey {
        /// Where it would be.
        path: PathBuf,
    },
    /// Every user of the machine may read or change a secret.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file is not what it should be.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, after the file's name.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A configured key cannot be used.
    TokenKey {
        /// The file.
        path: PathBuf,
        /// Why.
        error: TokenKeyError,
    },
    /// There is a certificate, but not its key.
    KeyMissing {
        /// Where the key should be.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// The system gives no random bytes.
    Random,
}

impl KeysError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { action, path, source } => {
                let path = path.display();
                write!(f, "cannot {action} {path}: {source}; check the path and who owns it")
            }
            Self::NoSigningKey { path } => write!(
                f,
                "there is no signing key {}; name the server's data folder with --data, or start \
                 `roost serve` there once to have the key made",
                path.display()
            ),
            Self::Exposed { path, mode } => {
                let path = path.display();
                write!(f, "{path} is open to every user (mode {mode:03o}); run: chmod 600 {path}")
            }
            Self::Damaged { path, what, remedy } => {
                write!(f, "{} {what}; {remedy}", path.display())
            }
            Self::TokenKey { path, error } => write!(f, "{}: {error}", path.display()),
            Self::KeyMissing { key, certificate } => write!(
                f,
                "{} is missing; restore it, or remove {} to have a new pair made",
                key.display(),
                certificate.display()
            ),
            Self::Random => f.write_str("the system gives no random bytes; see getrandom(2)"),
        }
    }
}

impl std::error::Error for KeysError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::TokenKey { error, .. } => Some(error),
            Self::NoSigningKey { .. }
            | Self::Exposed { .. }
            | Self::Damaged { .. }
            | Self::KeyMissing { .. }
            | Self::Random => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::auth::token::{self, TokenKeys, TokenRules};
    use expect_test::expect;
    use roost_protocol::ids::DeviceId;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use tempfile::TempDir;

    const NOW: Timestamp = Timestamp { ms: 1_800_000_000_000 };

    fn folder() -> TempDir {
        TempDir::new().unwrap()
    }

    fn told(folder: &TempDir, error: &KeysError) -> String {
        error.to_string().replace(folder.path().to_str().unwrap(), "DATA")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_token_of_the_folder_is_accepted_by_its_server() {
        let folder = folder();
        let ann = UserId::new("ann").unwrap();
        let key = SigningKey::load_or_create(folder.path()).unwrap();
        let signed = sign_token(folder.path(), &ann, Some("phone"), 3_600, NOW).unwrap();
        let keys = TokenKeys::new(vec![key.verifying_key().unwrap()]).unwrap();
        let claims = token::verify(&keys, &TokenRules::default(), &signed, NOW).unwrap();
        assert_eq!(claims.user, ann);
        assert_eq!(claims.device, Some(DeviceId::named("phone")));
        assert_eq!(claims.expires_ms, NOW.ms + 3_600_000);
        let signed = sign_token(folder.path(), &ann, None, 3_600, NOW).unwrap();
        let claims = token::verify(&keys, &TokenRules::default(), &signed, NOW).unwrap();
        assert_eq!(claims.device, None);
    }

    #[test]
    fn the_signing_key_is_made_once() {
        let folder = folder();
        let first = SigningKey::load_or_create(folder.path()).unwrap().kid();
        assert_eq!(SigningKey::load_or_create(folder.path()).unwrap().kid(), first);
        assert!(first.len() == 12 && first.starts_with("dev-"));
        let keys = folder.path().join("keys");
        assert_eq!(mode(&keys.join(SIGNING_FILE)), 0o600);
        assert_eq!(mode(&keys.join(PUBLIC_FILE)), 0o644);
        let public = TokenKeyFile {
            kid: first,
            algorithm: TokenAlgorithm::EdDSA,
            file: keys.join(PUBLIC_FILE),
        };
        assert!(load_token_keys(&[public]).is_ok());
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_write_that_fails_leaves_no_draft() {
        let folder = folder();
        // What is in the way can be replaced by no file.
        let path = folder.path().join("keys.json");
        fs::create_dir_all(path.join("in the way")).unwrap();
        for _ in 0..3 {
            let error = replace(&path, b"secret", PRIVATE).unwrap_err();
            assert!(told(&folder, &error).contains("DATA/keys.json"), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_starts_at_once_agree() {
        let folder = Arc::new(folder());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let folder = Arc::clone(&folder);
                let start = move || SigningKey::load_or_create(folder.path()).unwrap().kid();
                std::thread::Builder::new().spawn(start).unwrap()
            })
            .collect();
        let kids: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(kids.iter().all(|kid| *kid == kids[0]));
        assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 2);
    }

    #[test]
    fn without_a_server_there_is_no_signing_key() {
        let folder = folder();
        let ann = UserId::new("ann").unwrap();
        let error = sign_token(folder.path(), &ann, None, 60, NOW).unwrap_err();
        let text = told(&folder, &error).replace("; ", ";\n").replace("or start", "\nor start");
        expect![[r#"
            there is no signing key DATA/keys/token-signing.pem;
            name the server's data folder with --data, 
            or start `roost serve` there once to have the key made"#]]
        .assert_eq(&text);
        assert!(!folder.path().join("keys").exists(), "it only reads");
    }

    #[test]
    fn a_secret_that_all_may_read_is_refused() {
        let folder = folder();
        SigningKey::load_or_create(folder.path()).unwrap();
        let path = folder.path().join("keys").join(SIGNING_FILE);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(SigningKey::load(folder.path()).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = SigningKey::load(folder.path()).unwrap_err();
        let text = told(&folder, &error).replace("; ", ";\n");
        expect![[r#"
            DATA/keys/token-signing.pem is open to every user (mode 644);
            run: chmod 600 DATA/keys/token-signing.pem"#]]
        .assert_eq(&text);
    }

    #[test]
    fn damaged_files_are_named_and_kept() {
        let folder = folder();
        SigningKey::load_or_create(folder.path()).unwrap();
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join("keys").join(name), text).unwrap();
        };
        write(SIGNING_FILE, "garbage");
        let error = SigningKey::load_or_create(folder.path()).unwrap_err();
        let text = told(&folder, &error);
        expect![[r#"
            DATA/keys/token-signing.pem is not an Ed25519 key in PKCS #8 PEM;
            restore it, or remove it and the tokens it signed"#]]
        .assert_eq(&text.replace("; ", ";\n"));
        let kept = fs::read_to_string(folder.path().join("keys").join(SIGNING_FILE)).unwrap();
        assert_eq!(kept, "garbage");
    }

    #[test]
    fn configured_keys_come_from_files() {
        let folder = folder();
        let file = folder.path().join("secret");
        let key =
            |algorithm| [TokenKeyFile { kid: "app".to_owned(), algorithm, file: file.clone() }];
        let missing = load_token_keys(&key(TokenAlgorithm::HS256)).unwrap_err();
        fs::write(&file, "a secret of thirty-two bytes, ..\n").unwrap();
        let exposed = load_token_keys(&key(TokenAlgorithm::HS256)).unwrap_err();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert!(load_token_keys(&key(TokenAlgorithm::HS256)).is_ok());
        let no_pem = load_token_keys(&key(TokenAlgorithm::ES256)).unwrap_err();
        fs::write(&file, "short\r\n").unwrap();
        let short = load_token_keys(&key(TokenAlgorithm::HS256)).unwrap_err();
        let texts = [missing, exposed, no_pem, short].map(|error| told(&folder, &error));
        expect![[r#"
            cannot open DATA/secret: No such file or directory (os error 2);
            check the path and who owns it
            DATA/secret is open to every user (mode 644);
            run: chmod 600 DATA/secret
            DATA/secret: this is no P-256 public key in PEM
            DATA/secret: a secret needs at least 32 bytes"#]]
        .assert_eq(&texts.join("\n").replace("; ", ";\n"));
    }

    #[test]
    fn the_certificate_is_made_once_and_only_as_a_pair() {
        let folder = folder();
        let files = load_or_create_tls(folder.path()).unwrap();
        let before = fs::read(&files.certificate).unwrap();
        assert_eq!((mode(&files.key), mode(&files.certificate)), (0o600, 0o644));
        assert_eq!(load_or_create_tls(folder.path()).unwrap(), files);
        assert_eq!(fs::read(&files.certificate).unwrap(), before);

        fs::remove_file(&files.certificate).unwrap();
        let key = fs::read(&files.key).unwrap();
        load_or_create_tls(folder.path()).unwrap();
        assert_eq!(fs::read(&files.key).unwrap(), key, "a key is kept");

        fs::remove_file(&files.key).unwrap();
        let error = load_or_create_tls(folder.path()).unwrap_err();
        expect![[r#"
            DATA/keys/tls-key.pem is missing;
            restore it, or remove DATA/keys/tls-cert.pem to have a new pair made"#]]
        .assert_eq(&told(&folder, &error).replace("; ", ";\n"));
    }

    #[test]
    fn a_client_that_trusts_the_certificate_shakes_hands() {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
        let folder = folder();
        let files = load_or_create_tls(folder.path()).unwrap();
        let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (server, client) = (Arc::new(server), Arc::new(client));
        for name in ["localhost", "127.0.0.1", "::1"] {
            let name = ServerName::try_from(name).unwrap();
            let mut there = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            let mut here = rustls::ClientConnection::new(Arc::clone(&client), name).unwrap();
            while here.is_handshaking() || there.is_handshaking() {
                let mut bytes = Vec::new();
                here.write_tls(&mut bytes).unwrap();
                there.read_tls(&mut bytes.as_slice()).unwrap();
                there.process_new_packets().unwrap();
                let mut bytes = Vec::new();
                there.write_tls(&mut bytes).unwrap();
                here.read_tls(&mut bytes.as_slice()).unwrap();
                here.process_new_packets().unwrap();
            }
        }
    }
}
