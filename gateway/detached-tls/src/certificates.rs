//! Certificates of a server, and which one a client is shown: by the name that it asks for.

use crate::settings::SettingsError;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A certificate with its chain and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
}

impl Certificate {
    /// The chain has the server's own certificate first.
    ///
    /// # Errors
    /// The chain is empty or no certificate, or the key is none, or not that of the certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, SettingsError> {
        Self::with(chain, key, &crate::settings::provider())
    }

    pub(crate) fn with(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, SettingsError> {
        let certified = CertifiedKey::from_der(chain, key, provider)?;
        let names = match certified.end_entity_cert() {
            Ok(own) => names_of(own),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { certified: Arc::new(certified), names })
    }

    /// The DNS names that it is good for, in lower case; `*.` in front stands for one label.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// An unreadable certificate has no names: it is only shown to whom nothing else fits.
fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// Chooses among certificates. For each name they are in the order they were given in, so that the
/// first one whose key the client can check is shown.
#[derive(Debug)]
pub(crate) struct ByName {
    names: BTreeMap<String, Vec<Arc<CertifiedKey>>>,
    /// For whoever asks for another name, or for none.
    all: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    pub(crate) fn new(certificates: &[Certificate]) -> Self {
        let mut names: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                names.entry(name.clone()).or_default().push(Arc::clone(&certificate.certified));
            }
        }
        let all = certificates.iter().map(|one| Arc::clone(&one.certified)).collect();
        Self { names, all }
    }

    /// Those that are good for a name: its own before those with a star.
    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        let starred = || {
            let (_, rest) = name.split_once('.')?;
            self.names.get(&format!("*.{rest}"))
        };
        self.names.get(&name).or_else(starred)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = client_hello.server_name().and_then(|name| self.named(name));
        let schemes = client_hello.signature_schemes();
        let mut fitting = named.into_iter().flatten().chain(&self.all);
        // Where none fits rustls finds out why by itself, and says so: `None` would be called a
        // denial, also to a device that only lacks the suite.
        let fits = fitting.find(|one| one.key.choose_scheme(schemes).is_some());
        fits.or_else(|| self.all.first()).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivatePkcs8KeyDer;

    fn certificate(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Certificate::new(vec![made.cert.der().clone()], key.into()).unwrap()
    }

    #[test]
    fn a_name_finds_its_certificate() {
        let [one, two, three] = [
            certificate(&["chat.example", "127.0.0.1"]),
            certificate(&["*.rooms.example", "OTHER.example"]),
            certificate(&["own.rooms.example"]),
        ];
        assert_eq!(one.names(), ["chat.example"]);
        assert_eq!(two.names(), ["*.rooms.example", "other.example"]);
        let chosen = ByName::new(&[one.clone(), two.clone(), three.clone()]);
        for (name, expected) in [
            ("chat.example", Some(&one)),
            ("Chat.Example", Some(&one)),
            ("other.example", Some(&two)),
            ("any.rooms.example", Some(&two)),
            ("own.rooms.example", Some(&three)),
            ("any.chat.example", None),
            ("rooms.example", None),
            ("too.deep.rooms.example", None),
            ("", None),
        ] {
            let found = chosen.named(name).and_then(|list| list.first());
            let expected = expected.map(|one| &one.certified);
            assert!(found.map(Arc::as_ptr) == expected.map(Arc::as_ptr), "{name}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let [one, two] = [(); 2]
            .map(|()| rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap());
        let key = PrivatePkcs8KeyDer::from(two.signing_key.serialize_der());
        assert!(Certificate::new(vec![one.cert.der().clone()], key.clone_key().into()).is_err());
        assert!(Certificate::new(Vec::new(), key.into()).is_err());
    }
}
