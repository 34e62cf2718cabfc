//! Answers that several actors give in parts: the connection waits for all of them.

use crate::ids::EdgeId;
use crate::shard::message::Part;
use roost_protocol::wire::{self, server_frame};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What is being gathered. A connection has at most as many as requests in flight, of at most 100
/// parts each.
#[derive(Debug, Default)]
pub(crate) struct Gatherings {
    by_request: BTreeMap<(EdgeId, u32), Gathering>,
}

#[derive(Debug)]
struct Gathering {
    parts_left: u32,
    presences: Vec<wire::Presence>,
    devices: Vec<wire::DeviceSet>,
    refused: Option<Box<wire::Error>>,
}

impl Gatherings {
    /// A request is to be asked of so many actors, at least one. False: the connection waits for
    /// such an answer with this id already, and the parts of two could not be told apart.
    #[must_use]
    pub(crate) fn begin(&mut self, id: EdgeId, request: u32, parts: usize) -> bool {
        let Entry::Vacant(place) = self.by_request.entry((id, request)) else { return false };
        let gathering = Gathering {
            parts_left: u32::try_from(parts).unwrap_or(u32::MAX),
            presences: Vec::new(),
            devices: Vec::new(),
            refused: None,
        };
        place.insert(gathering);
        true
    }

    /// Takes a part; with the last one, the answer.
    pub(crate) fn take(
        &mut self,
        id: EdgeId,
        request: u32,
        part: Part,
    ) -> Option<server_frame::Body> {
        let gathering = self.by_request.get_mut(&(id, request))?;
        match part {
            Part::Presence(presence) => gathering.presences.push(presence),
            Part::Devices(set) => gathering.devices.push(set),
            Part::Refused(error) => gathering.refused = Some(error),
        }
        gathering.parts_left -= 1;
        if gathering.parts_left > 0 {
            return None;
        }
        self.by_request.remove(&(id, request)).map(Gathering::answer)
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, id: EdgeId) {
        let requests: Vec<(EdgeId, u32)> =
            self.by_request.range((id, 0)..=(id, u32::MAX)).map(|(key, _)| *key).collect();
        for key in requests {
            self.by_request.remove(&key);
        }
    }
}

impl Gathering {
    fn answer(self) -> server_frame::Body {
        if let Some(error) = self.refused {
            return server_frame::Body::Error(*error);
        }
        if self.devices.is_empty() {
            let presences = self.presences;
            return server_frame::Body::PresenceReply(wire::PresenceReply { presences });
        }
        server_frame::Body::UserDevices(wire::UserDevices { users: self.devices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: EdgeId = EdgeId { slot: 1, generation: 1 };

    fn presence(user: &str) -> Part {
        Part::Presence(wire::Presence { user: user.to_owned(), ..wire::Presence::default() })
    }

    #[test]
    fn the_last_part_brings_the_answer() {
        let mut gatherings = Gatherings::default();
        assert!(gatherings.begin(EDGE, 7, 2));
        assert_eq!(gatherings.take(EDGE, 7, presence("ann")), None);
        let Some(server_frame::Body::PresenceReply(reply)) =
            gatherings.take(EDGE, 7, presence("bob"))
        else {
            panic!("a reply")
        };
        assert_eq!(reply.presences.len(), 2);
        // What comes later is for nobody.
        assert_eq!(gatherings.take(EDGE, 7, presence("eve")), None);
    }

    #[test]
    fn one_refusal_refuses_all_and_a_connection_that_is_gone_waits_for_nothing() {
        let mut gatherings = Gatherings::default();
        assert!(gatherings.begin(EDGE, 7, 2));
        let error = Box::new(wire::Error { text: "no".to_owned(), ..wire::Error::default() });
        assert_eq!(gatherings.take(EDGE, 7, Part::Refused(error)), None);
        let answer = gatherings.take(EDGE, 7, presence("bob"));
        assert!(matches!(answer, Some(server_frame::Body::Error(_))));
        assert!(gatherings.begin(EDGE, 8, 1));
        gatherings.forget(EDGE);
        assert_eq!(gatherings.take(EDGE, 8, presence("ann")), None);
    }

    #[test]
    fn an_id_in_use_begins_nothing() {
        let mut gatherings = Gatherings::default();
        assert!(gatherings.begin(EDGE, 7, 2));
        assert_eq!(gatherings.take(EDGE, 7, presence("ann")), None);
        assert!(!gatherings.begin(EDGE, 7, 1));
        let other = EdgeId { generation: 2, ..EDGE };
        assert!(gatherings.begin(other, 7, 1), "of another connection");
        let answer = gatherings.take(EDGE, 7, presence("bob"));
        assert!(matches!(answer, Some(server_frame::Body::PresenceReply(reply))
            if reply.presences.len() == 2));
        assert!(gatherings.begin(EDGE, 7, 1), "answered: the id is free again");
    }
}
