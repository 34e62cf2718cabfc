//! The way between devices and the host: delay, cut into chunks, stall, reset. A connection is two
//! streams of bytes; a cut loses what is on the way, at any byte.

use crate::host::Waiting;
use crate::prng::Prng;
use crate::simulation::{Event, MS, Simulation};
use crate::trace::Broken;
use roost_gateway::ids::EdgeId;
use std::collections::{BTreeMap, VecDeque};

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// A device's app, in this life.
    Device { device: usize, life: u32 },
    /// A notification extension of a device.
    Extension { extension: usize },
    /// An observer that speaks the protocol by hand.
    Probe { probe: usize },
}

/// One connection, as long as either side knows it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "two directions, each open or not, due or not")]
pub(crate) struct Connection {
    pub(crate) party: Party,
    /// The server's side, while it knows it.
    pub(crate) server: Option<ServerSide>,
    /// The device hears and speaks.
    client_open: bool,
    up: VecDeque<u8>,
    up_due: bool,
    down: VecDeque<u8>,
    down_due: bool,
    stalled_until: u64,
    /// Bytes were lost on the way: nothing more may follow them.
    cut: bool,
}

#[derive(Debug)]
pub(crate) struct ServerSide {
    pub(crate) shard: u8,
    pub(crate) edge: EdgeId,
    paused: bool,
    sending: Option<Vec<u8>>,
    closing: bool,
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<u64, Connection>,
    /// Those that the server knows, by its name for them.
    by_edge: BTreeMap<(u8, EdgeId), u64>,
    made: u64,
    pub(crate) prng: Prng,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        let (connections, by_edge) = (BTreeMap::new(), BTreeMap::new());
        Self { connections, by_edge, made: 0, prng: Prng::new(seed, 4) }
    }

    fn find(&self, shard: u8, edge: EdgeId) -> Option<u64> {
        self.by_edge.get(&(shard, edge)).copied()
    }
}

impl Simulation {
    fn network_delay(&mut self) -> u64 {
        self.plan.network.draw(&mut self.network.prng)
    }

    // ---- the device's side ----

    /// A device wants to connect.
    pub(crate) fn connect(&mut self, party: Party) -> u64 {
        self.network.made += 1;
        let id = self.network.made;
        let connection = Connection {
            party,
            server: None,
            client_open: true,
            up: VecDeque::new(),
            up_due: false,
            down: VecDeque::new(),
            down_due: false,
            stalled_until: 0,
            cut: false,
        };
        self.network.connections.insert(id, connection);
        let delay = self.network_delay();
        self.after(delay, Event::Connecting { connection: id });
        id
    }

    pub(crate) fn connecting(&mut self, id: u64) -> Result<(), Broken> {
        let Some(connection) = self.network.connections.get(&id) else { return Ok(()) };
        if !connection.client_open {
            self.network.connections.remove(&id);
            return Ok(());
        }
        let party = connection.party;
        if !self.host.is_up() || self.host.stopping.is_some() {
            self.network.connections.remove(&id);
            return self.connect_failed(party, id);
        }
        let drawn = u8::try_from(self.network.prng.place(self.host.seats.len())).unwrap_or(0);
        let chosen = match party {
            Party::Device { device, .. } => self.devices[device].shard,
            Party::Extension { .. } | Party::Probe { .. } => None,
        };
        let shard = chosen.filter(|shard| self.host.has(*shard)).unwrap_or(drawn);
        let edge = self.host.take_slot(shard);
        if let Some(connection) = self.network.connections.get_mut(&id) {
            let (paused, sending, closing) = (false, None, false);
            connection.server = Some(ServerSide { shard, edge, paused, sending, closing });
        }
        self.network.by_edge.insert((shard, edge), id);
        self.give(shard, Waiting::Opened(edge));
        self.connected(party, id)
    }

    /// A device sends bytes.
    pub(crate) fn transmit(&mut self, id: u64, bytes: &[u8]) {
        self.trace.bytes(bytes);
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if connection.client_open && !connection.cut {
            connection.up.extend(bytes);
            self.up_soon(id);
        }
    }

    fn up_soon(&mut self, id: u64) {
        let delay = self.network_delay();
        let now = self.now_ns;
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if !connection.up_due {
            connection.up_due = true;
            let wait = connection.stalled_until.saturating_sub(now);
            self.after(delay + wait, Event::Up { connection: id });
        }
    }

    pub(crate) fn up(&mut self, id: u64) -> Result<(), Broken> {
        let chunk = usize::try_from(self.network.prng.range(1, self.plan.chunk_bytes)).unwrap_or(1);
        let now = self.now_ns;
        let Some(connection) = self.network.connections.get_mut(&id) else { return Ok(()) };
        connection.up_due = false;
        let Some(server) = &connection.server else { return Ok(()) };
        if server.paused || server.closing {
            return Ok(());
        }
        if connection.stalled_until > now {
            self.up_soon(id);
            return Ok(());
        }
        let (shard, edge) = (server.shard, server.edge);
        let taken = chunk.min(connection.up.len());
        let bytes: Vec<u8> = connection.up.drain(..taken).collect();
        let (left, open) = (!connection.up.is_empty(), connection.client_open);
        if !bytes.is_empty() {
            self.give(shard, Waiting::Received(edge, bytes));
        }
        if left {
            self.up_soon(id);
        } else if !open {
            self.after(0, Event::ServerClosed { connection: id });
        }
        Ok(())
    }

    /// A device closes its connection, or its app is gone: what it sent still arrives.
    pub(crate) fn client_leaves(&mut self, id: u64) {
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        connection.client_open = false;
        connection.down.clear();
        if connection.server.is_some() {
            self.up_soon(id);
        }
    }

    // ---- the server's side ----

    pub(crate) fn server_send(&mut self, shard: u8, edge: EdgeId, buffer: Vec<u8>) {
        let Some(id) = self.network.find(shard, edge) else { return };
        self.trace.bytes(&buffer);
        let delay = self.network_delay() / 4 + 1;
        let now = self.now_ns;
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let wait = connection.stalled_until.saturating_sub(now);
        if let Some(server) = &mut connection.server {
            server.sending = Some(buffer);
            self.after(delay + wait, Event::SendDone { connection: id });
        }
    }

    pub(crate) fn send_done(&mut self, id: u64) -> Result<(), Broken> {
        let Some(connection) = self.network.connections.get_mut(&id) else { return Ok(()) };
        let open = connection.client_open && !connection.cut;
        let Some(server) = &mut connection.server else { return Ok(()) };
        let Some(buffer) = server.sending.take() else { return Ok(()) };
        let (shard, edge, closing) = (server.shard, server.edge, server.closing);
        if open {
            connection.down.extend(&buffer);
            self.down_soon(id);
        }
        self.give(shard, Waiting::Sent(edge, buffer));
        if closing {
            self.after(1, Event::ServerClosed { connection: id });
        }
        Ok(())
    }

    pub(crate) fn server_close(&mut self, shard: u8, edge: EdgeId, at_once: bool) {
        let Some(id) = self.network.find(shard, edge) else { return };
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let Some(server) = &mut connection.server else { return };
        server.closing = true;
        if at_once {
            server.sending = None;
        }
        if server.sending.is_none() {
            let delay = self.network_delay() / 4 + 1;
            self.after(delay, Event::ServerClosed { connection: id });
        }
    }

    pub(crate) fn server_pause(&mut self, shard: u8, edge: EdgeId, pause: bool) {
        let Some(id) = self.network.find(shard, edge) else { return };
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if let Some(server) = &mut connection.server {
            server.paused = pause;
        }
        if !pause {
            self.up_soon(id);
        }
    }

    /// The server's side ends: it is told, and the device will notice behind what was sent.
    pub(crate) fn server_closed(&mut self, id: u64) -> Result<(), Broken> {
        let Some(connection) = self.network.connections.get_mut(&id) else { return Ok(()) };
        let Some(server) = connection.server.take() else { return Ok(()) };
        connection.up.clear();
        self.network.by_edge.remove(&(server.shard, server.edge));
        self.give(server.shard, Waiting::Closed(server.edge));
        self.host.free_slot(server.shard, server.edge);
        self.down_soon(id);
        Ok(())
    }

    fn down_soon(&mut self, id: u64) {
        let delay = self.network_delay();
        let now = self.now_ns;
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if !connection.down_due {
            connection.down_due = true;
            let wait = connection.stalled_until.saturating_sub(now);
            self.after(delay + wait, Event::Down { connection: id });
        }
    }

    pub(crate) fn down(&mut self, id: u64) -> Result<(), Broken> {
        let chunk = usize::try_from(self.network.prng.range(1, self.plan.chunk_bytes)).unwrap_or(1);
        let now = self.now_ns;
        let Some(connection) = self.network.connections.get_mut(&id) else { return Ok(()) };
        connection.down_due = false;
        if connection.stalled_until > now {
            self.down_soon(id);
            return Ok(());
        }
        if !connection.client_open {
            if connection.server.is_none() {
                self.network.connections.remove(&id);
            }
            return Ok(());
        }
        let taken = chunk.min(connection.down.len());
        let bytes: Vec<u8> = connection.down.drain(..taken).collect();
        let party = connection.party;
        let ended = connection.server.is_none() && connection.down.is_empty();
        let left = !connection.down.is_empty();
        if ended {
            self.after(1, Event::ClientClosed { connection: id });
        } else if left {
            self.down_soon(id);
        }
        if bytes.is_empty() { Ok(()) } else { self.received(party, id, &bytes) }
    }

    pub(crate) fn client_closed(&mut self, id: u64) -> Result<(), Broken> {
        let Some(connection) = self.network.connections.get(&id) else { return Ok(()) };
        if connection.server.is_some() || !connection.down.is_empty() {
            return Ok(());
        }
        let (party, open) = (connection.party, connection.client_open);
        self.network.connections.remove(&id);
        if open { self.disconnected(party, id) } else { Ok(()) }
    }

    // ---- what breaks ----

    /// The process is gone, and with it the server's side of every connection.
    pub(crate) fn network_crash(&mut self) {
        self.network.by_edge.clear();
        let ids: Vec<u64> = self.network.connections.keys().copied().collect();
        for id in ids {
            let some = self.network.prng.percent(50);
            let Some(connection) = self.network.connections.get_mut(&id) else { continue };
            if connection.server.take().is_none() {
                continue;
            }
            connection.up.clear();
            if !some {
                connection.down.clear();
            }
            self.down_soon(id);
        }
    }

    /// Cuts a connection at whatever byte it is.
    pub(crate) fn cut(&mut self, id: u64) {
        let keep = self.network.prng.number();
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        connection.cut = true;
        let lose = |bytes: &mut VecDeque<u8>| {
            let length = u64::try_from(bytes.len()).unwrap_or(0);
            bytes.truncate(usize::try_from(keep % (length + 1)).unwrap_or(0));
        };
        lose(&mut connection.up);
        lose(&mut connection.down);
        let delay = self.network_delay();
        self.after(delay, Event::ServerClosed { connection: id });
    }

    /// Nothing moves on a connection for a while.
    pub(crate) fn stall(&mut self, id: u64, ms: u64) {
        let until = self.now_ns + ms * MS;
        if let Some(connection) = self.network.connections.get_mut(&id) {
            connection.stalled_until = until;
        }
    }

    /// Connections that both sides know.
    pub(crate) fn open_connections(&self) -> Vec<u64> {
        let open = |connection: &Connection| connection.server.is_some() && connection.client_open;
        let all = self.network.connections.iter();
        all.filter(|(_, connection)| open(connection)).map(|(id, _)| *id).collect()
    }

    // ---- to whom ----

    fn connected(&mut self, party: Party, id: u64) -> Result<(), Broken> {
        match party {
            Party::Device { device, life } => self.device_connected(device, life, id),
            Party::Extension { extension } => {
                self.extension_connected(extension, id);
                Ok(())
            }
            Party::Probe { probe } => {
                let hello = self.probes[probe].hello();
                self.transmit(id, &hello);
                Ok(())
            }
        }
    }

    fn connect_failed(&mut self, party: Party, id: u64) -> Result<(), Broken> {
        match party {
            Party::Device { device, life } => self.device_connect_failed(device, life, id),
            Party::Extension { extension } => {
                self.extension_disconnected(extension, id);
                Ok(())
            }
            Party::Probe { probe } => {
                self.probes[probe].fail("the server is down");
                Ok(())
            }
        }
    }

    fn received(&mut self, party: Party, id: u64, bytes: &[u8]) -> Result<(), Broken> {
        match party {
            Party::Device { device, life } => self.device_received(device, life, id, bytes),
            Party::Extension { extension } => self.extension_received(extension, id, bytes),
            Party::Probe { probe } => {
                let asked = self.probes[probe].received(bytes);
                if !asked.is_empty() {
                    self.transmit(id, &asked);
                }
                Ok(())
            }
        }
    }

    fn disconnected(&mut self, party: Party, id: u64) -> Result<(), Broken> {
        match party {
            Party::Device { device, life } => self.device_disconnected(device, life, id),
            Party::Extension { extension } => {
                self.extension_disconnected(extension, id);
                Ok(())
            }
            Party::Probe { probe } => {
                self.probes[probe].fail("the connection ended");
                Ok(())
            }
        }
    }
}
