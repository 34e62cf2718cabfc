//! Certificates and keys of TLS listeners: read at the start, and again when their files change.

use super::error::ServeError;
use crate::config::{ClientCa, Config};
use crate::keys::{self, TlsFiles};
use crate::shard::PROTOCOL;
use roost_detached_tls::{Certificate, ClientCertificates, ServerSettings, Tickets};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Where certificates are from, and what they were when they were read.
#[derive(Debug)]
pub(super) struct TlsSource {
    certificates: Vec<TlsFiles>,
    client_ca: Option<ClientCa>,
    pub(super) tickets: Arc<Tickets>,
    seen: Vec<Option<Mark>>,
    /// What the files say now is not in use: they could not be read, or do not fit.
    pub(super) has_failed: bool,
    /// Looks since that was tried.
    looks: u32,
}

/// After so many looks it is tried again: what failed for want of a descriptor may not any more.
const RETRY_LOOKS: u32 = 30;

/// What changes with a file's contents: when it was written, how long it is, which file it is.
type Mark = (i64, i64, u64, u64);

impl TlsSource {
    /// Reads everything for the first time.
    pub(super) fn open(
        config: &Config,
        tickets: Arc<Tickets>,
    ) -> Result<(Self, ServerSettings), ServeError> {
        let certificates = if config.tls_files.is_empty() {
            vec![keys::load_or_create_tls(&config.data)?]
        } else {
            config.tls_files.clone()
        };
        let client_ca = config.client_ca.clone();
        let mut source = Self {
            certificates,
            client_ca,
            tickets,
            seen: Vec::new(),
            has_failed: false,
            looks: 0,
        };
        source.seen = source.marks();
        let settings = source.read()?;
        Ok((source, settings))
    }

    /// Whether it is time to read again what could not be read. Asked at each look.
    pub(super) fn retries(&mut self) -> bool {
        self.looks += 1;
        if self.looks < RETRY_LOOKS {
            return false;
        }
        self.looks = 0;
        self.has_failed
    }

    /// Whether a file is not what it was when this was asked last.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = self.marks();
        now != std::mem::replace(&mut self.seen, now.clone())
    }

    fn marks(&self) -> Vec<Option<Mark>> {
        let of_certificates = self.certificates.iter().flat_map(|one| [&one.certificate, &one.key]);
        let all = of_certificates.chain(self.client_ca.as_ref().map(|ca| &ca.file));
        // A file that is not there for a moment is a change, too.
        all.map(|path| {
            let facts = fs::metadata(path).ok()?;
            Some((facts.mtime(), facts.mtime_nsec(), facts.len(), facts.ino()))
        })
        .collect()
    }

    /// What the files say now.
    pub(super) fn read(&self) -> Result<ServerSettings, ServeError> {
        let certificates: Vec<Certificate> =
            self.certificates.iter().map(certificate).collect::<Result<_, _>>()?;
        for (files, certificate) in self.certificates.iter().zip(&certificates) {
            let names = certificate.names().join(", ");
            tracing::info!(file = %files.certificate.display(), names, "certificate read");
        }
        let clients = self.client_ca.as_ref().map_or(Ok(ClientCertificates::NotAsked), authorities);
        let tickets = Arc::clone(&self.tickets);
        ServerSettings::with_certificates(&certificates, &clients?, &[PROTOCOL], tickets)
            .map_err(|error| bad(&self.certificates[0].certificate, error.to_string()))
    }
}

fn bad(path: &Path, what: String) -> ServeError {
    ServeError::Tls { path: path.to_owned(), what }
}

fn certificate(files: &TlsFiles) -> Result<Certificate, ServeError> {
    let chain = chain(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| bad(&files.key, error.to_string()))?;
    Certificate::new(chain, key).map_err(|error| bad(&files.certificate, error.to_string()))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| bad(path, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(path, "it holds no certificate".to_owned()));
    }
    Ok(chain)
}

fn authorities(ca: &ClientCa) -> Result<ClientCertificates, ServeError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(&ca.file)? {
        roots.add(certificate).map_err(|error| bad(&ca.file, error.to_string()))?;
    }
    Ok(ClientCertificates::Asked { roots, are_required: ca.are_required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileConfig;

    fn write_pair(folder: &Path, name: &str) -> String {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        format!("tls_certificate = {certificate:?}\ntls_key = {key:?}\n")
    }

    #[test]
    fn a_change_is_seen_once_and_half_of_a_pair_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = write_pair(folder.path(), "one");
        let file = FileConfig::parse(&text, Path::new("f")).unwrap();
        let config = Config::resolve(&crate::args::ServeArgs::default(), &file).unwrap();
        let keys = crate::ticket_keys::load_or_rotate_tls(
            folder.path(),
            roost_protocol::time::Timestamp { ms: 1 },
        );
        let tickets = Arc::new(Tickets::new(keys.unwrap(), 60));
        let (mut source, _) = TlsSource::open(&config, tickets).unwrap();
        assert!(!source.has_changed());
        write_pair(folder.path(), "two");
        assert!(source.has_changed());
        assert!(!source.has_changed());
        source.read().unwrap();
        // Another's key: the certificate's file is named.
        let other = rcgen::generate_simple_self_signed(vec!["x.example".to_owned()]).unwrap();
        fs::write(folder.path().join("key.pem"), other.signing_key.serialize_pem()).unwrap();
        assert!(source.has_changed());
        let said = source.read().unwrap_err().to_string();
        assert!(said.contains("cert.pem"), "{said}");
        fs::remove_file(folder.path().join("key.pem")).unwrap();
        assert!(source.has_changed());
        assert!(source.read().unwrap_err().to_string().contains("key.pem"));
        fs::write(folder.path().join("cert.pem"), "").unwrap();
        assert!(source.read().unwrap_err().to_string().contains("no certificate"));
    }
}
