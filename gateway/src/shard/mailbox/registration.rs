//! Devices: who is connected where.

use super::{Body, Device, Mailboxes, append, records};
use crate::shard::context::{Context, Effect};
use crate::shard::links::Cause;
use crate::shard::message::{Gone, Register, ToEdge};
use crate::shard::report::Report;
use roost_protocol::error::{self, Refusal};
use roost_protocol::ids::DeviceId;
use roost_protocol::wire::{self, ErrorCode};

impl Mailboxes {
    /// A device proved who it is and wants in.
    pub(super) fn register(&mut self, ctx: &mut Context, register: &Register, cause: Cause) {
        if let Err(error) = self.try_register(ctx, register) {
            ctx.stats.hellos_refused_total += 1;
            return ctx.links.tell_edge(register.edge, ToEdge::Refused(Box::new(error)));
        }
        let slot = self.cells.get(&register.user).map(|mailbox| &mailbox.slot);
        let device = slot.and_then(|slot| slot.devices.iter().find(|d| d.id == register.device));
        let epoch = device.map_or(0, |device| device.epoch);
        let what = ToEdge::Registered { epoch };
        // A device that is new is welcomed when its record is durable.
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: register.edge, what }, cause);
    }

    fn try_register(&mut self, ctx: &mut Context, register: &Register) -> Result<(), wire::Error> {
        let mailbox = self.cells.get_mut(&register.user).expect("registered after loading");
        let slot = &mut mailbox.slot;
        match &slot.user_id {
            Some(known) if *known != register.user_id => {
                ctx.reports.push(Report::UserIdCollision);
                let code = ErrorCode::ErrorUserIdCollision;
                return Err(Refusal::new(code, "another user id has this key").to_wire());
            }
            Some(_) => {}
            None => slot.user_id = Some(register.user_id.clone()),
        }
        let known = slot.devices.iter().position(|device| device.id == register.device);
        let known = match known {
            Some(place) => place,
            None if register.ticket_epoch.is_some() => {
                let code = ErrorCode::ErrorSignedOut;
                return Err(Refusal::new(code, "this device is not registered").to_wire());
            }
            None => {
                if slot.devices.len() >= ctx.limits.devices_max as usize {
                    sign_out_longest_unused(ctx, slot, register)?;
                }
                let body = records::encode_device(&register.user_id, register.device, 0);
                append(ctx, slot, register.user, records::KIND_DEVICE, &body.bytes)
                    .map_err(|refusal| refusal.to_wire())?;
                if let Body::Active(entries) = &mut mailbox.body {
                    entries.snapshot_number = 0;
                }
                // Most users have one device, and a vector's first growth would make room for four.
                slot.devices.reserve_exact(1);
                slot.devices.push(Device::new(register.device));
                slot.devices.len() - 1
            }
        };
        let device = &mut slot.devices[known];
        if register.ticket_epoch.is_some_and(|epoch| epoch != device.epoch) {
            let code = ErrorCode::ErrorTicketInvalid;
            return Err(Refusal::new(code, "the ticket is of before a sign-out").to_wire());
        }
        if register.connection <= device.connection {
            ctx.stats.superseded_total += 1;
            let code = ErrorCode::ErrorConnectionSuperseded;
            let mut error =
                Refusal::new(code, "a newer connection of this device was here").to_wire();
            error.expected_connection_number = device.connection.0 + 1;
            return Err(error);
        }
        device.connection = register.connection;
        slot.connections_changed = true;
        let place = match register.role {
            wire::Role::Main => &mut device.main,
            wire::Role::Extension => &mut device.extension,
        };
        if let Some(earlier) = place.replace(register.edge) {
            ctx.stats.replaced_total += 1;
            ctx.links.tell_edge(earlier, ToEdge::Refused(Box::new(replaced())));
        }
        slot.note_use(known);
        Ok(())
    }

    /// A connection ended; it may have been replaced since.
    pub(super) fn gone(&mut self, gone: &Gone) {
        let Some(mailbox) = self.cells.get_mut(&gone.user) else { return };
        let slot = &mut mailbox.slot;
        let Some(known) = slot.devices.iter().position(|device| device.id == gone.device) else {
            return;
        };
        let device = &mut slot.devices[known];
        let places = [&mut device.main, &mut device.extension];
        let Some(place) = places.into_iter().find(|place| **place == Some(gone.edge)) else {
            return;
        };
        *place = None;
        slot.note_use(known);
    }
}

fn replaced() -> wire::Error {
    Refusal::new(ErrorCode::ErrorReplaced, "this device connected again").to_wire()
}

/// Makes room for an eleventh device.
fn sign_out_longest_unused(
    ctx: &mut Context,
    slot: &mut super::Slot,
    register: &Register,
) -> Result<(), wire::Error> {
    let place = slot.longest_unused();
    let gone: DeviceId = slot.devices[place].id;
    append(ctx, slot, register.user, records::KIND_DEVICE_GONE, &gone.0)
        .map_err(|refusal| refusal.to_wire())?;
    let device = slot.devices.remove(place);
    for edge in [device.main, device.extension].into_iter().flatten() {
        let code = ErrorCode::ErrorSignedOut;
        let error = Refusal::new(code, "signed out: the user has too many devices").to_wire();
        debug_assert!(error.class == i32::from(error::class(code)));
        ctx.links.tell_edge(edge, ToEdge::Refused(Box::new(error)));
    }
    Ok(())
}
