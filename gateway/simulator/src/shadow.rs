//! What must come true, predicted: what people said and read, and what their devices were told
//! became of it.

use bytes::Bytes;
use roost_protocol::ids::ConversationId;
use std::collections::BTreeMap;

/// One thing that somebody said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) device: usize,
    pub(crate) user: usize,
    pub(crate) peer: usize,
    pub(crate) body: Bytes,
    /// Where a device was told that it is.
    pub(crate) accepted: Option<(ConversationId, u64)>,
    pub(crate) refused: bool,
    /// The life of the app it was said in.
    pub(crate) life: u32,
}

impl Said {
    /// What was said, without the tag.
    pub(crate) fn text(&self) -> &str {
        let text = std::str::from_utf8(&self.body).unwrap_or_default();
        text.split_once(':').map_or(text, |(_, text)| text)
    }
}

/// See the module's comment. What was said is named by its place, the tag.
#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) said: Vec<Said>,
    /// The furthest a person read: by (user, conversation).
    pub(crate) read: BTreeMap<(usize, ConversationId), u64>,
    /// The same of what no dying app can have forgotten: by (device, conversation).
    pub(crate) read_kept: BTreeMap<(usize, ConversationId), u64>,
}

impl Shadow {
    pub(crate) fn say(&mut self, said: Said) -> u64 {
        self.said.push(said);
        u64::try_from(self.said.len() - 1).unwrap_or(u64::MAX)
    }

    pub(crate) fn find(&self, tag: u64) -> Option<&Said> {
        self.said.get(usize::try_from(tag).ok()?)
    }

    pub(crate) fn find_mut(&mut self, tag: u64) -> Option<&mut Said> {
        self.said.get_mut(usize::try_from(tag).ok()?)
    }

    /// The tag that a body begins with.
    pub(crate) fn tag_of(body: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(body).ok()?;
        text.split_once(':')?.0.parse().ok()
    }
}
