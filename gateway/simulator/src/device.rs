//! A device: the SDK's session, the storage beside it, and a person who looks at it.

use crate::network::Party;
use crate::prng::Prng;
use crate::simulation::{Event as Happening, MS, Simulation};
use crate::token;
use crate::trace::Broken;
use roost_client::{
    Command, Config, Credential, Input, Order, Output, PersistId, Restored, Session,
};
use roost_protocol::ids::{ConversationId, DeviceId, Sequence, UserId};
use std::collections::{BTreeMap, VecDeque};

/// A token that ends within so many seconds is renewed: the server's warning came.
const TOKEN_LEFT_S: u64 = 3_600;

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) user: usize,
    pub(crate) user_id: UserId,
    pub(crate) id: DeviceId,
    token: String,
    token_ends_s: u64,
    /// It was signed out: only a newer token helps.
    pub(crate) signed_out: bool,
    pub(crate) session: Option<Session>,
    /// Which life of the app it is.
    pub(crate) life: u32,
    /// Which shard takes its connections, where a story says so.
    pub(crate) shard: Option<u8>,
    /// The person wants to be online.
    pub(crate) online: bool,
    /// What is durable on the device.
    pub(crate) records: Vec<Vec<u8>>,
    unconfirmed: VecDeque<(PersistId, Vec<u8>)>,
    persist_due: bool,
    connection: Option<u64>,
    wake_at: u64,
    /// The last life that began from an old backup, or lost what was not persisted.
    pub(crate) forgot_in: u32,
    /// When the server welcomed it last.
    pub(crate) connected_ns: u64,
    /// Whose presence this life of the app watched, from where, and whether it stopped.
    pub(crate) watched: BTreeMap<(Option<ConversationId>, usize), bool>,
    /// Groups from which it was shown that its user has gone, and when.
    pub(crate) gone: BTreeMap<ConversationId, u64>,
    prng: Prng,
}

impl Device {
    pub(crate) fn new(name: &str, user: usize, user_id: UserId, index: usize, seed: u64) -> Self {
        let number = u64::try_from(index).unwrap_or(0);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id[15] = 1;
        Self {
            name: name.to_owned(),
            user,
            token: String::new(),
            token_ends_s: 0,
            user_id,
            id: DeviceId(id),
            session: None,
            life: 0,
            shard: None,
            online: false,
            records: Vec::new(),
            unconfirmed: VecDeque::new(),
            persist_due: false,
            connection: None,
            wake_at: u64::MAX,
            forgot_in: 0,
            signed_out: false,
            connected_ns: 0,
            watched: BTreeMap::new(),
            gone: BTreeMap::new(),
            prng: Prng::new(seed, 100 + number),
        }
    }

    /// What it shows who it is with.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |session: &Session| session.is_idle() && session.unanswered() == 0;
        self.session.as_ref().is_some_and(idle) && self.unconfirmed.is_empty()
    }
}

impl Simulation {
    // ---- the app's life ----

    /// Starts an app with what its device kept.
    pub(crate) fn app_start(&mut self, index: usize) -> Result<(), Broken> {
        let device = &mut self.devices[index];
        if device.session.is_some() {
            return Ok(());
        }
        let restored = Restored::from_records(device.records.iter().map(Vec::as_slice));
        let restored =
            restored.map_err(|error| Broken::new(format!("a restore fails: {error}")))?;
        let mut config = Config::new("simulated/1", device.prng.number());
        config.device = Some(device.id);
        config.order = Order::InOrder;
        let credential = Credential::Token(device.token.clone());
        device.session = Some(Session::new(config, credential, restored));
        device.life += 1;
        device.wake_at = u64::MAX;
        device.persist_due = false;
        device.watched.clear();
        let (name, life) = (device.name.clone(), device.life);
        self.history.forget_ticks(index);
        self.tell(|| format!("{name}'s app starts, life {life}"));
        if self.devices[index].online { self.feed(index, Input::Start) } else { Ok(()) }
    }

    /// The app dies: what was not persisted is gone. Restored from a backup, so are the newest
    /// records.
    pub(crate) fn app_kill(&mut self, index: usize, backup: bool) {
        let device = &mut self.devices[index];
        if device.session.take().is_none() {
            return;
        }
        device.unconfirmed.clear();
        let connection = device.connection.take();
        if backup {
            let kept = device.prng.place(device.records.len() + 1);
            device.records.truncate(kept);
        }
        device.forgot_in = device.life;
        let (name, kept) = (device.name.clone(), device.records.len());
        self.tell(|| format!("{name}'s app dies, {kept} records remain"));
        if backup {
            self.history.forget_kept(index);
            // What was refused it may not know any more, and say again.
            let own =
                |said: &&mut crate::shadow::Said| said.device == index && said.refused.is_some();
            for said in self.shadow.said.iter_mut().filter(own) {
                (said.refused, said.revived) = (None, true);
            }
        }
        // What a killed app read may be forgotten with it.
        self.shadow.read_kept.retain(|(of, _), _| *of != index);
        if let Some(id) = connection {
            self.client_leaves(id);
        }
    }

    /// The person goes online or offline.
    pub(crate) fn set_online(&mut self, index: usize, online: bool) -> Result<(), Broken> {
        let device = &mut self.devices[index];
        if std::mem::replace(&mut device.online, online) == online {
            return Ok(());
        }
        let name = device.name.clone();
        self.tell(|| format!("{name} goes {}", if online { "online" } else { "offline" }));
        let input = if online { Input::Start } else { Input::Command(Command::Close) };
        self.feed(index, input)
    }

    // ---- what a person does ----

    /// Reads a conversation up to a seq.
    pub(crate) fn read(
        &mut self,
        index: usize,
        conversation: ConversationId,
        seq: u64,
    ) -> Result<(), Broken> {
        let (name, user) = (self.devices[index].name.clone(), self.devices[index].user);
        let with = self.in_words(user, conversation);
        self.tell(|| format!("{name} reads up to {seq} {with}"));
        self.shadow.first_read.entry((user, conversation)).or_insert(self.now_ns);
        let furthest = self.shadow.read.entry((user, conversation)).or_insert(0);
        *furthest = seq.max(*furthest);
        let kept = self.shadow.read_kept.entry((index, conversation)).or_insert(0);
        *kept = seq.max(*kept);
        let command = Command::Read { conversation, seq: Sequence(seq) };
        self.feed(index, Input::Command(command))
    }

    // ---- what happens to a session ----

    pub(crate) fn feed(&mut self, index: usize, input: Input<'_>) -> Result<(), Broken> {
        let now = self.now();
        let Some(session) = &mut self.devices[index].session else { return Ok(()) };
        let mut outputs = Vec::new();
        session.handle(now, input, &mut outputs);
        for output in outputs {
            self.device_output(index, output)?;
        }
        let device = &mut self.devices[index];
        let Some(deadline) = device.session.as_ref().and_then(Session::next_deadline) else {
            return Ok(());
        };
        let at = deadline.ns.max(self.now_ns + 1);
        if at < device.wake_at {
            device.wake_at = at;
            let life = device.life;
            self.after(at - self.now_ns, Happening::Wake { device: index, life });
        }
        Ok(())
    }

    fn device_output(&mut self, index: usize, output: Output) -> Result<(), Broken> {
        let life = self.devices[index].life;
        match output {
            Output::Connect => {
                let id = self.connect(Party::Device { device: index, life });
                self.devices[index].connection = Some(id);
            }
            Output::Transmit(bytes) => {
                let connection = self.devices[index].connection;
                let Some(id) = connection else {
                    return Err(Broken::new("a session speaks without a connection"));
                };
                self.transmit(id, &bytes);
            }
            Output::Disconnect => {
                if let Some(id) = self.devices[index].connection.take() {
                    self.client_leaves(id);
                }
            }
            Output::Persist { id, record } => {
                self.devices[index].unconfirmed.push_back((id, record));
                self.persist_soon(index);
            }
            Output::NeedToken => {
                let wait = if self.devices[index].signed_out { 1_100 } else { 5 };
                self.after(wait * MS, Happening::Token { device: index, life });
            }
            Output::Event(event) => return self.shown(index, event),
        }
        Ok(())
    }

    fn persist_soon(&mut self, index: usize) {
        let device = &mut self.devices[index];
        if !device.persist_due && !device.unconfirmed.is_empty() {
            device.persist_due = true;
            let delay = self.plan.persist.draw(&mut device.prng);
            let life = device.life;
            self.after(delay, Happening::Persisted { device: index, life });
        }
    }

    pub(crate) fn persisted(&mut self, index: usize, life: u32) -> Result<(), Broken> {
        let device = &mut self.devices[index];
        if device.life != life || device.session.is_none() {
            return Ok(());
        }
        device.persist_due = false;
        let count = device.prng.place(device.unconfirmed.len()) + 1;
        let mut last = None;
        for (id, record) in device.unconfirmed.drain(..count.min(device.unconfirmed.len())) {
            device.records.push(record);
            last = Some(id);
        }
        self.persist_soon(index);
        last.map_or(Ok(()), |id| self.feed(index, Input::Persisted(id)))
    }

    pub(crate) fn wake(&mut self, index: usize, life: u32) -> Result<(), Broken> {
        let device = &mut self.devices[index];
        if device.life != life || device.session.is_none() || device.wake_at > self.now_ns {
            return Ok(());
        }
        device.wake_at = u64::MAX;
        self.feed(index, Input::Tick)
    }

    /// The person opens the app again that had given up.
    pub(crate) fn reopen(&mut self, index: usize, life: u32) -> Result<(), Broken> {
        let device = &self.devices[index];
        if device.life != life || !device.online {
            return Ok(());
        }
        self.feed(index, Input::Start)
    }

    pub(crate) fn token(&mut self, index: usize, life: u32) -> Result<(), Broken> {
        let now_s = self.now().wall.ms / 1000;
        let device = &mut self.devices[index];
        if device.life != life {
            return Ok(());
        }
        let ends = now_s + TOKEN_LEFT_S >= device.token_ends_s;
        let token = if std::mem::take(&mut device.signed_out) || ends {
            self.renew_token(index)
        } else {
            device.token.clone()
        };
        self.feed(index, Input::Token(token))
    }

    /// The app gets a new token from its backend.
    pub(crate) fn renew_token(&mut self, index: usize) -> String {
        let (now_s, life_s) = (self.now().wall.ms / 1000, self.plan.token_life_s);
        let device = &mut self.devices[index];
        device.token = token::token(device.user_id.as_str(), now_s, life_s);
        device.token_ends_s = now_s + life_s;
        device.token.clone()
    }

    // ---- what happens to its connection ----

    fn is_current(&self, index: usize, life: u32, id: u64) -> bool {
        let device = &self.devices[index];
        device.life == life && device.session.is_some() && device.connection == Some(id)
    }

    pub(crate) fn device_connected(
        &mut self,
        index: usize,
        life: u32,
        id: u64,
    ) -> Result<(), Broken> {
        if self.is_current(index, life, id) { self.feed(index, Input::Connected) } else { Ok(()) }
    }

    pub(crate) fn device_connect_failed(
        &mut self,
        index: usize,
        life: u32,
        id: u64,
    ) -> Result<(), Broken> {
        if !self.is_current(index, life, id) {
            return Ok(());
        }
        self.devices[index].connection = None;
        self.feed(index, Input::ConnectFailed)
    }

    pub(crate) fn device_received(
        &mut self,
        index: usize,
        life: u32,
        id: u64,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        if !self.is_current(index, life, id) {
            return Ok(());
        }
        self.feed(index, Input::Received(bytes))
    }

    pub(crate) fn device_disconnected(
        &mut self,
        index: usize,
        life: u32,
        id: u64,
    ) -> Result<(), Broken> {
        if !self.is_current(index, life, id) {
            return Ok(());
        }
        self.devices[index].connection = None;
        self.feed(index, Input::Disconnected)
    }
}
