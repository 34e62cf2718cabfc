//! Who connects to which of the two servers, and who says what, in which order.

use crate::args::{ColdArgs, ColdPart};
use crate::swarm::DeviceIndex;
use crate::tokens::Signer;
use roost_gateway::keys::KeysError;
use roost_protocol::time::Duration;
use std::ops::Range;

/// How long it is looked at what servers do when nobody says anything.
const REST: Duration = Duration::from_seconds(5);

/// So many connect to one server, then as many to the other: a socket that is older is found later
/// in the kernel's table, and neither server's are to be the older ones.
const PART: u32 = 1_000;

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The bare echo.
    Bare,
    /// The server.
    Roost,
}

impl Who {
    pub(super) const BOTH: [Self; 2] = [Self::Bare, Self::Roost];

    pub(super) const fn place(self) -> usize {
        match self {
            Self::Bare => 0,
            Self::Roost => 1,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Roost => "roost",
        }
    }
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Nothing,
    Heartbeats,
    /// Some bytes that only the bare echo answers.
    Echoes,
    Messages,
}

/// Which device is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    InTurn,
    AtRandom,
}

/// Somebody says something for a while.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) who: Who,
    pub(super) what: What,
    pub(super) among: Range<DeviceIndex>,
    pub(super) order: Order,
    /// What the figures are called; none: every device says something once, as fast as it goes, so
    /// that nothing that is measured is the first time.
    pub(super) name: Option<&'static str>,
    /// Before it is measured.
    pub(super) warmup: Duration,
    pub(super) length: Duration,
}

/// One thing after the other.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// These devices connect to this server.
    Connect(Who, Range<DeviceIndex>),
    Say(Step),
}

/// The devices: some that are used all the time for each server, then all others for each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    active: u32,
    others: u32,
}

impl Crowd {
    pub(super) fn of(args: &ColdArgs) -> Self {
        let active = match args.part {
            ColdPart::Heartbeats => 0,
            // There are others, however few connections are wanted.
            ColdPart::Messages => args.active.min(args.connections / 2),
        };
        Self { active, others: args.connections - active }
    }

    /// Of both servers together.
    pub(super) const fn devices(self) -> u32 {
        (self.active + self.others) * 2
    }

    pub(super) const fn active(self, who: Who) -> Range<DeviceIndex> {
        match who {
            Who::Bare => 0..self.active,
            Who::Roost => self.active..self.active * 2,
        }
    }

    pub(super) const fn others(self, who: Who) -> Range<DeviceIndex> {
        let start = self.active * 2;
        match who {
            Who::Bare => start..start + self.others,
            Who::Roost => start + self.others..self.devices(),
        }
    }

    /// A token for each device of the server; the others have none.
    pub(super) fn tokens(
        self,
        users: &[String],
        signer: &Signer,
    ) -> Result<Vec<String>, KeysError> {
        let mut tokens = vec![String::new(); users.len()];
        for of in [self.active(Who::Roost), self.others(Who::Roost)] {
            let of = of.start as usize..of.end as usize;
            let signed = signer.sign(&users[of.clone()])?;
            tokens[of].clone_from_slice(&signed);
        }
        Ok(tokens)
    }

    /// All that is done.
    pub(super) fn script(self, args: &ColdArgs) -> Vec<Act> {
        let seconds = args.common.seconds.unwrap_or(super::SECONDS);
        let say = |who, what, among, order, name: &'static str| {
            Act::Say(Step {
                who,
                what,
                among,
                order,
                name: Some(name),
                warmup: Duration::from_seconds(args.common.warmup.into()),
                length: Duration::from_seconds(seconds.into()),
            })
        };
        match args.part {
            ColdPart::Heartbeats => self.heartbeats(args.turns, say),
            ColdPart::Messages => self.messages(args.turns, say),
        }
    }

    fn heartbeats(
        self,
        turns: u32,
        say: impl Fn(Who, What, Range<DeviceIndex>, Order, &'static str) -> Act,
    ) -> Vec<Act> {
        let mut acts = connects(Who::BOTH.map(|who| self.others(who)));
        for who in Who::BOTH {
            acts.push(first_time(who, What::Heartbeats, self.others(who)));
        }
        for who in Who::BOTH {
            let step = rest(who, self.others(who));
            acts.push(Act::Say(step));
        }
        for _ in 0..turns {
            for who in Who::BOTH {
                let among = self.others(who);
                acts.push(say(who, What::Heartbeats, among, Order::InTurn, "heartbeats"));
            }
        }
        acts
    }

    fn messages(
        self,
        turns: u32,
        say: impl Fn(Who, What, Range<DeviceIndex>, Order, &'static str) -> Act,
    ) -> Vec<Act> {
        let what = |who| if who == Who::Bare { What::Echoes } else { What::Messages };
        let mut acts = connects(Who::BOTH.map(|who| self.active(who)));
        for who in Who::BOTH {
            acts.push(first_time(who, what(who), self.active(who)));
        }
        for _ in 0..turns {
            for who in Who::BOTH {
                acts.push(say(who, what(who), self.active(who), Order::AtRandom, "few_alone"));
            }
        }
        acts.extend(connects(Who::BOTH.map(|who| self.others(who))));
        for who in Who::BOTH {
            acts.push(first_time(who, what(who), self.others(who)));
        }
        for _ in 0..turns {
            for (name, is_few) in [("few_among_many", true), ("all", false)] {
                for who in Who::BOTH {
                    let among = if is_few { self.active(who) } else { self.others(who) };
                    acts.push(say(who, what(who), among, Order::AtRandom, name));
                }
            }
        }
        acts
    }
}

/// As many devices connect to each server, in parts, by turns.
fn connects(of: [Range<DeviceIndex>; 2]) -> Vec<Act> {
    let parts = of[0].clone().step_by(PART as usize).enumerate();
    let part = |all: &Range<DeviceIndex>, from: usize| {
        let from = DeviceIndex::try_from(from).expect("parts are fewer than devices");
        let start = all.start + from * PART;
        start..all.end.min(start + PART)
    };
    let both = parts
        .flat_map(|(from, _)| Who::BOTH.map(|who| Act::Connect(who, part(&of[who.place()], from))));
    both.collect()
}

/// Everybody says something for the first time.
fn first_time(who: Who, what: What, among: Range<DeviceIndex>) -> Act {
    let nothing = Duration::default();
    let order = Order::InTurn;
    Act::Say(Step { who, what, among, order, name: None, warmup: nothing, length: nothing })
}

const fn rest(who: Who, among: Range<DeviceIndex>) -> Step {
    let (what, order) = (What::Nothing, Order::InTurn);
    Step { who, what, among, order, name: Some("at_rest"), warmup: REST, length: REST }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Wanted};
    use clap::Parser;

    fn args(line: &str) -> ColdArgs {
        let words = format!("roost-bench cold --spawn {line}");
        let Wanted::Cold(args) = Args::try_parse_from(words.split(' ')).unwrap().wanted else {
            panic!("cold")
        };
        *args
    }

    /// What is measured, in order: of whom and how it is called.
    fn measured(acts: &[Act]) -> Vec<(Who, &'static str)> {
        let say = |act: &Act| match act {
            Act::Say(step) => step.name.map(|name| (step.who, name)),
            Act::Connect(..) => None,
        };
        acts.iter().filter_map(say).collect()
    }

    #[test]
    fn both_servers_have_as_many_devices_and_none_is_of_both() {
        let crowd = Crowd::of(&args("--part messages --connections 100 --active 10"));
        assert_eq!((crowd.active(Who::Bare), crowd.active(Who::Roost)), (0..10, 10..20));
        assert_eq!((crowd.others(Who::Bare), crowd.others(Who::Roost)), (20..110, 110..200));
        assert_eq!(crowd.devices(), 200);
        let few = Crowd::of(&args("--part messages --connections 3 --active 10"));
        assert_eq!((few.active(Who::Roost), few.others(Who::Roost)), (1..2, 4..6));
    }

    #[test]
    fn all_connect_in_parts_by_turns() {
        let connects = connects([0..2_500, 2_500..5_000]);
        let parts = connects.iter().map(|act| match act {
            Act::Connect(who, of) => (*who, of.clone()),
            Act::Say(_) => panic!("nobody says anything"),
        });
        let expected = [
            (Who::Bare, 0..1_000),
            (Who::Roost, 2_500..3_500),
            (Who::Bare, 1_000..2_000),
            (Who::Roost, 3_500..4_500),
            (Who::Bare, 2_000..2_500),
            (Who::Roost, 4_500..5_000),
        ];
        assert_eq!(parts.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_servers_are_measured_by_turns() {
        let args = args("--connections 100 --turns 2");
        let names = measured(&Crowd::of(&args).script(&args));
        let turn = Who::BOTH.map(|who| (who, "heartbeats"));
        assert_eq!(names[..2], Who::BOTH.map(|who| (who, "at_rest")));
        assert_eq!(names[2..], [turn, turn].concat());
    }

    #[test]
    fn all_have_spoken_before_anything_of_them_is_measured() {
        let args = args("--part messages --connections 100 --active 10 --turns 1");
        let crowd = Crowd::of(&args);
        let mut spoken: Vec<Range<DeviceIndex>> = Vec::new();
        for act in crowd.script(&args) {
            match act {
                Act::Say(step) if step.name.is_some() => assert!(spoken.contains(&step.among)),
                Act::Say(step) => spoken.push(step.among),
                Act::Connect(..) => {}
            }
        }
        assert_eq!(spoken.len(), 4);
    }
}
