//! Devices: who is connected where.

use super::devices::end_signed_out;
use super::slot::{Device, Slot, check_of, seconds};
use super::{Mailboxes, is_known, records};
use crate::ids::EdgeAddress;
use crate::shard::context::{Context, Effect};
use crate::shard::links::Cause;
use crate::shard::message::{ActivityTold, Gone, Register, ToEdge};
use crate::shard::report::Report;
use roost_protocol::error::Refusal;
use roost_protocol::ids::{DeviceId, UserKey};
use roost_protocol::wire::{self, ActivityState, ErrorCode};

/// When somebody is to come back for whom there was no room, about.
const FULL_RETRY_MS: u32 = 10_000;

impl Mailboxes {
    /// A device proved who it is and wants in.
    pub(super) fn register(&mut self, ctx: &mut Context, register: &Register, cause: Cause) {
        if let Err(error) = self.try_register(ctx, register, cause) {
            ctx.stats.hellos_refused_total += 1;
            return ctx.links.tell_edge(register.edge, ToEdge::Refused(Box::new(error)));
        }
        let now_s = seconds(ctx.now.wall);
        let per_hour = ctx.limits.first_contacts_per_hour;
        let Some(mailbox) = self.cells.get_mut(register.user) else { return };
        let slot = &mut mailbox.slot;
        let epoch = slot.devices.get_mut(register.device).map_or(0, |device| device.epoch);
        let first_contacts = match register.role {
            wire::Role::Main => slot.contacts.available(now_s, per_hour),
            wire::Role::Extension => 0,
        };
        let token_issued_ms = register.token_issued_ms;
        let what = ToEdge::Registered { epoch, first_contacts, token_issued_ms };
        // A device that is new is welcomed when its record is durable.
        let end = ctx.log_end();
        ctx.park(end, Effect::ToEdge { edge: register.edge, what }, cause);
        self.presence_changed(ctx, register.user);
    }

    fn try_register(
        &mut self,
        ctx: &mut Context,
        register: &Register,
        cause: Cause,
    ) -> Result<(), wire::Error> {
        let user = register.user;
        let Some(mailbox) = self.cells.get_mut(user) else {
            return Err(super::gone_meanwhile().to_wire());
        };
        if mailbox.slot.is_other(&register.user_id) {
            ctx.reports.push(Report::UserIdCollision);
            let code = ErrorCode::ErrorUserIdCollision;
            return Err(Refusal::new(code, "another user id has this key").to_wire());
        }
        let most = ctx.limits.connections_of_shard(ctx.links.shards());
        if self.sessions >= most && !replaces(&mut mailbox.slot, register) {
            let limit = ctx.limits.connections_max.into();
            ctx.reports.push(Report::ConnectionsFull { limit });
            ctx.stats.refused_full_total += 1;
            let retry_after_ms = ctx.prng.jitter_ms(FULL_RETRY_MS);
            let text = "the server has no room for another connection";
            let full = Refusal { retry_after_ms, ..Refusal::new(ErrorCode::ErrorOverloaded, text) };
            return Err(full.to_wire());
        }
        if mailbox.slot.devices.place_of(register.device).is_none() {
            self.add_device(ctx, register, cause)?;
        }
        let Some(mailbox) = self.cells.get_mut(user) else {
            return Err(super::gone_meanwhile().to_wire());
        };
        let slot = &mut mailbox.slot;
        check_connection(ctx, slot, register)?;
        if !is_known(slot, register) {
            let body = records::encode_called(register.device, &register.client);
            self.commit(ctx, user, records::KIND_CLIENT, &body.bytes)
                .map_err(|refusal| refusal.to_wire())?;
        }
        let Some(mailbox) = self.cells.get_mut(user) else { return Ok(()) };
        let was_present = mailbox.slot.is_present();
        self.sessions += connect(ctx, &mut mailbox.slot, register);
        note_absence(ctx, &mut mailbox.slot, was_present);
        Ok(())
    }

    /// A device that is not registered: only a token brings it, and a newer one if it was signed
    /// out.
    fn add_device(
        &mut self,
        ctx: &mut Context,
        register: &Register,
        cause: Cause,
    ) -> Result<(), wire::Error> {
        let user = register.user;
        let signed_out = |text| Refusal::new(ErrorCode::ErrorSignedOut, text).to_wire();
        if register.ticket_epoch.is_some() {
            return Err(signed_out("this device is not registered"));
        }
        let now_ms = ctx.now.wall.ms;
        let Some((slot, entries)) = self.cells.active(user) else {
            return Err(super::gone_meanwhile().to_wire());
        };
        let tombstones = &entries.profile.tombstones;
        let known = tombstones.iter().find(|tombstone| tombstone.device == register.device);
        let remembered =
            known.is_some_and(|known| now_ms < known.at_ms.saturating_add(self.token_life_ms));
        if remembered && known.is_some_and(|known| register.token_issued_ms <= known.at_ms) {
            return Err(signed_out("this device was signed out after the token was issued"));
        }
        let epoch = known.map_or(0, |known| known.epoch.saturating_add(1));
        let to_wire = |refusal: Refusal| refusal.to_wire();
        self.versions.check_room(ctx).map_err(to_wire)?;
        if slot.devices.as_slice().len() >= ctx.limits.devices_max as usize {
            let place = slot.longest_unused();
            let gone = slot.devices.as_slice()[place].id;
            let mut ended = Vec::new();
            self.sign_out_device(ctx, user, gone, &mut ended).map_err(to_wire)?;
            end_signed_out(ctx, ended, cause);
        }
        let (id, client) = (register.device, register.client.as_str());
        let body = records::encode_device(&register.user_id, id, epoch, now_ms, client);
        let appended =
            self.commit(ctx, user, records::KIND_DEVICE, &body.bytes).map_err(to_wire)?;
        self.version_changed(ctx, user, appended, None, cause);
        Ok(())
    }

    /// A connection ended; it may have been replaced since.
    pub(super) fn gone(&mut self, ctx: &mut Context, gone: &Gone) {
        let now_s = seconds(ctx.now.wall);
        let Some(mailbox) = self.cells.get_mut(gone.user) else { return };
        let slot = &mut mailbox.slot;
        let Some(place) = slot.devices.place_of(gone.device) else { return };
        let was_present = slot.is_present();
        let device = &mut slot.devices.as_mut_slice()[place];
        if device.main() == Some(gone.edge) {
            device.set_main(None);
            device.foreground = false;
        } else if device.extension.as_deref() == Some(&gone.edge) {
            device.extension = None;
        } else {
            return;
        }
        self.sessions -= 1;
        device.last_seen_s = now_s;
        slot.note_use(place);
        note_absence(ctx, slot, was_present);
        tell_sharers(ctx, slot);
        self.presence_changed(ctx, gone.user);
    }

    /// An app came to the front, or went away.
    pub(super) fn activity(&mut self, ctx: &Context, told: ActivityTold) {
        let Some(mailbox) = self.cells.get_mut(told.user) else { return };
        let slot = &mut mailbox.slot;
        let was_present = slot.is_present();
        let Some(device) = slot.devices.get_mut(told.device) else { return };
        // An extension is never in front of a person, and what is said by a connection that was
        // replaced is of the past.
        if device.main() != Some(told.edge) {
            return;
        }
        device.foreground = told.state == ActivityState::ActivityForeground;
        note_absence(ctx, slot, was_present);
        self.presence_changed(ctx, told.user);
    }

    /// Whether a connection is its device's present one.
    pub(super) fn is_here(&self, user: UserKey, device: DeviceId, edge: EdgeAddress) -> bool {
        let Some(mailbox) = self.cells.get(user) else { return false };
        let mut of_device = mailbox.slot.devices.as_slice().iter().filter(|d| d.id == device);
        of_device.any(|known| known.edges().any(|known| known == edge))
    }

    /// The connections of a user's apps, but for one.
    pub(super) fn main_edges(&self, user: UserKey, but: Option<EdgeAddress>) -> Vec<EdgeAddress> {
        let Some(mailbox) = self.cells.get(user) else { return Vec::new() };
        let edges = mailbox.slot.devices.as_slice().iter().filter_map(Device::main);
        edges.filter(|edge| Some(*edge) != but).collect()
    }
}

/// Whether a connection of this device, of the same role, is there.
fn replaces(slot: &mut Slot, register: &Register) -> bool {
    slot.devices.get_mut(register.device).is_some_and(|device| match register.role {
        wire::Role::Main => device.main().is_some(),
        wire::Role::Extension => device.extension.is_some(),
    })
}

/// Refuses tickets of before a sign-out, and connections older than one that was here.
fn check_connection(
    ctx: &mut Context,
    slot: &mut Slot,
    register: &Register,
) -> Result<(), wire::Error> {
    let Some(device) = slot.devices.get_mut(register.device) else { return Ok(()) };
    if register.ticket_epoch.is_some_and(|epoch| epoch != device.epoch) {
        let code = ErrorCode::ErrorTicketInvalid;
        return Err(Refusal::new(code, "the ticket is of before a sign-out").to_wire());
    }
    if register.connection <= device.connection {
        ctx.stats.superseded_total += 1;
        let code = ErrorCode::ErrorConnectionSuperseded;
        let mut error = Refusal::new(code, "a newer connection of this device was here").to_wire();
        error.expected_connection_number = device.connection.0.saturating_add(1);
        return Err(error);
    }
    Ok(())
}

/// Notes where a device is now. Its earlier connection of the same role ends. Gives how many
/// connections there are more.
fn connect(ctx: &mut Context, slot: &mut Slot, register: &Register) -> u32 {
    let Some(place) = slot.devices.place_of(register.device) else { return 0 };
    let now_s = seconds(ctx.now.wall);
    let device = &mut slot.devices.as_mut_slice()[place];
    device.connection = register.connection;
    device.last_seen_s = now_s;
    device.client_check = check_of(&register.client);
    let earlier = match register.role {
        wire::Role::Main => {
            device.foreground = register.activity == ActivityState::ActivityForeground;
            device.set_main(Some(register.edge))
        }
        wire::Role::Extension => {
            device.extension.replace(Box::new(register.edge)).map(|edge| *edge)
        }
    };
    slot.note_use(place);
    if slot.edges().nth(1).is_some() {
        tell_sharers(ctx, slot);
    }
    if let Some(earlier) = earlier {
        ctx.stats.replaced_total += 1;
        let code = ErrorCode::ErrorReplaced;
        let replaced = Refusal::new(code, "this device connected again").to_wire();
        ctx.links.tell_edge(earlier, ToEdge::Refused(Box::new(replaced)));
    }
    u32::from(earlier.is_none())
}

/// Tells the connections that are left, or all when one came, how many share what the user may.
pub(super) fn tell_sharers(ctx: &mut Context, slot: &Slot) {
    let sharers = u8::try_from(slot.edges().count()).unwrap_or(u8::MAX);
    for edge in slot.edges() {
        ctx.links.tell_edge(edge, ToEdge::Sharers(sharers));
    }
}

/// The last app in front of the person may have gone.
pub(super) fn note_absence(ctx: &Context, slot: &mut Slot, was_present: bool) {
    if was_present && !slot.is_present() {
        slot.present_until_s = seconds(ctx.now.wall);
        slot.soft_changed = true;
    }
}
