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

const _: () = assert!(BODY_MAX_BYTES.saturating_add(1024) <= REPLY_MAX_BYTES);
const _: () = assert!(REPLY_MAX_BYTES < FRAME_MAX_BYTES);
const _: () = assert!(MARKS_MAX <= ELEMENTS_MAX);
const _: () = assert!(TOKEN_MAX_BYTES.saturating_add(TICKET_MAX_BYTES) < BEFORE_WELCOME_MAX_BYTES);
