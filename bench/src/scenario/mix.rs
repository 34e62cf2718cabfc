//! A day's mix as a file says it.

use super::rooms::Weights;
use crate::swarm::DeviceIndex;
use crate::target::Layout;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What is done when no file says otherwise.
pub const DEFAULT: &str = include_str!("../../scenarios/mixed.toml");
/// Rooms that one device may be in: request ids have that much room for them.
const ROOMS_MAX: u32 = 4_000;
/// Members of a group.
const GROUP_MAX: u32 = 1_024;

/// What devices have and do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixFile {
    /// Direct conversations of each user.
    pub direct: u32,
    /// A device that leaves comes back after so long.
    pub away_seconds: u32,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<Groups>,
    /// How often devices do what.
    pub weights: Weights,
}

/// Groups of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// Members of each.
    pub size: u32,
    /// How many of them each user is in.
    pub of_each_user: u32,
    /// Members who write.
    pub writers: u32,
}

impl MixFile {
    /// The file, or the default.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be.
    pub fn of(path: Option<&Path>) -> Result<Self, MixError> {
        let text = match path {
            None => DEFAULT.to_owned(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| MixError::Read { path: path.to_owned(), source })?,
        };
        let mix: Self = toml::from_str(&text).map_err(MixError::Toml)?;
        let of = mix.weights;
        let weights = [of.direct, of.group, of.typing, of.read, of.presence, of.history, of.leave];
        let rooms = mix.groups.iter().map(|groups| u64::from(groups.of_each_user)).sum::<u64>();
        if weights.iter().all(|weight| *weight == 0) {
            return Err(MixError::Says("all weights are 0"));
        }
        if mix.groups.iter().any(|of| of.size < 2 || of.size > GROUP_MAX) {
            return Err(MixError::Says("a group has 2 to 1024 members"));
        }
        if mix.groups.iter().any(|of| of.writers == 0 || of.writers > of.size) {
            return Err(MixError::Says("at least one member of a group writes, at most all"));
        }
        if rooms + u64::from(mix.direct) > u64::from(ROOMS_MAX)
            || rooms + u64::from(mix.direct) == 0
        {
            return Err(MixError::Says("a user is in 1 to 4000 conversations"));
        }
        Ok(mix)
    }

    /// Everybody has direct conversations with their neighbours; each layer of groups divides all
    /// users anew.
    #[must_use]
    pub fn layout(&self, devices: u32) -> Layout {
        let mut rooms: Vec<(Vec<DeviceIndex>, u32, bool)> = Vec::new();
        let reach = self.direct.div_ceil(2).min(devices.saturating_sub(1) / 2);
        for device in 0..devices {
            for step in 1..=reach {
                rooms.push((vec![device, (device + step) % devices], 2, true));
            }
        }
        for groups in &self.groups {
            for layer in 0..groups.of_each_user {
                let shift = layer * groups.size / groups.of_each_user;
                let mut first = 0;
                while first < devices {
                    let last = devices.min(first + groups.size);
                    let members: Vec<DeviceIndex> =
                        (first..last).map(|at| (shift + at) % devices).collect();
                    let writers = groups.writers.min(last - first);
                    if members.len() > 1 {
                        rooms.push((members, writers, false));
                    }
                    first = last;
                }
            }
        }
        Layout::new(devices, rooms)
    }
}

/// Why there is no mix.
#[derive(Debug)]
pub enum MixError {
    /// The file cannot be read.
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not as it should be.
    Toml(toml::de::Error),
    /// It says what cannot be.
    Says(&'static str),
}

impl fmt::Display for MixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Toml(error) => write!(f, "the file of --mix: {error}"),
            Self::Says(rule) => write!(f, "the file of --mix: {rule}"),
        }
    }
}

impl std::error::Error for MixError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Toml(error) => Some(error),
            Self::Says(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_everybody_has_what_it_says() {
        let mix = MixFile::of(None).unwrap();
        let layout = mix.layout(100);
        for device in 0..100 {
            let rooms = layout.seats_of(device).len();
            assert_eq!(rooms, 4 + 1 + 1, "device {device}");
        }
        assert!(layout.rooms().iter().any(|room| room.seats == 50 && room.writers == 4));
    }

    #[test]
    fn few_devices_have_fewer_conversations_and_none_with_themselves() {
        let layout = MixFile::of(None).unwrap().layout(3);
        for room in layout.rooms() {
            let members: std::collections::BTreeSet<_> =
                (room.first..room.first + room.seats).map(|at| layout.seat(at).device).collect();
            assert_eq!(u32::try_from(members.len()), Ok(room.seats));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |from: &str, to: &str| {
            let path =
                std::env::temp_dir().join(format!("mix-{}-{}", std::process::id(), to.len()));
            std::fs::write(&path, DEFAULT.replace(from, to)).unwrap();
            let error = MixFile::of(Some(&path)).unwrap_err().to_string();
            std::fs::remove_file(&path).unwrap();
            error
        };
        assert!(refused("size = 50", "size = 5000").contains("1024"));
        assert!(refused("writers = 4", "writers = 0").contains("writes"));
        assert!(refused("typing = 100", "yodelling = 1").contains("yodelling"));
        assert!(MixFile::of(Some(Path::new("/no/such/file"))).is_err());
    }
}
