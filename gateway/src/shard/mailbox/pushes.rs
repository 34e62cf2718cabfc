//! The frames of one delivery: encoded once for everybody who gets the same, and handed on once a
//! shard with the list of connections there.

use super::slot::Device;
use crate::ids::{EdgeAddress, EdgeId};
use crate::shard::context::Context;
use crate::shard::message::{Deliver, Fresh, ToEdge};
use bytes::Bytes;
use roost_protocol::encode;
use roost_protocol::ids::{ClientMessageId, DeviceId, UserKey};
use roost_protocol::wire::{self, message::Content, server_frame};

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Pushes<'a> {
    deliver: &'a Deliver,
    /// For most; of several messages that were merged, the news of the head.
    shared: Option<Bytes>,
    /// For the sender's own other devices.
    own: Option<Bytes>,
    /// Who gets the shared frame, by shard; empty for one or two recipients.
    edges: Vec<Vec<EdgeId>>,
    /// Pushes so far.
    count: u64,
}

impl<'a> Pushes<'a> {
    pub(super) fn new(ctx: &Context, deliver: &'a Deliver) -> Self {
        let many = deliver.recipients.as_slice().len() > 2;
        let shards = if many { usize::from(ctx.links.shards()) } else { 0 };
        let shared = deliver.fresh.as_ref().map(|fresh| fresh.frame.clone());
        Self { deliver, shared, own: None, edges: vec![Vec::new(); shards], count: 0 }
    }

    /// Pushes to a recipient's devices.
    pub(super) fn to(&mut self, ctx: &mut Context, user: UserKey, devices: &[Device]) {
        let alike = self.is_alike(user);
        for device in devices {
            let Some(edge) = device.main() else { continue };
            if !alike {
                if let Some(frame) = self.frame(user, device.id, edge) {
                    self.count += 1;
                    ctx.links.tell_edge(edge, ToEdge::Push(frame));
                }
                continue;
            }
            self.count += 1;
            if let Some(edges) = self.edges.get_mut(edge.shard.index()) {
                edges.push(edge.edge);
            } else {
                let frame = self.shared();
                ctx.links.tell_edge(edge, ToEdge::Push(frame));
            }
        }
    }

    /// Whether a recipient gets what most get.
    fn is_alike(&self, user: UserKey) -> bool {
        let fresh = self.deliver.fresh.as_ref();
        fresh.is_none_or(|fresh| user != fresh.sender && fresh.ciphertexts.is_empty())
    }

    /// The frame for one device; none for the connection that sent it.
    pub(super) fn frame(
        &mut self,
        user: UserKey,
        device: DeviceId,
        edge: EdgeAddress,
    ) -> Option<Bytes> {
        let deliver = self.deliver;
        let Some(fresh) = deliver.fresh.as_deref() else { return Some(self.shared()) };
        if user == fresh.sender && edge == fresh.sender_edge {
            return None;
        }
        let id = (user == fresh.sender).then_some(fresh.client_message_id);
        if !fresh.ciphertexts.is_empty() {
            let of_device =
                |(of, to, _): &&(UserKey, DeviceId, Bytes)| (*of, *to) == (user, device);
            let body = fresh.ciphertexts.iter().find(of_device).map(|(_, _, body)| body.clone());
            let content = body.map(|body| {
                let ciphertext = wire::DeviceCiphertext { body, ..Default::default() };
                Content::Ciphertext(ciphertext)
            });
            return Some(copy(fresh, id, content));
        }
        if user != fresh.sender {
            return Some(self.shared());
        }
        let own = || copy(fresh, id, Some(fresh.message.content.clone()));
        Some(self.own.get_or_insert_with(own).clone())
    }

    fn shared(&mut self) -> Bytes {
        self.shared.get_or_insert_with(|| news(self.deliver)).clone()
    }

    /// Hands on what is left.
    pub(super) fn finish(mut self, ctx: &mut Context) {
        ctx.stats.deliveries_total += self.count;
        let edges = std::mem::take(&mut self.edges);
        for (shard, edges) in ctx.links.all().zip(edges) {
            if !edges.is_empty() {
                let frame = self.shared();
                ctx.links.push_to_edges(shard, edges, frame);
            }
        }
    }
}

/// A copy of a message for some devices only. Without content it still has its seq.
fn copy(fresh: &Fresh, id: Option<ClientMessageId>, content: Option<Content>) -> Bytes {
    let message = &fresh.message;
    let message = wire::Message {
        conversation: message.conversation.to_wire(),
        seq: message.seq.0,
        message_id: message.message_id.0,
        uncounted: message.uncounted,
        client_message_id: id.map_or(0, |id| id.0),
        sender: message.sender,
        reply_to: message.reply_to.0,
        content,
    };
    frame(server_frame::Body::Message(message))
}

fn news(deliver: &Deliver) -> Bytes {
    frame(server_frame::Body::News(wire::News {
        conversation: deliver.conversation.to_wire(),
        head: deliver.head.seq.0,
        uncounted: deliver.head.uncounted,
    }))
}

/// A push as it travels.
pub(super) fn frame(body: server_frame::Body) -> Bytes {
    let mut out = Vec::new();
    encode::server(0, body, &mut out);
    out.into()
}
