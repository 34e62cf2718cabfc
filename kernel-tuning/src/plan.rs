//! Budgets: what a goal takes of memory, processors, descriptors and disk, how many sessions this
//! machine can hold, and how many machines a larger goal needs. Pure.

use crate::check::{self, Report};
use crate::cost::{self, Bytes, SERVER_BYTES, SessionCost};
use crate::facts::Facts;
use crate::goal::{GATEWAY_CONNECTIONS_MAX, GATEWAY_SHARDS_MAX, Goal, OTHER_DESCRIPTORS};
use crate::settings::{BUSY_PERCENT, SPARE_BYTES};
use serde::Serialize;

/// Pages of the store that should stay in memory: what was written in so many seconds.
const CACHED_S: u64 = 600;
const CACHE_LEAST_BYTES: u64 = 256 << 20;
/// Bounds of one shard, `limits` of the gateway's configuration at their defaults.
const POOLS: [(&str, u64); 4] = [
    ("half frames (half_frame_pool_bytes)", 64 << 20),
    ("send queues (send_queues_bytes)", 256 << 20),
    ("conversations and lists (actor_memory_bytes)", 256 << 20),
    ("what is owed to other actors (untold_bytes_max)", 256 << 20),
];
const DAY_S: u64 = 86_400;

/// What may be used of the processors, in thousandths of one.
pub(crate) fn cores_milli(facts: &Facts) -> u64 {
    let all = u64::from(facts.cpus.count).saturating_mul(1_000);
    facts.cgroup.cpu_max_milli.map_or(all, |quota| quota.min(all))
}

/// Thousandths of a core that heartbeats and messages take.
pub(crate) fn steady_milli(goal: &Goal) -> u64 {
    heartbeats_milli(goal).saturating_add(messages_milli(goal))
}

fn heartbeats_milli(goal: &Goal) -> u64 {
    let a_second = goal.connections.div_ceil(goal.heartbeat_s);
    a_second.saturating_mul(cost::HEARTBEAT_US).div_ceil(1_000)
}

fn messages_milli(goal: &Goal) -> u64 {
    goal.messages_per_s.saturating_mul(cost::MESSAGE_US).div_ceil(1_000)
}

/// What bounds the largest number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Largest {
    pub connections: u64,
    pub by: String,
    pub by_memory: u64,
    pub by_processors: u64,
    /// By descriptors as they are now; none: they do not bound it.
    pub by_descriptors: Option<u64>,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    pub goal: Goal,
    pub machine: String,
    pub session: SessionCost,
    /// What the goal takes, in bytes.
    pub memory: Bytes,
    pub memory_needed_bytes: u64,
    pub memory_room_bytes: u64,
    /// What all shards may take besides, at most, each with its limit's name.
    pub pools: Bytes,
    /// Thousandths of a core.
    pub processors: Bytes,
    pub processors_needed_milli: u64,
    pub processors_room_milli: u64,
    /// What a storm of connects at the rate asked for takes meanwhile.
    pub storm_milli: u64,
    pub descriptors: Vec<(String, u64)>,
    /// Bytes a second to the disk, and a day at rest.
    pub disk_bytes_per_s: u64,
    pub stored_bytes_per_day: u64,
    pub largest: Largest,
    /// Machines like this one for the goal.
    pub nodes: u64,
    pub check: Report,
}

/// Adds it all up.
pub(crate) fn plan(facts: &Facts, goal: &Goal) -> Plan {
    let layout = goal.layout(facts);
    let session = SessionCost::of(facts, goal, &layout);
    let shards = u64::from(facts.cpus.count.min(GATEWAY_SHARDS_MAX));
    let memory = memory(facts, goal, &session);
    let processors = vec![
        (format!("heartbeats, every {} s", goal.heartbeat_s), heartbeats_milli(goal)),
        (format!("messages, {} a second", goal.messages_per_s), messages_milli(goal)),
    ];
    let connect_us = cost::CONNECT_US + if goal.tls { cost::TLS_HANDSHAKE_US } else { 0 };
    let largest = largest(facts, goal, &session);
    Plan {
        machine: check::machine(facts),
        memory_needed_bytes: memory.iter().map(|(_, bytes)| bytes).sum(),
        memory_room_bytes: room(facts),
        memory,
        pools: POOLS.iter().map(|(name, each)| ((*name).to_owned(), each * shards)).collect(),
        processors_needed_milli: steady_milli(goal).saturating_mul(100).div_ceil(BUSY_PERCENT),
        processors_room_milli: cores_milli(facts),
        processors,
        storm_milli: goal.connects_per_s.saturating_mul(connect_us).div_ceil(1_000),
        descriptors: descriptors(goal, &layout),
        disk_bytes_per_s: goal.messages_per_s.saturating_mul(cost::DISK_BYTES_PER_MESSAGE),
        stored_bytes_per_day: goal
            .messages_per_s
            .saturating_mul(cost::STORED_BYTES_PER_MESSAGE)
            .saturating_mul(DAY_S),
        nodes: goal.connections.div_ceil(largest.connections.max(1)),
        largest,
        session,
        check: check::check(facts, goal),
        goal: goal.clone(),
    }
}

fn descriptors(goal: &Goal, layout: &crate::goal::Layout) -> Vec<(String, u64)> {
    let files = goal.connections.saturating_mul(goal.ends());
    let of_process = if layout.uring {
        layout.tables.saturating_add(OTHER_DESCRIPTORS)
    } else {
        goal.connections.saturating_add(OTHER_DESCRIPTORS)
    };
    let mut rows = vec![
        ("descriptors of the server".to_owned(), of_process),
        ("open files of the machine".to_owned(), files),
    ];
    if layout.uring {
        rows.push((format!("rings of {} places", layout.slots), layout.tables));
    }
    rows
}

fn cache_bytes(facts: &Facts, goal: &Goal) -> u64 {
    let written =
        goal.messages_per_s.saturating_mul(cost::STORED_BYTES_PER_MESSAGE).saturating_mul(CACHED_S);
    let most = (facts.memory.total_bytes / 8).max(CACHE_LEAST_BYTES);
    written.clamp(CACHE_LEAST_BYTES, most)
}

fn memory(facts: &Facts, goal: &Goal, session: &SessionCost) -> Bytes {
    let times = |bytes: u64| bytes.saturating_mul(goal.connections);
    vec![
        ("sessions in the kernel".to_owned(), times(session.kernel_bytes())),
        ("sessions in the process".to_owned(), times(session.process_bytes())),
        ("the server, empty".to_owned(), SERVER_BYTES),
        ("pages of the store, so that reads need no disk".to_owned(), cache_bytes(facts, goal)),
        ("left free".to_owned(), SPARE_BYTES),
    ]
}

/// What the machine and the control group leave.
fn room(facts: &Facts) -> u64 {
    let group = facts.group_room_bytes().unwrap_or(u64::MAX);
    facts.memory.room_bytes().min(group)
}

fn largest(facts: &Facts, goal: &Goal, session: &SessionCost) -> Largest {
    let fixed = SERVER_BYTES + SPARE_BYTES + cache_bytes(facts, goal);
    let by_memory = room(facts).saturating_sub(fixed) / session.bytes().max(1);
    let steady = cores_milli(facts) * BUSY_PERCENT / 100;
    // On several machines each has its share of the messages: here all are on this one.
    let left_milli = steady.saturating_sub(messages_milli(goal).min(steady / 2));
    let heartbeats_per_s = left_milli.saturating_mul(1_000) / cost::HEARTBEAT_US;
    let by_processors = heartbeats_per_s.saturating_mul(goal.heartbeat_s);
    let layout = goal.layout(facts);
    let process = &facts.process;
    let may_grow = process.may_raise_limits || facts.systemd || layout.uring;
    let by_descriptors =
        (!may_grow).then(|| facts.server_nofile().1.saturating_sub(OTHER_DESCRIPTORS));
    let group = facts.group_room_bytes().is_some_and(|r| r < facts.memory.room_bytes());
    let memory = if group { "the control group's memory" } else { "memory" };
    let bounds = [
        (by_memory, memory),
        (by_processors, "processors"),
        (by_descriptors.unwrap_or(u64::MAX), "descriptors of one process"),
        (GATEWAY_CONNECTIONS_MAX, "limits.connections_max of one gateway"),
    ];
    let (connections, by) = bounds.into_iter().min().unwrap_or((0, memory));
    Largest { connections, by: by.to_owned(), by_memory, by_processors, by_descriptors }
}
