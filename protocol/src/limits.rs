//! Bounds of the protocol. What an operator may lower is a setting of the server and travels in
//! `Welcome.limits`; these are the most that any server grants.

/// Most bytes of a frame's content.
pub const FRAME_MAX_BYTES: usize = 256 * 1024;
/// Most bytes of a message body.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Most bytes of a reply's content: a page ends at 100 messages or here.
pub const REPLY_MAX_BYTES: usize = 128 * 1024;
/// Most bytes of a token.
pub const TOKEN_MAX_BYTES: usize = 4096;
/// Most bytes of a resume ticket.
pub const TICKET_MAX_BYTES: usize = 512;
/// Most bytes of `Hello.client`.
pub const CLIENT_NAME_MAX_BYTES: usize = 128;
/// Unanswered writes a device may have in one conversation; also how many of a device's writes a
/// conversation remembers by id.
pub const UNANSWERED_WRITES_MAX: usize = 32;
/// Requests a connection may have unanswered.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;
/// Messages in one page of history.
pub const HISTORY_PAGE_MAX: usize = 100;
/// Messages in a page of history when the request does not say.
pub const HISTORY_PAGE_DEFAULT: usize = 50;
/// Entries in one page of sync.
pub const SYNC_PAGE_MAX: usize = 500;
/// Conversations in one `Delivered` or `Read` notice.
pub const MARKS_MAX: usize = 256;
/// Elements of all repeated fields of one frame of a device together; each field has its own bound
/// besides.
pub const ELEMENTS_MAX: usize = 1024;
/// Bytes a device may send before it is welcomed.
pub const BEFORE_WELCOME_MAX_BYTES: usize = 8 * 1024;
/// Devices a user may have.
pub const DEVICES_MAX: usize = 10;
/// Bytes of the name of a group or channel; at least one.
pub const NAME_MAX_BYTES: usize = 128;
/// Bytes of the picture of a group or channel: a media reference, or nothing.
pub const PICTURE_MAX_BYTES: usize = 256;
/// Bytes of the name that a user gives to a device.
pub const DEVICE_NAME_MAX_BYTES: usize = 64;
/// Bytes of a reaction.
pub const REACTION_MAX_BYTES: usize = 32;
/// Members that a group has at a time.
pub const GROUP_MEMBERS_MAX: usize = 1024;
/// Users named when a group is created or changed: all but the one who asks.
pub const MEMBERS_NAMED_MAX: usize = GROUP_MEMBERS_MAX.saturating_sub(1);
/// Members in one page of a group's members.
pub const MEMBERS_PAGE_MAX: usize = 500;
/// Members in one page of who received and read a message.
pub const RECEIPT_DETAILS_PAGE_MAX: usize = 100;
/// Entries in one page of the list of conversations.
pub const CONVERSATIONS_PAGE_MAX: usize = 500;
/// The highest place among the pinned conversations.
pub const PINNED_MAX: u32 = 1000;
/// Records that one `DeleteForMe` names.
pub const DELETED_SEQS_MAX: usize = 100;
/// Users in one page of the blocked.
pub const BLOCKS_PAGE_MAX: usize = 100;
/// Users whose presence is asked or watched by one frame.
pub const PRESENCE_USERS_MAX: usize = 100;
/// Members of a group up to which typing is passed on.
pub const TYPING_MEMBERS_MAX: usize = 64;
/// Users whose devices one request is about: those of a direct conversation.
pub const DEVICE_LISTS_MAX: usize = 2;
/// Ciphertexts of one message: one for each device of two users.
pub const CIPHERTEXTS_MAX: usize = DEVICE_LISTS_MAX.saturating_mul(DEVICES_MAX);

const _: () = assert!(BODY_MAX_BYTES.saturating_add(1024) <= REPLY_MAX_BYTES);
const _: () = assert!(REPLY_MAX_BYTES < FRAME_MAX_BYTES);
const _: () = assert!(MARKS_MAX <= ELEMENTS_MAX);
const _: () = assert!(MEMBERS_NAMED_MAX <= ELEMENTS_MAX);
const _: () = assert!(CIPHERTEXTS_MAX.saturating_add(DEVICE_LISTS_MAX) <= ELEMENTS_MAX);
const _: () = assert!(TOKEN_MAX_BYTES.saturating_add(TICKET_MAX_BYTES) < BEFORE_WELCOME_MAX_BYTES);
