//! Ciphers and handshakes alone, with the libraries that the server uses.

use super::{FloorFailure, Settings, clock, per_second};
use crate::report::arithmetic::{ratio, round, whole};
use crate::stop;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use roost_gateway::keys;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A message of 100 bytes with what is around it, and the largest record.
const RECORDS: [usize; 2] = [140, 16_384];
/// Between two looks at the clock.
const ROUND: u64 = 256;
/// What a cipher adds to a record.
const TAG_BYTES: usize = 16;

/// Sealing and opening records, AES-128-GCM as TLS uses it.
pub(super) fn aead(settings: &Settings) -> Value {
    let Ok(key) = UnboundKey::new(&AES_128_GCM, &[7; 16]) else { return Value::Null };
    let key = LessSafeKey::new(key);
    let mut found = Map::new();
    for bytes in RECORDS {
        let mut record = Vec::with_capacity(bytes + TAG_BYTES);
        let seal = time(settings, || {
            record.clear();
            record.resize(bytes, 7);
            key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut record).is_ok()
        });
        let sealed = record.clone();
        let open = time(settings, || {
            record.clear();
            record.extend_from_slice(&sealed);
            key.open_in_place(nonce(), Aad::empty(), &mut record).is_ok()
        });
        let name = format!("record_of_{bytes}_b");
        found.insert(name, json!({ "seal_ns": round(seal), "open_ns": round(open) }));
    }
    found.into()
}

/// It is for measuring only: nothing secret is sealed, so it may be the same each time.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// Nanoseconds of one, over a quarter of the length.
fn time(settings: &Settings, mut one: impl FnMut() -> bool) -> f64 {
    let (started, mut count) = (clock(), 0);
    while (clock() - started) < settings.length / 4 && !stop::is_wanted() {
        for _ in 0..ROUND {
            if !one() {
                return 0.0;
            }
        }
        count += ROUND;
    }
    ratio((clock() - started).as_secs_f64() * 1e9, whole(count))
}

/// TLS 1.3 handshakes in memory: only the server's part is timed.
pub(super) fn handshakes(settings: &Settings) -> Result<Value, FloorFailure> {
    let server = Arc::new(server(settings)?);
    let full = count(settings, &server, &Arc::new(client(settings, false)?))?;
    let resumed = count(settings, &server, &Arc::new(client(settings, true)?))?;
    Ok(json!({ "full_per_s": full, "resumed_per_s": resumed }))
}

fn failed(error: impl std::fmt::Display) -> FloorFailure {
    FloorFailure::Tls(error.to_string())
}

fn server(settings: &Settings) -> Result<ServerConfig, FloorFailure> {
    let files = keys::load_or_create_tls(&settings.folder).map_err(failed)?;
    let certificate = CertificateDer::from_pem_file(&files.certificate).map_err(failed)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed)?;
    let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key);
    let mut config = config.map_err(failed)?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(failed)?;
    Ok(config)
}

fn client(settings: &Settings, resumes: bool) -> Result<ClientConfig, FloorFailure> {
    let files = keys::load_or_create_tls(&settings.folder).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(&files.certificate).map_err(failed)?;
    roots.add(certificate).map_err(failed)?;
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.resumption =
        if resumes { Resumption::in_memory_sessions(256) } else { Resumption::disabled() };
    Ok(config)
}

/// Handshakes a second of one core's serving side.
fn count(
    settings: &Settings,
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> Result<f64, FloorFailure> {
    let (started, mut spent, mut done) = (clock(), Duration::ZERO, 0);
    while (clock() - started) < settings.length && !stop::is_wanted() {
        let name = ServerName::try_from("localhost").map_err(failed)?;
        let mut here = ClientConnection::new(Arc::clone(client), name).map_err(failed)?;
        let before = clock();
        let mut there = ServerConnection::new(Arc::clone(server)).map_err(failed)?;
        spent += clock() - before;
        while here.is_handshaking() || there.is_handshaking() || there.wants_write() {
            let mut wire = Vec::new();
            while here.wants_write() {
                here.write_tls(&mut wire)?;
            }
            let mut back = Vec::new();
            let before = clock();
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                there.read_tls(&mut rest)?;
                there.process_new_packets().map_err(failed)?;
            }
            while there.wants_write() {
                there.write_tls(&mut back)?;
            }
            spent += clock() - before;
            let mut rest = back.as_slice();
            while !rest.is_empty() {
                here.read_tls(&mut rest)?;
                here.process_new_packets().map_err(failed)?;
            }
        }
        done += 1;
    }
    Ok(per_second(done, spent))
}
