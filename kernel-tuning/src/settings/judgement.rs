//! What is said of one setting for one goal on one machine.

use super::Scope;
use crate::cost::SessionCost;
use crate::facts::Facts;
use crate::goal::{Goal, Layout};
use crate::text::count;
use serde::{Deserialize, Serialize};

/// What a judgement looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub facts: &'a Facts,
    pub goal: &'a Goal,
    pub layout: &'a Layout,
    pub cost: &'a SessionCost,
}

/// Whether a setting fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// The goal is not reached with it.
    Stops,
    /// The goal is reached, but slowly, or devices are turned away for a while.
    Slows,
    /// It would stop a simpler server; Roost goes around it.
    Avoided,
    /// Another value serves the profile better.
    Advised,
    /// It is large enough.
    Fits,
    /// This machine does not show it.
    Unknown,
}

impl State {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Stops => "STOPS",
            Self::Slows => "slows",
            Self::Avoided => "avoided",
            Self::Advised => "advised",
            Self::Fits => "fits",
            Self::Unknown => "unknown",
        }
    }
}

/// When a setting is felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bite {
    /// At so many sessions there is an error.
    At(u64),
    /// From so many sessions on it is slower.
    SlowAt(u64),
    /// When so many come, wait or leave at once.
    Burst(u64),
    /// All the time.
    Always,
    Never,
}

impl Bite {
    /// For sorting: what bites at a number of sessions first, then bursts, then the rest.
    pub(crate) const fn rank(self) -> (u8, u64) {
        match self {
            Self::At(sessions) | Self::SlowAt(sessions) => (0, sessions),
            Self::Burst(many) => (1, many),
            Self::Always => (2, 0),
            Self::Never => (3, 0),
        }
    }

    pub(crate) fn words(self) -> String {
        match self {
            Self::At(sessions) => format!("at {}", count(sessions)),
            Self::SlowAt(sessions) => format!("slow from {}", count(sessions)),
            Self::Burst(many) => format!("{} at once", count(many)),
            Self::Always => "always".to_owned(),
            Self::Never => "-".to_owned(),
        }
    }
}

/// What `apply` would do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// A value below `/proc/sys`, now and at the next start.
    Sysctl { key: String, value: String },
    /// A value below `/sys`, now only; a unit or udev rule must repeat it.
    Sysfs { path: String, value: String },
    /// Descriptors of the service and of logins.
    Nofile { value: u64 },
    /// A parameter of the kernel, which we only tell.
    Boot { parameter: String },
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub now: String,
    pub needed: String,
    pub state: State,
    pub bites: Bite,
    /// What to do; empty if nothing.
    pub remedy: String,
    pub changes: Vec<Change>,
}

impl Judgement {
    pub(super) fn new(state: State, now: impl Into<String>, needed: impl Into<String>) -> Self {
        Self {
            now: now.into(),
            needed: needed.into(),
            state,
            bites: Bite::Never,
            remedy: String::new(),
            changes: Vec::new(),
        }
    }

    pub(super) fn fits(now: impl Into<String>, needed: impl Into<String>) -> Self {
        Self::new(State::Fits, now, needed)
    }

    pub(super) fn bites(self, bites: Bite) -> Self {
        Self { bites, ..self }
    }

    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    pub(super) fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// A sysctl that must be written.
    pub(super) fn sysctl(self, key: &str, value: impl ToString) -> Self {
        self.change(Change::Sysctl { key: key.to_owned(), value: value.to_string() })
    }

    /// The machine does not show a sysctl.
    pub(super) fn hidden(context: &Context<'_>, key: &str, scope: Scope) -> Self {
        let facts = context.facts;
        let is_hidden = scope == Scope::Machine && !facts.first_network_namespace;
        let why = if is_hidden {
            format!("{key} belongs to the host and is not shown here; look at it there")
        } else {
            format!("Linux {} does not show {key} here", facts.kernel)
        };
        Self::new(State::Unknown, "not shown", "-").remedy(why)
    }
}

/// A sysctl that is one number and must be at least `needed`; `low` says what it is when it is not.
pub(super) fn at_least(
    context: &Context<'_>,
    (key, scope): (&str, Scope),
    needed: u64,
    low: State,
    bites: impl Fn(u64) -> Bite,
) -> Judgement {
    let Some(now) = context.facts.number(key) else {
        return Judgement::hidden(context, key, scope);
    };
    if now >= needed {
        return Judgement::fits(count(now), count(needed)).bites(bites(now));
    }
    Judgement::new(low, count(now), count(needed)).bites(bites(now)).sysctl(key, needed)
}

/// A sysctl of which a profile wants one value; other profiles leave it as it is.
pub(super) fn wished(
    context: &Context<'_>,
    (key, scope): (&str, Scope),
    wishes: &[super::Wish],
) -> Judgement {
    let Some(now) = context.facts.sysctls.get(key) else {
        return Judgement::hidden(context, key, scope);
    };
    match wishes.iter().find(|wish| wish.profile == context.goal.profile) {
        None => Judgement::fits(now, "any"),
        Some(wish) if now == wish.value => Judgement::fits(now, wish.value),
        Some(wish) => Judgement::new(State::Advised, now, wish.value)
            .bites(Bite::Always)
            .remedy(wish.reason)
            .sysctl(key, wish.value),
    }
}
