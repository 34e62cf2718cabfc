//! Certificates of the real server: which one is shown, how they are replaced, and those of
//! clients.

use crate::roost::{Server, Setup, on_both_drivers};
use crate::tls::{first_words, is_welcome, socket};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const REPLACED: &str = "roost_tls_certificates_replaced_total";
const FAILED: &str = "roost_tls_failed_total";

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for a name, and where it is.
struct Pair {
    der: CertificateDer<'static>,
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    /// Makes one, in place of an older one of the same file name.
    fn write(folder: &Path, file: &str, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let certificate = folder.join(format!("{file}.pem"));
        let key = folder.join(format!("{file}.key"));
        put(&key, &made.signing_key.serialize_pem());
        put(&certificate, &made.cert.pem());
        Self { der: made.cert.der().clone(), certificate, key }
    }
}

/// As tools that fetch certificates do: in one step.
fn put(path: &Path, text: &str) {
    let draft = path.with_added_extension("new");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

/// An authority for client certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issues(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["device".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (der, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

pub(crate) fn client(
    trusted: &CertificateDer<'static>,
    identity: Option<Identity>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"roost/1".to_vec()];
    Arc::new(config)
}

/// Signs in as a user of the connection's number: nobody replaces anybody.
fn signs_in(
    server: &Server,
    client: &Arc<ClientConfig>,
    name: &'static str,
    connection: u64,
) -> Result<Stream, String> {
    let text = |error: std::io::Error| error.to_string();
    let name = ServerName::try_from(name).unwrap();
    let connected = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut stream = StreamOwned::new(connected, socket(server));
    let user = format!("user{connection}");
    stream.write_all(&first_words(server, &user, 1)).map_err(text)?;
    let mut bytes = Vec::new();
    while is_welcome(&bytes).is_none() {
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).map_err(text)? {
            0 => return Err("it ended".to_owned()),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
    assert_eq!(is_welcome(&bytes), Some(true));
    Ok(stream)
}

fn beats(stream: &mut Stream) {
    stream.write_all(&[0]).unwrap();
    let mut beat = [1];
    stream.read_exact(&mut beat).unwrap();
    assert_eq!(beat, [0]);
}

fn refusal(outcome: Result<Stream, String>) -> String {
    outcome.expect_err("it was let in")
}

on_both_drivers! {
    fn each_name_has_its_certificate(driver) {
        let folder = TempDir::new().unwrap();
        let [one, two] = ["one", "two"]
            .map(|name| Pair::write(folder.path(), name, &format!("{name}.example")));
        let config = format!(
            "tls_certificate = {:?}\ntls_key = {:?}\n[[tls_certificates]]\ncertificate = {:?}\n\
             key = {:?}\n",
            one.certificate, one.key, two.certificate, two.key
        );
        let server = Setup::new(driver).with_tls().config(&config).start();
        signs_in(&server, &client(&one.der, None), "one.example", 1).unwrap();
        signs_in(&server, &client(&two.der, None), "two.example", 2).unwrap();
        let wrong = refusal(signs_in(&server, &client(&one.der, None), "two.example", 3));
        // All these certificates have one issuer's name, so it is the signature that is wrong.
        assert!(wrong.contains("BadSignature"), "{wrong}");
        // Whoever asks for another name sees the first one.
        let other = refusal(signs_in(&server, &client(&one.der, None), "three.example", 4));
        assert!(other.contains("not valid for name"), "{other}");
    }

    fn certificates_are_replaced_and_nobody_is_dropped(driver) {
        let folder = TempDir::new().unwrap();
        let old = Pair::write(folder.path(), "own", "chat.example");
        let config =
            format!("tls_certificate = {:?}\ntls_key = {:?}\n", old.certificate, old.key);
        let server = Setup::new(driver).shards(2).with_tls().config(&config).start();
        let trusts = |pair: &Pair| client(&pair.der, None);
        let mut early = signs_in(&server, &trusts(&old), "chat.example", 1).unwrap();
        let new = Pair::write(folder.path(), "own", "chat.example");
        server.metric_becomes(REPLACED, |count| count == 2);
        // Both shards have the new one, and whoever was there stays.
        for connection in 2..10 {
            signs_in(&server, &trusts(&new), "chat.example", connection).unwrap();
        }
        refusal(signs_in(&server, &trusts(&old), "chat.example", 1));
        // Half a file: the reason is said, and the last good one is used on.
        fs::write(&old.certificate, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        server.signal(Signal::HUP);
        let line = server.logs("certificates were not replaced");
        assert!(line.contains("own.pem") && line.contains("ERROR"), "{line}");
        signs_in(&server, &trusts(&new), "chat.example", 20).unwrap();
        // And at once, if somebody says so.
        let last = Pair::write(folder.path(), "own", "chat.example");
        server.signal(Signal::HUP);
        server.metric_becomes(REPLACED, |count| count >= 4);
        signs_in(&server, &trusts(&last), "chat.example", 21).unwrap();
        beats(&mut early);
    }

    fn clients_without_a_certificate_are_refused_where_one_is_required(driver) {
        let folder = TempDir::new().unwrap();
        let own = Pair::write(folder.path(), "own", "chat.example");
        let (ours, others) = (Authority::new("ours"), Authority::new("others"));
        let authorities = folder.path().join("ca.pem");
        fs::write(&authorities, &ours.pem).unwrap();
        for are_required in [true, false] {
            let config = format!(
                "tls_certificate = {:?}\ntls_key = {:?}\ntls_client_ca = {authorities:?}\n\
                 tls_client_certificates = {:?}\n",
                own.certificate, own.key, if are_required { "required" } else { "optional" },
            );
            let server = Setup::new(driver).with_tls().config(&config).start();
            let good = client(&own.der, Some(ours.issues()));
            // Twice: there is nothing to resume, so it is checked each time.
            for connection in 1..3 {
                beats(&mut signs_in(&server, &good, "chat.example", connection).unwrap());
            }
            assert_eq!(server.metric("roost_tls_resumed_total"), 0);
            let wrong = client(&own.der, Some(others.issues()));
            let said = refusal(signs_in(&server, &wrong, "chat.example", 3));
            assert!(said.contains("UnknownCA"), "{said}");
            server.metric_becomes(FAILED, |count| count == 1);
            let without = signs_in(&server, &client(&own.der, None), "chat.example", 4);
            if are_required {
                let said = refusal(without);
                assert!(said.contains("CertificateRequired"), "{said}");
                server.metric_becomes(FAILED, |count| count == 2);
            } else {
                without.unwrap();
            }
            server.metric_becomes("roost_connections_open", |open| open == 0);
        }
    }
}
