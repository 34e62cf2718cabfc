//! Requests beside messages, sync and history: who is asked, and notices that are only hints.

use super::Edges;
use super::requests::Asker;
use crate::shard::context::Context;
use crate::shard::links::Owed;
use crate::shard::message::{
    ConversationAsk, ConversationRequest, Create, Hint as ToActors, MailboxAsk, MailboxRequest,
    PresenceLook, RequestTag, ToConversation, ToOwnMailbox, Watch,
};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{ConversationId, KeyKind, UserId, UserKey};
use roost_protocol::request::{Ask, CreateGroup, Hint, PresenceOf};
use roost_protocol::wire::ErrorCode;

impl Edges {
    /// Asks whoever decides.
    pub(super) fn ask(&mut self, ctx: &mut Context, asker: Asker, request_id: u32, ask: Ask) {
        let plain = RequestTag { id: request_id, ..RequestTag::default() };
        match ask {
            Ask::CreateGroup(group) => self.create(ctx, asker, plain, group),
            Ask::Describe(id) => {
                ask_conversation(ctx, asker, plain, id, ConversationRequest::Describe);
            }
            Ask::ListMembers { conversation, after_member, limit } => {
                let limit = u32::try_from(limit).unwrap_or(u32::MAX);
                let what = ConversationRequest::ListMembers { after_member, limit };
                let tag = self.expect_page(asker, request_id);
                ask_conversation(ctx, asker, tag, conversation, what);
            }
            Ask::ReceiptDetails { conversation, seq, after_member } => {
                let what = ConversationRequest::ReceiptDetails { seq, after_member };
                let tag = self.expect_page(asker, request_id);
                ask_conversation(ctx, asker, tag, conversation, what);
            }
            Ask::QueryPresence(of) => {
                if self.gather(ctx, asker, request_id, of.users.len()) {
                    self.look(ctx, asker, plain, of, Watch::Once);
                }
            }
            Ask::ListUserDevices { users, conversation } => {
                if !self.gather(ctx, asker, request_id, users.len()) {
                    return;
                }
                for user in users {
                    let about = (user.key(&self.config.tenant), user);
                    let what = ConversationRequest::UserDevices { about };
                    ask_conversation(ctx, asker, plain, conversation, what);
                }
            }
            own @ (Ask::ListDevices
            | Ask::RenameDevice { .. }
            | Ask::SignOut(_)
            | Ask::SetPrivacy(_)
            | Ask::Block { .. }
            | Ask::ListBlocks { .. }
            | Ask::ListConversations { .. }
            | Ask::SetConversation { .. }
            | Ask::DeleteForMe { .. }
            | Ask::AcceptRequest(_)
            | Ask::JoinChannel { .. }) => self.ask_mailbox(ctx, asker, request_id, own),
        }
    }

    /// Waits for an answer in so many parts; one whose id is in use is refused.
    fn gather(&mut self, ctx: &mut Context, asker: Asker, request_id: u32, parts: usize) -> bool {
        let id = asker.address.edge;
        let begun = self.gatherings.begin(id, request_id, parts);
        if !begun {
            let text = "a request with this id is not answered yet";
            let refusal = Refusal::new(ErrorCode::ErrorInvalidRequest, text);
            self.answer_error(ctx, id, request_id, refusal.to_wire());
        }
        begun
    }

    fn ask_mailbox(&mut self, ctx: &mut Context, asker: Asker, request_id: u32, ask: Ask) {
        let mut tag = RequestTag { id: request_id, ..RequestTag::default() };
        let what = match ask {
            Ask::ListDevices => MailboxRequest::ListDevices,
            Ask::RenameDevice { device, name } => MailboxRequest::RenameDevice { device, name },
            Ask::SignOut(which) => MailboxRequest::SignOut(which),
            Ask::SetPrivacy(privacy) => MailboxRequest::SetPrivacy(privacy),
            Ask::Block { user, unblock } => {
                let peer = (user.key(&self.config.tenant), user);
                if peer.0 == asker.user {
                    let code = ErrorCode::ErrorInvalidRequest;
                    let refusal = Refusal::new(code, "nobody blocks themselves");
                    let id = asker.address.edge;
                    return self.answer_error(ctx, id, request_id, refusal.to_wire());
                }
                MailboxRequest::Block { peer, unblock }
            }
            Ask::ListBlocks { after, limit } => {
                MailboxRequest::ListBlocks { after, limit: bounded(limit) }
            }
            Ask::ListConversations { before, limit } => {
                tag = self.expect_page(asker, request_id);
                MailboxRequest::ListConversations { before, limit: bounded(limit) }
            }
            Ask::SetConversation { conversation, settings } => {
                MailboxRequest::SetConversation { conversation, settings }
            }
            Ask::DeleteForMe { conversation, seqs } => {
                MailboxRequest::DeleteForMe { conversation, seqs }
            }
            Ask::AcceptRequest(conversation) => MailboxRequest::AcceptRequest(conversation),
            Ask::JoinChannel { conversation, leave } => {
                MailboxRequest::JoinChannel { conversation, leave }
            }
            Ask::CreateGroup(_)
            | Ask::Describe(_)
            | Ask::ListMembers { .. }
            | Ask::ReceiptDetails { .. }
            | Ask::QueryPresence(_)
            | Ask::ListUserDevices { .. } => unreachable!("asked of conversations"),
        };
        tell_own_mailbox(ctx, asker, tag, what);
    }

    fn create(&self, ctx: &mut Context, asker: Asker, request: RequestTag, group: CreateGroup) {
        let Some(creator) = self.table.peek(asker.address.edge).and_then(|e| e.user_id.get())
        else {
            return;
        };
        let conversation = ConversationId::group(asker.user, group.nonce, group.channel);
        let members = group.members.into_iter().map(|user| (user.key(&self.config.tenant), user));
        let create = Create {
            edge: asker.address,
            request,
            conversation,
            creator: (asker.user, creator),
            name: group.name,
            picture: group.picture,
            members: members.filter(|(key, _)| *key != asker.user).collect(),
        };
        // It is not yet a channel that somebody could be in, so it does not go through the mailbox.
        let to = ctx.home_of_conversation(conversation);
        ctx.links.tell(to, ToConversation::Create(Box::new(create)), Owed::Nothing, asker.cause);
    }

    /// Asks for the presence of each of these users, from where they are looked at.
    fn look(
        &self,
        ctx: &mut Context,
        asker: Asker,
        request: RequestTag,
        of: PresenceOf,
        watch: Watch,
    ) {
        for user in of.users {
            let key = user.key(&self.config.tenant);
            let direct = ConversationId::direct(asker.user, key);
            let look = PresenceLook {
                edge: asker.address,
                request,
                conversation: of.conversation.unwrap_or(direct),
                asker: asker.user,
                about: (key, user),
                watch,
            };
            let to = ctx.home_of_conversation(look.conversation);
            ctx.links.tell(to, ToConversation::Look(Box::new(look)), Owed::Nothing, asker.cause);
        }
    }

    /// A notice that is only a hint.
    pub(super) fn hint(&self, ctx: &mut Context, asker: Asker, hint: Hint) {
        match hint {
            Hint::Typing { conversation, stopped } => {
                if conversation.kind() != KeyKind::Channel {
                    let to = ctx.home_of_conversation(conversation);
                    let user = asker.user;
                    ctx.links.hint(to, ToActors::Typing { conversation, user, stopped });
                }
            }
            Hint::WatchPresence { of, stop } => {
                let watch = if stop { Watch::Stop } else { Watch::Start };
                self.look(ctx, asker, RequestTag::default(), of, watch);
            }
            Hint::WatchChannel { conversation, stop } => {
                if conversation.kind() == KeyKind::Channel {
                    let what = ConversationRequest::WatchChannel { stop };
                    ask_conversation(ctx, asker, RequestTag::default(), conversation, what);
                }
            }
        }
    }

    /// The keys of users, in order.
    pub(super) fn keys<'a>(&self, users: impl Iterator<Item = &'a UserId>) -> Vec<UserKey> {
        users.map(|user| user.key(&self.config.tenant)).collect()
    }
}

fn bounded(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

fn ask_conversation(
    ctx: &mut Context,
    asker: Asker,
    request: RequestTag,
    conversation: ConversationId,
    what: ConversationRequest,
) {
    let (edge, user) = (asker.address, asker.user);
    let ask = ConversationAsk { edge, request, conversation, user, what };
    tell_conversation(ctx, asker, request, ToConversation::Ask(Box::new(ask)));
}

/// Tells a conversation; a channel by way of the user's own mailbox, which knows who is in it.
pub(super) fn tell_conversation(
    ctx: &mut Context,
    asker: Asker,
    request: RequestTag,
    message: ToConversation,
) {
    let conversation = message.conversation();
    if conversation.kind() == KeyKind::Channel {
        let what = MailboxRequest::ForChannel(Box::new(message));
        return tell_own_mailbox(ctx, asker, request, what);
    }
    let to = ctx.home_of_conversation(conversation);
    ctx.links.tell(to, message, Owed::Nothing, asker.cause);
}

fn tell_own_mailbox(ctx: &mut Context, asker: Asker, request: RequestTag, what: MailboxRequest) {
    let (edge, user, device) = (asker.address, asker.user, asker.device);
    let ask = MailboxAsk { edge, request, user, device, what };
    let to = ctx.home_of_user(user);
    ctx.links.tell(to, ToOwnMailbox::Ask(Box::new(ask)), Owed::Nothing, asker.cause);
}
