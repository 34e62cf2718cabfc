//! A bit for each device.

use crate::swarm::DeviceIndex;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// None is set.
    pub(super) fn new(count: u32) -> Self {
        Self(vec![0; count.div_ceil(64) as usize])
    }

    pub(super) fn get(&self, index: DeviceIndex) -> bool {
        self.0[(index / 64) as usize] >> (index % 64) & 1 != 0
    }

    pub(super) fn set(&mut self, index: DeviceIndex, value: bool) {
        let word = &mut self.0[(index / 64) as usize];
        let bit = 1 << (index % 64);
        *word = if value { *word | bit } else { *word & !bit };
    }
}
