//! What scenarios that write under load have in common.

use crate::swarm::DeviceIndex;
use roost_event_loop::CloseCause;
use roost_protocol::time::Duration;
use std::fmt;

/// Unanswered writes that a device may have in one conversation.
pub(super) const UNANSWERED_MAX: usize = 32;
/// How long what is under way may take to finish when nothing new is begun.
pub(super) const PATIENCE: Duration = Duration::from_seconds(20);

/// How is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many messages of each writer or pair that are not acknowledged and with all receivers.
    Window(u32),
    /// So many messages a second in all.
    Rate(u32),
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Load {
    /// How is written.
    pub pace: Pace,
    /// Bytes of a body, at least 16.
    pub body_bytes: usize,
    /// How long before measuring.
    pub warmup: Duration,
    /// How long to measure.
    pub measure: Duration,
}

/// Why a run ends: a request was refused.
pub(super) fn refused(index: DeviceIndex, request: u64, code: impl fmt::Display) -> String {
    format!("device {index}: request {request} was refused: error {code}")
}

/// Why a run ends: a device did not want to go.
pub(crate) fn disconnected(index: DeviceIndex, cause: CloseCause) -> String {
    format!("device {index} lost its connection: {cause}")
}
