//! What both sides agree to: TLS 1.3, two suites with SHA-256, no early data.

use crate::capture::{Hook, Named};
use crate::session::OneSession;
use crate::tickets::Tickets;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use std::fmt;
use std::sync::Arc;

/// AES first: it is twice as fast wherever the processor knows it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256],
        ..aws_lc_rs::default_provider()
    })
}

/// What all connections of a server share.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub(crate) config: Arc<ServerConfig>,
}

impl ServerSettings {
    /// A server with one certificate, the chain with its own first; it speaks these protocols, and
    /// seals one ticket a connection.
    ///
    /// # Errors
    /// The key is none, or not that of the certificate.
    pub fn new(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        protocols: &[&[u8]],
        tickets: Arc<Tickets>,
    ) -> Result<Self, SettingsError> {
        let provider = provider();
        let certified = CertifiedKey::from_der(certificates, key, &provider)?;
        let resolver = Arc::new(Named(Arc::new(SingleCertAndKey::from(certified))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.ignore_client_order = true;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        config.send_tls13_tickets = 1;
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Hook);
        Ok(Self { config: Arc::new(config) })
    }
}

/// What all connections of a client share.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    pub(crate) config: Arc<ClientConfig>,
}

impl ClientSettings {
    /// A client that trusts these, and offers these protocols.
    ///
    /// # Errors
    /// rustls does not take the settings, which would be a mistake of ours.
    pub fn new(roots: RootCertStore, protocols: &[&[u8]]) -> Result<Self, SettingsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::store(Arc::new(OneSession));
        config.enable_early_data = false;
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Hook);
        Ok(Self { config: Arc::new(config) })
    }
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsError(rustls::Error);

impl From<rustls::Error> for SettingsError {
    fn from(error: rustls::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SettingsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
