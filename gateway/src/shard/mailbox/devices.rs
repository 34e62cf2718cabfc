//! The user's devices: listed, renamed, signed out; shown to those who encrypt for them.

use super::registration::{note_absence, tell_sharers};
use super::{Answer, Asker, Committed, Mailboxes, pushes, records};
use crate::ids::EdgeAddress;
use crate::shard::context::{Context, Effect};
use crate::shard::links::Cause;
use crate::shard::message::{DevicesAsked, Part, ToEdge};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{DeviceId, UserKey};
use roost_protocol::request::SignOut;
use roost_protocol::wire::{self, ErrorCode, server_frame};

impl Mailboxes {
    pub(super) fn list_devices(&self, ctx: &Context, asker: Asker) -> Answer {
        let now_ms = ctx.now.wall.ms;
        let mut list = wire::DeviceList::default();
        if let Some(mailbox) = self.cells.get(asker.user) {
            list.version = mailbox.slot.version.into();
            let details = mailbox.entries().map(|entries| &entries.profile);
            for device in mailbox.slot.devices.as_slice() {
                let detail = details.and_then(|profile| profile.detail(device.id));
                let connected = device.is_connected();
                let seen_ms = u64::from(device.last_seen_s) * 1000;
                list.devices.push(wire::Device {
                    device: device.id.0.to_vec().into(),
                    name: detail.map(|detail| detail.name.clone()).unwrap_or_default(),
                    client: detail.map(|detail| detail.client.clone()).unwrap_or_default(),
                    registered_ms: detail.map_or(0, |detail| detail.registered_ms),
                    last_seen_ms: if connected { now_ms } else { seen_ms },
                    cursor: detail.map_or(0, |detail| detail.cursor),
                    connected,
                });
            }
        }
        Answer::Now(server_frame::Body::DeviceList(list))
    }

    pub(super) fn rename_device(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        device: DeviceId,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let Some((_, entries)) = self.cells.active(asker.user) else {
            return Err(super::gone_meanwhile());
        };
        let known = entries.profile.detail(device).ok_or(unknown_device())?;
        if known.name != name {
            let body = records::encode_called(device, name);
            self.commit(ctx, asker.user, records::KIND_NAME, &body.bytes)?;
            self.push_devices(ctx, asker.user, Some(asker.edge), asker.cause);
        }
        Ok(Answer::DONE)
    }

    pub(super) fn sign_out(
        &mut self,
        ctx: &mut Context,
        asker: Asker,
        own: DeviceId,
        which: SignOut,
    ) -> Result<Answer, Refusal> {
        let Some((slot, _)) = self.cells.active(asker.user) else {
            return Err(super::gone_meanwhile());
        };
        let mut devices = slot.devices.as_slice().iter().map(|device| device.id);
        let gone: Vec<DeviceId> = match which {
            SignOut::Device(device) if devices.any(|known| known == device) => vec![device],
            SignOut::Device(_) => return Err(unknown_device()),
            SignOut::AllOthers => devices.filter(|device| *device != own).collect(),
        };
        self.versions.check_room(ctx)?;
        let (mut ended, mut outcome) = (Vec::new(), Ok(None));
        for device in gone {
            outcome = self.sign_out_device(ctx, asker.user, device, &mut ended).map(Some);
            if outcome.is_err() {
                break;
            }
        }
        match &outcome {
            Ok(Some(last)) => {
                self.version_changed(ctx, asker.user, *last, Some(asker.edge), asker.cause);
            }
            Ok(None) => {}
            Err(refusal) => ctx.refuse(asker.edge, asker.request, refusal),
        }
        // A device that signs itself out has its answer before it is told to go.
        if outcome.is_ok() {
            asker.answer(ctx, server_frame::Body::Done(wire::Done {}));
        }
        end_signed_out(ctx, ended, asker.cause);
        self.presence_changed(ctx, asker.user);
        Ok(Answer::Later)
    }

    /// Signs a device out. Adds its connections to those that are to end.
    pub(super) fn sign_out_device(
        &mut self,
        ctx: &mut Context,
        user: UserKey,
        device: DeviceId,
        ended: &mut Vec<EdgeAddress>,
    ) -> Result<Committed, Refusal> {
        let Some((slot, _)) = self.cells.active(user) else { return Err(super::gone_meanwhile()) };
        let known = slot.devices.get_mut(device).ok_or(unknown_device())?;
        let (epoch, edges) = (known.epoch, known.edges().collect::<Vec<EdgeAddress>>());
        let was_present = slot.is_present();
        let body = records::encode_signed_out(device, epoch, ctx.now.wall.ms);
        let appended = self.commit(ctx, user, records::KIND_SIGNED_OUT, &body.bytes)?;
        if let Some((slot, _)) = self.cells.active(user) {
            note_absence(ctx, slot, was_present);
            if !edges.is_empty() {
                tell_sharers(ctx, slot);
            }
        }
        self.sessions -= u32::try_from(edges.len()).expect("a device has two connections at most");
        ended.extend(edges);
        Ok(appended)
    }

    /// Tells the user's other connected devices that the list changed.
    pub(super) fn push_devices(
        &self,
        ctx: &mut Context,
        user: UserKey,
        but: Option<EdgeAddress>,
        cause: Cause,
    ) {
        let edges = self.main_edges(user, but);
        let Some(mailbox) = self.cells.get(user).filter(|_| !edges.is_empty()) else { return };
        let version = mailbox.slot.version.into();
        let changed = wire::DevicesChanged { version };
        let frame = pushes::frame(server_frame::Body::DevicesChanged(changed));
        let end = ctx.log_end();
        for edge in edges {
            let what = ToEdge::Push(frame.clone());
            ctx.park(end, Effect::ToEdge { edge, what }, cause);
        }
    }

    /// Somebody who may wants the list, to encrypt for it.
    pub(super) fn devices_asked(&self, ctx: &mut Context, asked: &DevicesAsked, cause: Cause) {
        let mut set =
            wire::DeviceSet { user: asked.about.1.as_str().to_owned(), ..Default::default() };
        if let Some(mailbox) = self.cells.get(asked.about.0) {
            set.version = mailbox.slot.version.into();
            let devices = mailbox.slot.devices.as_slice().iter();
            set.devices = devices.map(|device| device.id.0.to_vec().into()).collect();
        }
        let what = ToEdge::Part { request: asked.request, part: Box::new(Part::Devices(set)) };
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: asked.edge, what }, cause);
    }
}

/// Ends the connections of devices that were signed out, when that is durable.
pub(super) fn end_signed_out(ctx: &mut Context, edges: Vec<EdgeAddress>, cause: Cause) {
    let end = ctx.log_end();
    for edge in edges {
        let refusal = Refusal::new(ErrorCode::ErrorSignedOut, "this device was signed out");
        let what = ToEdge::Refused(Box::new(refusal.to_wire()));
        ctx.park(end, Effect::ToEdge { edge, what }, cause);
    }
}

const fn unknown_device() -> Refusal {
    Refusal::new(ErrorCode::ErrorNotFound, "this user has no such device")
}
