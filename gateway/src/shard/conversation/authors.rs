//! Who wrote the newest records, and of which kind they are: enough to say whether a record may be
//! edited or deleted, without a read. Older ones are looked up in the store.

use super::members::MemberNumber;
use roost_protocol::ids::Sequence;
use std::collections::VecDeque;

/// Records whose authors an active conversation remembers.
pub(crate) const AUTHORS_MAX: usize = 256;

/// What may be done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing: it says something about the group, or about another record.
    Fixed,
    /// A message that everybody reads.
    Open,
    /// A message in ciphertexts: it can be deleted, but only its author's devices could write it
    /// anew.
    Sealed,
}

/// Who wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) member: MemberNumber,
    pub(crate) class: Class,
}

impl Author {
    const fn pack(self) -> u16 {
        (self.member.0 << 2) | self.class as u16
    }

    const fn unpack(packed: u16) -> Self {
        let class = match packed & 3 {
            0 => Class::Fixed,
            1 => Class::Open,
            _ => Class::Sealed,
        };
        Self { member: MemberNumber(packed >> 2), class }
    }
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct Authors {
    /// Of the records up to the head, oldest first.
    newest: VecDeque<u16>,
}

impl Authors {
    /// The next record is of this author.
    pub(crate) fn push(&mut self, author: Author) {
        if self.newest.len() == AUTHORS_MAX {
            self.newest.pop_front();
        }
        self.newest.push_back(author.pack());
    }

    /// Who wrote a record, in a conversation with this head, if it is known.
    pub(crate) fn get(&self, seq: Sequence, head: Sequence) -> Option<Author> {
        let before_head = usize::try_from(head.0.checked_sub(seq.0)?).ok()?;
        let place = self.newest.len().checked_sub(before_head + 1)?;
        self.newest.get(place).copied().map(Author::unpack)
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.newest.capacity() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_256_are_known() {
        let mut authors = Authors::default();
        let author = |n: u64| {
            let class = [Class::Fixed, Class::Open, Class::Sealed][usize::try_from(n % 3).unwrap()];
            Author { member: MemberNumber(u16::try_from(n * 20 % 8192).unwrap()), class }
        };
        for n in 1..=1_000 {
            authors.push(author(n));
        }
        let head = Sequence(1_000);
        assert_eq!(authors.get(Sequence(1_000), head), Some(author(1_000)));
        assert_eq!(authors.get(Sequence(745), head), Some(author(745)));
        assert_eq!(authors.get(Sequence(744), head), None);
        assert_eq!(authors.get(Sequence(1_001), head), None);
        assert_eq!(authors.get(Sequence(0), head), None);
    }
}
