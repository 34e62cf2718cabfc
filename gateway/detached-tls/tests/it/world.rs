//! A server and a client, each rustls' own or ours, and the bytes between them.

use roost_detached_tls::{
    ClientSettings, Detached, Established, Handshake, HandshakeError, ServerSettings, Session,
    TICKET_KEY_BYTES, TicketKey, TicketKeys, Tickets,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite, version,
};
use std::io::{Read, Write};
use std::sync::Arc;

pub(crate) const PROTOCOL: &[u8] = b"roost/1";

/// A certificate, and everything that is configured with it.
pub(crate) struct World {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) server: ServerSettings,
    pub(crate) client: ClientSettings,
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn provider(suites: &[SupportedCipherSuite]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        provider.cipher_suites = suites.to_vec();
    }
    provider
}

pub(crate) fn ticket_keys(id: u32) -> TicketKeys {
    let key = [u8::try_from(id).unwrap(); TICKET_KEY_BYTES];
    TicketKeys::new(TicketKey { id, key }, Vec::new())
}

impl World {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        Self::with(certificate, key)
    }

    fn with(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Self {
        let tickets = Arc::new(Tickets::new(ticket_keys(1), 3600));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let chain = vec![certificate.clone()];
        let server = ServerSettings::new(chain, key.clone_key(), &[PROTOCOL], Arc::clone(&tickets));
        let client = ClientSettings::new(roots, &[PROTOCOL]).unwrap();
        Self { certificate, key, tickets, server: server.unwrap(), client }
    }

    /// The same files read by another process.
    pub(crate) fn again(&self) -> Self {
        Self::with(self.certificate.clone(), self.key.clone_key())
    }

    /// A configuration of rustls for a client that offers these suites and protocols.
    pub(crate) fn rustls_client(
        &self,
        suites: &[SupportedCipherSuite],
        protocols: &[&[u8]],
    ) -> ClientConfig {
        self.rustls_client_with(provider(suites), protocols)
    }

    pub(crate) fn rustls_client_with(
        &self,
        provider: CryptoProvider,
        protocols: &[&[u8]],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// A configuration of rustls for a server that speaks these suites.
    pub(crate) fn rustls_server(&self, suites: &[SupportedCipherSuite]) -> ServerConfig {
        self.rustls_server_with(provider(suites))
    }

    pub(crate) fn rustls_server_with(&self, provider: CryptoProvider) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        config
    }
}

/// One end that is ours: a handshake, later what came of it.
pub(crate) struct Ours {
    pub(crate) handshake: Option<Handshake>,
    pub(crate) established: Option<Established>,
    input: Vec<u8>,
    pub(crate) plain: Vec<u8>,
    pub(crate) tickets: Vec<Vec<u8>>,
}

impl Ours {
    pub(crate) fn server(world: &World) -> Self {
        Self::of(Handshake::server(&world.server).unwrap())
    }

    pub(crate) fn client(world: &World, session: Option<Session>) -> Self {
        Self::of(Handshake::client(&world.client, name(), session).unwrap())
    }

    fn of(handshake: Handshake) -> Self {
        Self {
            handshake: Some(handshake),
            established: None,
            input: Vec::new(),
            plain: Vec::new(),
            tickets: Vec::new(),
        }
    }

    /// Takes bytes; gives what is to be sent because of them.
    pub(crate) fn takes(&mut self, bytes: &[u8]) -> Result<Vec<u8>, (HandshakeError, Vec<u8>)> {
        self.input.extend_from_slice(bytes);
        let mut output = Vec::new();
        if let Some(handshake) = &mut self.handshake {
            let progress = match handshake.advance(&mut self.input, &mut output) {
                Ok(progress) => progress,
                Err(error) => return Err((error, output)),
            };
            self.input.drain(..progress.taken);
            if !progress.is_done {
                return Ok(output);
            }
            let established = self.handshake.take().unwrap().finish().unwrap();
            self.established = Some(established);
        }
        let established = self.established.as_mut().unwrap();
        let tickets = &mut self.tickets;
        let taken = established
            .detached
            .open_with_tickets(&self.input, &mut self.plain, &mut |body| {
                tickets.push(body.to_vec());
            })
            .unwrap();
        self.input.drain(..taken);
        Ok(output)
    }

    pub(crate) fn detached(&mut self) -> &mut Detached {
        &mut self.established.as_mut().expect("the handshake is done").detached
    }

    pub(crate) fn says(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.detached().seal(plain, &mut sealed).unwrap();
        sealed
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.established.as_ref().expect("the handshake is done").is_resumed
    }

    pub(crate) fn hears(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// The session of the last ticket.
    pub(crate) fn session(&mut self) -> Option<Session> {
        let ticket = self.tickets.pop()?;
        self.established.as_mut()?.ticket_taker.as_mut()?.take(&ticket)
    }
}

/// Everything rustls wants to send.
pub(crate) fn drained(connection: &mut rustls::Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// rustls takes bytes; gives what it reads.
pub(crate) fn heard(
    connection: &mut rustls::Connection,
    mut bytes: &[u8],
) -> Result<Vec<u8>, rustls::Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).unwrap();
        let state = connection.process_new_packets()?;
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        connection.reader().read_exact(&mut plain[start..]).unwrap();
    }
    Ok(plain)
}

/// What rustls says.
pub(crate) fn said(connection: &mut rustls::Connection, plain: &[u8]) -> Vec<u8> {
    connection.writer().write_all(plain).unwrap();
    drained(connection)
}

pub(crate) fn rustls_client(config: &Arc<ClientConfig>) -> rustls::Connection {
    ClientConnection::new(Arc::clone(config), name()).unwrap().into()
}

pub(crate) fn rustls_server(config: &Arc<ServerConfig>) -> rustls::Connection {
    ServerConnection::new(Arc::clone(config)).unwrap().into()
}

/// Lets one of ours and rustls shake hands; what travels is cut in pieces of this size.
pub(crate) fn shake(ours: &mut Ours, theirs: &mut rustls::Connection, piece: usize) {
    let mut to_them = ours.takes(&[]).unwrap();
    loop {
        heard(theirs, &to_them).unwrap();
        to_them.clear();
        let to_us = drained(theirs);
        if to_us.is_empty() {
            break;
        }
        for part in to_us.chunks(piece) {
            to_them.extend(ours.takes(part).unwrap());
        }
    }
    assert!(!theirs.is_handshaking() && ours.established.is_some());
}

/// Lets two of ours shake hands.
pub(crate) fn shake_ours(client: &mut Ours, server: &mut Ours) {
    let mut to_server = client.takes(&[]).unwrap();
    while !to_server.is_empty() {
        let to_client = server.takes(&to_server).unwrap();
        to_server = client.takes(&to_client).unwrap();
    }
    assert!(client.established.is_some() && server.established.is_some());
}
