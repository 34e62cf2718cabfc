//! Plays a story: lines in the domain's words, each either something that happens or something
//! that must come true within a minute. The real drivers play the same stories; what only a
//! simulated world can do (crashes at a chosen moment, disks that wait) they skip with the story.
//!
//! ```text
//! # A comment.
//! server limits credit=1            slots, memory, checkpoint_ms, segment
//! server with 2 shards
//! ann is online                     ann/tablet is online, ann reinstalls, ann goes offline
//! ann sends "hello" to bob
//! bob receives "hello" from ann     bob has not received "hello"
//! bob reads                         ann sees delivered, ann sees read
//! ann blocks bob, ann unblocks bob  ann is answered (whatever she asked)
//! ann is told "hello" is stored     ann is not told "hello" is stored
//! ann sends 30 messages to bob      ann loses the connection, ann kills the app
//! commits wait, commits go on       the disk completes no commit meanwhile
//! one commit goes on                but for one
//! ann connects to shard 1           from now on
//! queues of shard 1 wait            nothing it hands on arrives; queues of shard 1 go on
//! crash power, crash kill, restart, restart with 3 shards
//! the server stops                  cleanly, with everybody told; then the power goes
//! crash torn                        the power goes early in what is being written
//! wait 500 ms
//! everybody agrees
//! ```

use crate::plan::Plan;
use crate::simulation::{MS, Simulation};
use crate::trace::Broken;

/// How long something may take to come true, in virtual milliseconds.
const PATIENCE_MS: u64 = 60_000;

/// What a story became.
#[derive(Debug)]
pub struct Told {
    /// The line that did not come true, and why.
    pub result: Result<(), Broken>,
    /// What happened.
    pub story: Vec<String>,
    /// Equal for equal runs.
    pub hash: u64,
}

/// Plays a story.
#[must_use]
pub fn play(text: &str) -> Told {
    let mut simulation = Simulation::new(Plan::calm(1), true);
    let result = simulation.play(text);
    let trace = simulation.trace();
    Told { result, story: trace.lines().to_vec(), hash: trace.hash() }
}

impl Simulation {
    fn play(&mut self, text: &str) -> Result<(), Broken> {
        for (number, line) in (1_usize..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                self.tell(|| format!("-- {line}"));
                let broken =
                    |broken: Broken| Broken::new(format!("line {number}, {line}: {broken}"));
                self.play_line(line).map_err(broken)?;
            }
        }
        Ok(())
    }

    fn play_line(&mut self, line: &str) -> Result<(), Broken> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["server", "with", shards, ..] | ["restart", "with", shards, ..] => {
                self.restart(Some(number(shards)?))
            }
            ["restart"] => self.restart(None),
            ["server", "limits", settings @ ..] => self.set_limits(settings),
            ["crash", kind @ ("power" | "kill")] => {
                self.crash(*kind == "power");
                Ok(())
            }
            ["crash", "torn"] => {
                self.host.torn = true;
                self.crash(true);
                Ok(())
            }
            ["the", "server", "stops"] => {
                self.stop(false);
                self.until("it does not stop", |s| !s.host.is_up())?;
                self.until("it was killed", |s| s.host.told)
            }
            ["wait", ms, "ms"] => self.run_for_ms(number(ms)?),
            ["commits", "wait"] => {
                self.host.commits_wait = true;
                Ok(())
            }
            ["one", "commit", "goes", "on"] => {
                self.host.commits_left = 1;
                self.until("no commit waits", |s| s.host.commits_left == 0)
            }
            ["queues", "of", "shard", shard, "wait"] => {
                self.host.queues_wait.insert(number(shard)?);
                Ok(())
            }
            ["queues", "of", "shard", shard, "go", "on"] => {
                self.host.queues_wait.remove(&number(shard)?);
                Ok(())
            }
            ["commits", "go", "on"] => {
                self.host.commits_wait = false;
                Ok(())
            }
            ["everybody", "agrees"] => {
                self.faults.over = true;
                self.converge()
            }
            [name, rest @ ..] => {
                let index = self.device(name);
                let quoted = line.split('"').nth(1).unwrap_or_default();
                self.play_person(index, rest, quoted)
            }
            [] => Ok(()),
        }
    }

    fn play_person(&mut self, index: usize, words: &[&str], text: &str) -> Result<(), Broken> {
        match words {
            ["is" | "comes", "online"] => {
                self.app_start(index)?;
                self.set_online(index, true)
            }
            ["goes", "offline"] => self.set_online(index, false),
            ["loses", "the", "connection"] => {
                self.lose_connection(index);
                Ok(())
            }
            ["connects", "to", "shard", shard] => {
                self.devices[index].shard = Some(number(shard)?);
                Ok(())
            }
            ["reinstalls"] => {
                self.app_kill(index, false);
                self.devices[index].records.clear();
                self.history.forget_kept(index);
                self.app_start(index)
            }
            ["kills", "the", "app"] => {
                self.app_kill(index, false);
                Ok(())
            }
            ["sends", count, "messages", "to", peer] => {
                let peer = self.device(peer);
                let peer = self.devices[peer].user;
                for place in 0..number(count)? {
                    self.say(index, peer, &format!("number {place}"))?;
                }
                Ok(())
            }
            ["sends", .., "to", peer] => {
                let peer = self.device(peer);
                self.say(index, self.devices[peer].user, text).map(drop)
            }
            ["reads"] => {
                for (conversation, seq) in self.history.read_through(index) {
                    self.read(index, conversation, seq)?;
                }
                Ok(())
            }
            [what @ ("blocks" | "unblocks"), peer] => {
                let peer = self.device(peer);
                self.block(index, self.devices[peer].user, *what == "unblocks")
            }
            ["is", "answered"] => self.until("no answer came", |s| s.is_answered(index)),
            ["receives", ..] => self.until("it was not received", |s| s.has_shown(index, text)),
            ["has", "not", "received", ..] => {
                if self.has_shown(index, text) {
                    return Err(Broken::new("it was received"));
                }
                Ok(())
            }
            ["is", "told", .., "stored"] => {
                self.until("no answer came", |s| s.was_told(index, text))
            }
            ["is", "not", "told", .., "stored"] => {
                if self.was_told(index, text) {
                    return Err(Broken::new("it was told so"));
                }
                Ok(())
            }
            ["sees", "delivered"] => {
                self.until("delivered was not seen", |s| s.sees_delivered(index))
            }
            ["sees", "read"] => self.until("read was not seen", |s| s.sees_read(index)),
            _ => Err(Broken::new("this is not a line of a story")),
        }
    }

    // ---- what must come true ----

    fn until(&mut self, why_not: &str, came_true: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        let deadline = self.now_ns + PATIENCE_MS * MS;
        while !came_true(self) {
            if self.now_ns >= deadline {
                return Err(Broken::new(why_not));
            }
            self.run_for_ms(1)?;
        }
        Ok(())
    }

    fn has_shown(&self, index: usize, text: &str) -> bool {
        let shown = self.history.kept.iter().filter(|((device, _), _)| *device == index);
        let mut facts = shown.flat_map(|((_, id), seqs)| {
            seqs.iter().filter_map(|seq| self.history.facts.get(&(*id, *seq)))
        });
        let tagged = |fact: &crate::history::Fact| self.shadow.find(fact.tag?);
        facts.any(|fact| tagged(fact).is_some_and(|said| said.text() == text))
    }

    fn was_told(&self, index: usize, text: &str) -> bool {
        let mut own = self.shadow.said.iter().filter(|said| said.device == index);
        own.any(|said| said.text() == text && said.accepted.is_some())
    }

    fn sees_delivered(&self, index: usize) -> bool {
        self.sees(index, |ticks, newest| ticks.delivered >= newest)
    }

    fn sees_read(&self, index: usize) -> bool {
        self.sees(index, |ticks, newest| ticks.read >= newest)
    }

    /// Whether it holds of the newest message of this user in each conversation.
    fn sees(&self, index: usize, holds: impl Fn(crate::history::Ticks, u64) -> bool) -> bool {
        let own = self.shadow.said.iter().filter(|said| said.user == self.devices[index].user);
        own.filter_map(|said| said.accepted).all(|(id, seq)| {
            let ticks = self.history.ticks_ever.get(&(index, id)).copied();
            holds(ticks.unwrap_or_default(), seq)
        })
    }

    // ---- who takes part ----

    /// The device of that name, made when it is named for the first time: `ann`, `ann/tablet`.
    fn device(&mut self, name: &str) -> usize {
        if let Some(index) = self.devices.iter().position(|device| device.name == name) {
            return index;
        }
        let user_name = name.split('/').next().unwrap_or(name);
        self.add_device(name, user_name)
    }

    fn lose_connection(&mut self, index: usize) {
        for id in self.open_connections() {
            let party = self.network.connections.get(&id).map(|connection| connection.party);
            if let Some(crate::network::Party::Device { device, .. }) = party
                && device == index
            {
                self.cut(id);
            }
        }
    }

    fn set_limits(&mut self, settings: &[&str]) -> Result<(), Broken> {
        for setting in settings {
            let limits = &mut self.plan.limits;
            match setting.split_once('=') {
                Some(("credit", value)) => limits.credit_per_rank = number(value)?,
                Some(("slots", value)) => limits.queue_slots = number(value)?,
                Some(("memory", value)) => limits.actor_memory_bytes = number(value)?,
                Some(("checkpoint_ms", value)) => limits.checkpoint_interval_ms = number(value)?,
                Some(("segment", value)) => self.plan.store.segment_bytes = number(value)?,
                Some(_) | None => return Err(Broken::new("an unknown limit")),
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, Broken> {
    word.parse().map_err(|_| Broken::new(format!("{word} is not a number that fits")))
}
