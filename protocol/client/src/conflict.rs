//! Lanes that wait until nothing of them is in flight, and then go on with other numbers.

use crate::config::Order;
use crate::event::Event;
use crate::interface::Peer;
use crate::lane::{Hold, Lane, Unanswered};
use crate::record::Change;
use crate::requests::{Pull, PullFrom, PullTarget, Purpose};
use crate::session::{Effect, Session};
use roost_protocol::ids::{ClientMessageId, ConversationId};
use roost_protocol::wire::ErrorCode;

impl Session {
    /// Ends the hold of a lane, when its time has come.
    pub(crate) fn resolve_hold(&mut self, peer: &Peer) {
        let Some(lane) = self.state.lanes.get(peer) else { return };
        if lane.in_flight > 0 {
            return;
        }
        match lane.hold.clone() {
            None => return,
            Some(Hold::Repeat) => {}
            Some(Hold::Gap { expected }) => self.close_gap(peer, expected),
            Some(Hold::Refused) => self.drop_refused(peer),
            Some(Hold::Conflict { expected, head, looked, looking }) => {
                if looking || !self.looked_through(peer, head, looked) {
                    return;
                }
                // What was looked for and not found is stored nowhere.
                self.state.lane(peer).sends.iter_mut().for_each(|send| send.new = true);
                self.renumber(peer, 0, expected);
                self.drop_refused(peer);
            }
        }
        let lane = self.state.lane(peer);
        lane.hold = None;
        for send in &mut lane.sends {
            send.flying = false;
        }
        self.ready.insert(peer.clone());
    }

    /// The server expects a number: repeat from there, or give it to the first send above it.
    fn close_gap(&mut self, peer: &Peer, expected: u64) {
        let lane = self.state.lane(peer);
        let has_it = lane.sends.iter().any(|send| send.number == expected);
        if !has_it {
            lane.solo = true;
            self.renumber(peer, expected, expected);
        }
    }

    /// Writes new numbers down; the sends wait for that record.
    fn renumber(&mut self, peer: &Peer, from: u64, to: u64) {
        self.change(Change::Renumbered { peer: peer.clone(), from, to });
        self.state.changed_by(peer, self.current_record());
    }

    /// Drops what was refused for good; the rest takes its numbers. The person is told when that
    /// is persisted.
    fn drop_refused(&mut self, peer: &Peer) {
        let lane = self.state.lane(peer);
        let Some(lowest) = lane.sends.iter().map(|send| send.number).min() else { return };
        let refused: Vec<Refused> = lane.sends.iter().filter_map(refusal).collect();
        if refused.is_empty() {
            return;
        }
        for Refused { tag, id, code, text } in refused {
            self.change(Change::Answered { peer: peer.clone(), id });
            let lane = self.state.lane(peer);
            lane.confirming = lane.confirming.saturating_add(1);
            self.persist.effects.push(Effect::Confirmed(peer.clone()));
            let client_message_id = ClientMessageId(id);
            self.tell(Event::Refused { tag, client_message_id, code, text });
        }
        self.renumber(peer, 0, lowest);
    }

    /// Whether everything up to `head` was looked through for sends of this lane. If not, the next
    /// page is asked for.
    fn looked_through(&mut self, peer: &Peer, head: u64, looked: u64) -> bool {
        let (target, looked) = match peer {
            Peer::User(user) => (PullTarget::User(user.clone()), looked),
            Peer::Conversation(id) => {
                let entry = self.state.conversations.get(id);
                let reach = entry.map_or(0, |entry| match self.config.order {
                    Order::InOrder => entry.reach(),
                    Order::Newest => entry.held.reach(looked),
                });
                if reach < head && self.config.order == Order::InOrder {
                    // Catching up reads the same pages.
                    return self.timeline.given_up.contains(id) || self.catch_up_to(*id, head);
                }
                (PullTarget::Conversation(*id), reach)
            }
        };
        if looked >= head {
            return true;
        }
        if self.connection.room_for_pull() {
            self.set_looked(peer, looked, true);
            let from = PullFrom::After(looked);
            self.pull(Pull { target, from, purpose: Purpose::Look, wanted: head });
        } else {
            self.timeline.looking.insert(peer.clone());
        }
        false
    }

    /// Has everything up to `head` pulled; not yet there.
    fn catch_up_to(&mut self, id: ConversationId, head: u64) -> bool {
        self.timeline.hint(id, head);
        self.consider(id);
        false
    }

    /// A lane in conflict has looked through everything up to here.
    pub(crate) fn set_looked(&mut self, peer: &Peer, to: u64, more: bool) {
        let lane: &mut Lane = self.state.lane(peer);
        if let Some(Hold::Conflict { looked, looking, .. }) = &mut lane.hold {
            *looked = (*looked).max(to);
            *looking = more;
            self.ready.insert(peer.clone());
        }
    }
}

struct Refused {
    tag: u64,
    id: u64,
    code: ErrorCode,
    text: String,
}

fn refusal(send: &Unanswered) -> Option<Refused> {
    let (code, text) = send.refused.clone()?;
    Some(Refused { tag: send.tag, id: send.id, code, text })
}
