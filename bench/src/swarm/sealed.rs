//! TLS of a swarm's devices: like the server's, 176 bytes for a device once its handshake is done.

use super::DeviceIndex;
use roost_detached_tls::{
    ClientSettings, Detached, Established, Handshake, Session, SettingsError, TicketTaker,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What devices speak inside TLS.
const PROTOCOL: &[u8] = b"roost/1";

/// How devices seal.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    settings: ClientSettings,
    server: ServerName<'static>,
    resumes: bool,
}

impl TlsPlan {
    /// Trusts the certificates of a file; the server's must be for its address. With `resumes` a
    /// device that comes back resumes its session.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn new(certificates: &Path, server: IpAddr, resumes: bool) -> Result<Self, TlsError> {
        let bad = |what: String| TlsError { path: certificates.to_owned(), what };
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(certificates);
        for certificate in found.map_err(|error| bad(error.to_string()))? {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        let settings = ClientSettings::new(roots, &[PROTOCOL]);
        let settings = settings.map_err(|error: SettingsError| bad(error.to_string()))?;
        Ok(Self { settings, server: ServerName::IpAddress(server.into()), resumes })
    }
}

/// A file of certificates that cannot be used.
#[derive(Debug)]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot trust what is in {}: {}; name the server's certificate or its authority with \
             --ca",
            self.path.display(),
            self.what
        )
    }
}

impl std::error::Error for TlsError {}

#[derive(Debug)]
struct Pending {
    handshake: Box<Handshake>,
    input: Vec<u8>,
}

/// What came of a device's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsealed {
    /// The handshake goes on.
    Handshaking,
    /// The handshake is done: the device may speak.
    Open,
    /// More data, or none.
    Data,
    /// The connection cannot go on.
    Failed,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Sealed {
    plan: TlsPlan,
    open: Vec<Option<Box<Detached>>>,
    pending: BTreeMap<DeviceIndex, Pending>,
    /// Records that have arrived in part.
    halves: BTreeMap<DeviceIndex, Vec<u8>>,
    /// What handshakes have to say.
    raw: BTreeMap<DeviceIndex, Vec<u8>>,
    /// Devices whose ticket has not come yet.
    takers: BTreeMap<DeviceIndex, TicketTaker>,
    /// What a device that comes back resumes.
    sessions: BTreeMap<DeviceIndex, Session>,
    /// Handshakes done, and those of them that resumed a session.
    pub(super) done: u64,
    pub(super) resumed: u64,
    /// Why the last one failed.
    pub(super) failure: String,
}

impl Sealed {
    pub(super) fn new(plan: TlsPlan, devices: usize) -> Self {
        let mut open = Vec::new();
        open.resize_with(devices, || None);
        Self {
            plan,
            open,
            pending: BTreeMap::new(),
            halves: BTreeMap::new(),
            raw: BTreeMap::new(),
            takers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            done: 0,
            resumed: 0,
            failure: String::new(),
        }
    }

    /// A connection stands: its handshake begins. Says whether it does.
    pub(super) fn connected(&mut self, index: DeviceIndex) -> bool {
        self.closed(index);
        let session = self.sessions.remove(&index);
        let made = Handshake::client(&self.plan.settings, self.plan.server.clone(), session);
        let begun = made.and_then(|mut handshake| {
            let mut hello = Vec::new();
            handshake.advance(&mut [], &mut hello).map(|_| (handshake, hello))
        });
        match begun {
            Ok((handshake, hello)) => {
                let pending = Pending { handshake: Box::new(handshake), input: Vec::new() };
                self.pending.insert(index, pending);
                self.raw.insert(index, hello);
                true
            }
            Err(error) => {
                self.failure = error.to_string();
                false
            }
        }
    }

    /// A connection is gone.
    pub(super) fn closed(&mut self, index: DeviceIndex) {
        if let Some(place) = self.open.get_mut(index as usize) {
            *place = None;
        }
        self.pending.remove(&index);
        self.halves.remove(&index);
        self.raw.remove(&index);
        self.takers.remove(&index);
    }

    /// Whether a handshake has something to say.
    pub(super) fn has_raw(&self, index: DeviceIndex) -> bool {
        self.raw.contains_key(&index)
    }

    /// Bytes came to a device; what they say is appended to `plain`.
    pub(super) fn received(
        &mut self,
        index: DeviceIndex,
        bytes: &[u8],
        plain: &mut Vec<u8>,
    ) -> Unsealed {
        let Some(mut pending) = self.pending.remove(&index) else {
            return self.open_records(index, bytes, plain);
        };
        pending.input.extend_from_slice(bytes);
        let mut output = Vec::new();
        let progress = pending.handshake.advance(&mut pending.input, &mut output);
        if !output.is_empty() {
            self.raw.entry(index).or_default().append(&mut output);
        }
        let progress = match progress {
            Ok(progress) => progress,
            Err(error) => {
                self.failure = error.to_string();
                return Unsealed::Failed;
            }
        };
        pending.input.drain(..progress.taken);
        if !progress.is_done {
            self.pending.insert(index, pending);
            return Unsealed::Handshaking;
        }
        match pending.handshake.finish() {
            Ok(established) => self.established(index, established),
            Err(error) => {
                self.failure = error.to_string();
                return Unsealed::Failed;
            }
        }
        if self.open_records(index, &pending.input, plain) == Unsealed::Failed {
            return Unsealed::Failed;
        }
        Unsealed::Open
    }

    fn established(&mut self, index: DeviceIndex, established: Established) {
        let Established { detached, is_resumed, ticket_taker, .. } = established;
        self.done += 1;
        self.resumed += u64::from(is_resumed);
        if let Some(place) = self.open.get_mut(index as usize) {
            *place = Some(Box::new(detached));
        }
        if let Some(taker) = ticket_taker.filter(|_| self.plan.resumes) {
            self.takers.insert(index, taker);
        }
    }

    fn open_records(&mut self, index: DeviceIndex, bytes: &[u8], plain: &mut Vec<u8>) -> Unsealed {
        let Self { open, halves, takers, sessions, .. } = self;
        let Some(detached) = open.get_mut(index as usize).and_then(Option::as_mut) else {
            return Unsealed::Data;
        };
        let held = halves.remove(&index).map(|mut held| {
            held.extend_from_slice(bytes);
            held
        });
        let stream = held.as_deref().unwrap_or(bytes);
        let mut on_ticket = |ticket: &[u8]| {
            if let Some(session) = takers.remove(&index).and_then(|mut taker| taker.take(ticket)) {
                sessions.insert(index, session);
            }
        };
        match detached.open_with_tickets(stream, plain, &mut on_ticket) {
            Ok(taken) => {
                if let Some(rest) = stream.get(taken..).filter(|rest| !rest.is_empty()) {
                    halves.insert(index, rest.to_vec());
                }
                Unsealed::Data
            }
            Err(error) => {
                self.failure = error.to_string();
                Unsealed::Failed
            }
        }
    }

    /// Appends what a device sends: what its handshake has to say, then this, sealed.
    pub(super) fn seal(&mut self, index: DeviceIndex, plain: &[u8], sealed: &mut Vec<u8>) {
        if let Some(mut raw) = self.raw.remove(&index) {
            sealed.append(&mut raw);
        }
        if let Some(detached) = self.open.get_mut(index as usize).and_then(Option::as_mut) {
            // After the server's last words nothing more is owed to it.
            let outcome = detached.seal(plain, sealed);
            debug_assert!(outcome.is_ok() || detached.has_ended(), "it seals until its end");
        }
    }
}
