//! What only some direct conversations have: a block, and the versions of both device lists.

use super::members::MemberNumber;
use super::records::{KIND_BLOCK, KIND_VERSION, read_member};
use super::{Conversation, confirm, forbidden, refusal_error};
use crate::shard::codec::{Malformed, Reader, Writer};
use crate::shard::context::{Context, Effect};
use crate::shard::links::{Arrival, Cause, Owed, Taken, Token};
use crate::shard::message::{
    BlockConfirmed, BlockTold, Card, Submit, ToConversation, ToMailbox, VersionTold, VersionWanted,
};
use roost_protocol::error::Refusal;
use roost_protocol::ids::UserKey;
use roost_protocol::request::DeviceVersion;
use roost_protocol::wire::{self, ErrorCode};

/// About how long it takes a mailbox to tell the version of its user's devices.
const VERSION_MS: u32 = 200;
/// How long to wait for it before it is asked for again: it may have been lost with the process.
const VERSION_WANTED_MS: u64 = 2_000;

/// Whether one of the two blocks the other, and which record of that user's mailbox says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) blocked: bool,
}

/// See the module's comment. Each is of the member with that number.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    pub(crate) blocks: [Block; 2],
    /// 0: not known.
    pub(crate) versions: [u64; 2],
    /// When the version was last asked for, in ms of the monotonic clock; 0: never.
    wanted_ms: [u64; 2],
}

impl Direct {
    /// Whether a member may write, as far as blocks go.
    pub(crate) fn permit(&self, member: MemberNumber) -> Result<(), Refusal> {
        let own = member.index();
        if self.blocks[1 - own].blocked {
            return Err(forbidden("this user takes no messages from you"));
        }
        if self.blocks[own].blocked {
            return Err(forbidden("you have blocked this user: unblock first"));
        }
        Ok(())
    }

    /// Whether there is anything in it that a record said.
    pub(crate) fn is_written(&self) -> bool {
        self.blocks != [Block::default(); 2] || self.versions != [0; 2]
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocks.iter().any(|block| block.blocked)
    }
}

impl Conversation {
    pub(crate) fn direct_mut(&mut self) -> &mut Direct {
        self.direct.get_or_insert_default()
    }

    // ---- blocks ----

    /// A mailbox tells that its user blocked the other, or does not any more. The highest number
    /// holds; each is confirmed once what it says is durable here.
    pub(crate) fn block_told(
        &mut self,
        ctx: &mut Context,
        told: BlockTold,
        taken: Option<Taken>,
        cause: Cause,
    ) {
        let Some(member) = self.members.find(told.by).filter(|_| self.is_direct()) else {
            return confirm(ctx, taken, cause);
        };
        let known = self.direct.as_ref().map_or(0, |direct| direct.blocks[member.index()].number);
        if told.number > known {
            let mut body = Writer::default();
            body.number(u64::from(member.0)).number(told.number).number(told.blocked.into());
            if self.append_state(ctx, KIND_BLOCK, &body).is_err() {
                // It is owed, and somebody waits for it: it is tried again.
                let message = ToConversation::BlockTold(told).into();
                let (token, retried) = (Token::NONE, taken);
                ctx.retry.push_back(Arrival { message, token, taken: retried });
                return;
            }
            ctx.stats.blocks_total += 1;
            let block = Block { number: told.number, blocked: told.blocked };
            self.direct_mut().blocks[member.index()] = block;
            self.snapshot_when_due(ctx);
        }
        confirm_block(ctx, &told, cause);
        confirm(ctx, taken, cause);
    }

    pub(crate) fn replay_block(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let member = self.one_of_two(reader)?;
        let (number, blocked) = (reader.number()?, reader.number()? != 0);
        self.direct_mut().blocks[member.index()] = Block { number, blocked };
        Ok(())
    }

    fn one_of_two(&self, reader: &mut Reader<'_>) -> Result<MemberNumber, Malformed> {
        let member = read_member(reader)?;
        if self.is_direct() && member.index() < 2 { Ok(member) } else { Err(Malformed) }
    }

    // ---- versions of device lists ----

    /// A mailbox tells the version of its user's device list. The highest holds.
    pub(crate) fn version_told(
        &mut self,
        ctx: &mut Context,
        told: VersionTold,
        taken: Option<Taken>,
        cause: Cause,
    ) {
        let Some(member) = self.members.find(told.user).filter(|_| self.is_direct()) else {
            return confirm(ctx, taken, cause);
        };
        let known = self.direct.as_ref().map_or(0, |direct| direct.versions[member.index()]);
        if told.version > known {
            let mut body = Writer::default();
            body.number(u64::from(member.0)).number(told.version);
            if self.append_state(ctx, KIND_VERSION, &body).is_err() {
                let message = ToConversation::VersionTold(told).into();
                ctx.retry.push_back(Arrival { message, token: Token::NONE, taken });
                return;
            }
            self.direct_mut().versions[member.index()] = told.version;
            self.snapshot_when_due(ctx);
        }
        confirm(ctx, taken, cause);
    }

    pub(crate) fn replay_version(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let member = self.one_of_two(reader)?;
        let version = reader.number()?;
        self.direct_mut().versions[member.index()] = version;
        Ok(())
    }

    /// Whether ciphertexts were made for the devices there are: both users are named, with the
    /// versions that are known.
    pub(crate) fn check_versions(&self, named: &[DeviceVersion]) -> Result<(), super::Halt> {
        let Card::Direct(users) = &*self.card else {
            return Err(super::invalid("only direct conversations take ciphertexts").into());
        };
        let known = self.direct.as_ref().map_or([0; 2], |direct| direct.versions);
        let holds = users.iter().zip(known).all(|((_, id), version)| {
            version > 0 && named.iter().any(|n| n.user == *id && n.version == version)
        });
        if holds && named.len() == 2 { Ok(()) } else { Err(super::Halt::DevicesChanged) }
    }

    /// The answer to a write for other devices than there are: the versions known now. What is not
    /// known is asked for.
    pub(crate) fn devices_changed(&mut self, ctx: &mut Context, submit: &Submit, cause: Cause) {
        let card = std::sync::Arc::clone(&self.card);
        let Card::Direct(users) = &*card else { return };
        let mut error = refusal_error(ErrorCode::ErrorDevicesChanged);
        error.text = "encrypt for the devices there are now".to_owned();
        let now_ms = ctx.now_ms();
        let conversation = self.id;
        let direct = self.direct_mut();
        for (place, (user, id)) in users.iter().enumerate() {
            let version = direct.versions[place];
            error.devices.push(wire::DeviceVersion { user: id.as_str().to_owned(), version });
            if version > 0 {
                continue;
            }
            error.retry_after_ms = VERSION_MS;
            let wanted = &mut direct.wanted_ms[place];
            if *wanted == 0 || now_ms >= *wanted + VERSION_WANTED_MS {
                *wanted = now_ms.max(1);
                let wanted = ToMailbox::VersionWanted(VersionWanted { user: *user, conversation });
                ctx.links.tell(ctx.home_of_user(*user), wanted, Owed::Nothing, cause);
            }
        }
        super::park_error(ctx, submit, error, cause);
    }
}

/// A block is told back once it is durable.
pub(crate) fn confirm_block(ctx: &mut Context, told: &BlockTold, cause: Cause) {
    let (user, conversation, number) = (told.by, told.conversation, told.number);
    let message = ToMailbox::BlockConfirmed(BlockConfirmed { user, conversation, number });
    let to = ctx.home_of_user(user);
    let effect = Effect::Tell { to, message: message.into(), owed: Owed::Nothing };
    let end = ctx.log_end();
    ctx.park(end, effect, cause);
}

/// Whether a told block may begin a direct conversation: it names its two users, the blocking one
/// among them.
pub(crate) fn card_of_block(told: &BlockTold) -> Option<Card> {
    let [low, high] = &*told.users;
    let blocks = |user: UserKey| user == told.by;
    let named = low.0 < high.0 && (blocks(low.0) || blocks(high.0));
    let id = roost_protocol::ids::ConversationId::direct(low.0, high.0);
    (named && id == told.conversation).then(|| Card::Direct([low.clone(), high.clone()]))
}
