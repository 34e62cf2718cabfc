//! Whom to trust: one certificate or authority from a file.

use crate::keys::TLS_CERTIFICATE;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the server and we speak inside TLS.
const ALPN: &[u8] = b"roost/1";

/// What a TLS connection needs.
#[derive(Debug, Clone)]
pub(super) struct TlsTarget {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl TlsTarget {
    /// Trusts the given file, or the development certificate of the data folder.
    pub(super) fn new(
        server: &str,
        ca: Option<&Path>,
        data: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let path = match (ca, data) {
            (Some(ca), _) => ca.to_owned(),
            (None, Some(data)) => data.join(TLS_CERTIFICATE),
            (None, None) => return Err(TlsError::NobodyToTrust),
        };
        let file = |error| TlsError::File { path: path.clone(), error };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&path).map_err(file)? {
            let added = roots.add(certificate.map_err(file)?);
            added.map_err(|error| TlsError::Certificate { path: path.clone(), error })?;
        }
        if roots.is_empty() {
            return Err(TlsError::Empty { path });
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (host, _port) = server.rsplit_once(':').unwrap_or((server, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::Name { host: host.to_owned() })?;
        Ok(Self { config: Arc::new(config), name })
    }
}

/// Why TLS cannot be used. The text names the remedy.
#[derive(Debug)]
pub enum TlsError {
    /// No certificate is named.
    NobodyToTrust,
    /// The file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A certificate cannot be an authority.
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The server's name cannot stand in a certificate.
    Name {
        /// The name.
        host: String,
    },
    /// The library cannot be set up.
    Setup(rustls::Error),
    /// The server's certificate is not trusted.
    Untrusted {
        /// Where we connected to.
        server: String,
        /// Why.
        error: rustls::Error,
    },
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyToTrust => f.write_str(
                "--tls needs to know whom to trust: name the server's certificate or its authority \
                 with --ca FILE (or use --data, for its development certificate)",
            ),
            Self::File { path, error } => write!(
                f,
                "cannot read certificates from {}: {error}; name a PEM file with --ca",
                path.display()
            ),
            Self::Empty { path } => {
                write!(f, "{} holds no certificate; name a PEM file with --ca", path.display())
            }
            Self::Certificate { path, error } => write!(
                f,
                "a certificate in {} cannot be used: {error}; name another file with --ca",
                path.display()
            ),
            Self::Name { host } => write!(
                f,
                "no certificate can be for {host:?}; write the server's name or address in \
                 --server"
            ),
            Self::Setup(error) => write!(f, "TLS cannot be set up: {error}; this is a bug of ours"),
            Self::Untrusted { server, error } => write!(
                f,
                "the certificate of {server} is not trusted: {error}; name its authority with \
                 --ca, and in --server the name that the certificate is for"
            ),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { error, .. } => Some(error),
            Self::Certificate { error, .. }
            | Self::Setup(error)
            | Self::Untrusted { error, .. } => Some(error),
            Self::NobodyToTrust | Self::Empty { .. } | Self::Name { .. } => None,
        }
    }
}
