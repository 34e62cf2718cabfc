//! What both sides agree to: TLS 1.3, two suites with SHA-256, no early data.

use crate::capture::{Hook, Named};
use crate::certificates::{ByName, Certificate};
use crate::session::OneSession;
use crate::tickets::Tickets;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use std::fmt;
use std::sync::Arc;

/// AES first: it is twice as fast wherever the processor knows it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
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
    /// A server with one certificate, the chain with its own first; it speaks these protocols,
    /// seals one ticket a connection, and asks for no client certificates.
    ///
    /// # Errors
    /// The key is none, or not that of the certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        protocols: &[&[u8]],
        tickets: Arc<Tickets>,
    ) -> Result<Self, SettingsError> {
        let certificate = Certificate::new(chain, key)?;
        Self::with_certificates(&[certificate], &ClientCertificates::NotAsked, protocols, tickets)
    }

    /// A server with several certificates: a client is shown the one of the name that it asks for,
    /// else the first. With client certificates there are no tickets, so that each connection is
    /// checked against the authorities there are now.
    ///
    /// # Errors
    /// There is no authority to check client certificates with.
    pub fn with_certificates(
        certificates: &[Certificate],
        clients: &ClientCertificates,
        protocols: &[&[u8]],
        tickets: Arc<Tickets>,
    ) -> Result<Self, SettingsError> {
        let provider = provider();
        let resolver = Arc::new(Named(Arc::new(ByName::new(certificates))));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?;
        let mut config = match clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Asked { roots, are_required } => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider);
                let verifier =
                    if *are_required { verifier } else { verifier.allow_unauthenticated() };
                let verifier =
                    verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        }
        .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.ignore_client_order = true;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if matches!(clients, ClientCertificates::NotAsked) {
            config.ticketer = tickets;
            config.send_tls13_tickets = 1;
        } else {
            config.send_tls13_tickets = 0;
        }
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Hook);
        Ok(Self { config: Arc::new(config) })
    }
}

/// Whether clients show certificates.
#[derive(Debug, Clone)]
pub enum ClientCertificates {
    /// They do not.
    NotAsked,
    /// They do.
    Asked {
        /// Who may issue them.
        roots: RootCertStore,
        /// Who has none is refused; else only whose is wrong.
        are_required: bool,
    },
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
