//! Every bound of a session. Together they bound its memory; relations are checked at the end.

use roost_protocol::limits as protocol;
use roost_protocol::time::Duration;

/// Stretches of held seqs kept for one conversation.
pub const STRETCHES_MAX: usize = 16;
/// Places kept for one conversation at which the number of uncounted records changes.
pub const STEPS_MAX: usize = 16;
/// Conversations a session keeps state of; past it the one untouched for longest is forgotten.
pub const CONVERSATIONS_MAX: usize = 65_536;
/// Unanswered sends to one conversation, waiting ones included. Past it a send is refused.
pub const QUEUED_PER_CONVERSATION_MAX: usize = 256;
/// Unanswered sends in all. Past it a send is refused.
pub const QUEUED_MAX: usize = 4096;
/// Bytes of all unanswered sends. Past it a send is refused.
pub const QUEUED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Pulls of history in flight.
pub const PULLS_IN_FLIGHT_MAX: usize = 16;
/// Requests in flight, also when the server would take more.
pub const REQUESTS_IN_FLIGHT_MAX: usize = protocol::REQUESTS_IN_FLIGHT_MAX;
/// Requests kept free for sync, pulls and the token while writes are in flight.
pub const REQUESTS_RESERVED: usize = 32;
/// Messages kept that arrived ahead of a gap, in all conversations. Past it they are pulled later.
pub const AHEAD_MAX: usize = 1024;
/// Bytes of messages kept ahead of a gap.
pub const AHEAD_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of messages waiting for their Persist. Past it pulls pause.
pub const WAITING_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Questions without an answer, those in flight included. Past it one is refused.
pub const ASKS_MAX: usize = 64;
/// Questions in flight.
pub const ASKS_IN_FLIGHT_MAX: usize = 8;
/// New groups without an answer. Past it one is refused.
pub const CREATIONS_MAX: usize = 32;
/// Users whose presence is watched. Past it more are not.
pub const WATCHES_MAX: usize = 1000;
/// Channels that are watched. Past it more are not.
pub const CHANNELS_WATCHED_MAX: usize = 64;
/// Conversations in which typing was told of lately. Past it the oldest is forgotten.
pub const TYPING_MAX: usize = 64;
/// A message is given to the app to be encrypted again so often; then it is refused.
pub const ENCRYPT_ROUNDS_MAX: u32 = 5;
/// Conversations told *delivered* again after an app restart or another run of the server.
pub const DELIVERED_AGAIN_MAX: usize = 256;
/// Messages in the first page of a conversation with [`crate::Order::Newest`].
pub const FIRST_PAGE: u32 = 50;
/// Messages in every other page.
pub const PAGE: u32 = 100;
/// Bytes of one record of a snapshot, about.
pub const SNAPSHOT_RECORD_BYTES: usize = 32 * 1024;

/// A request without an answer for so long means that the connection is dead.
pub const REQUEST_TIMEOUT: Duration = Duration::from_seconds(30);
/// *Delivered* and *Read* are said at most so often.
pub const NOTICE_INTERVAL: Duration = Duration::from_ms(100);
/// The server forgets a watch after 5 minutes: it is renewed before.
pub const WATCH_RENEWAL: Duration = Duration::from_seconds(240);
/// Typing is told at most so often in one conversation.
pub const TYPING_INTERVAL: Duration = Duration::from_seconds(3);
/// A connected device syncs at least so often.
pub const SYNC_INTERVAL: Duration = Duration::from_seconds(600);
/// The first delay before connecting again; it doubles.
pub const BACKOFF_BASE: Duration = Duration::from_ms(200);
/// The longest delay before connecting again.
pub const BACKOFF_MAX: Duration = Duration::from_seconds(30);
/// No delay is shorter, so that no two connections meet in one turn.
pub const BACKOFF_MIN: Duration = Duration::from_ms(10);
/// A connection that lived so long after its Welcome resets the delay.
pub const LASTED: Duration = Duration::from_seconds(10);
/// The heartbeat interval until the server has given one.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_seconds(12);
/// The delay of a refusal of class retry that names none.
pub const RETRY_DEFAULT: Duration = Duration::from_seconds(1);
/// The longest delay a refusal is believed.
pub const RETRY_MAX: Duration = Duration::from_seconds(300);
/// How long a session that was asked to leave waits for what is in flight.
pub const LEAVE_WITHIN: Duration = Duration::from_seconds(5);
/// A ticket that expires sooner than this is not used, in milliseconds.
pub const TICKET_MARGIN_MS: u64 = 5_000;

// Besides: one Sync and one Refresh.
const _: () = assert!(PULLS_IN_FLIGHT_MAX + ASKS_IN_FLIGHT_MAX + 2 <= REQUESTS_RESERVED);
const _: () = assert!(CREATIONS_MAX <= ASKS_MAX);
const _: () = assert!(REQUESTS_RESERVED < REQUESTS_IN_FLIGHT_MAX);
const _: () = assert!(QUEUED_PER_CONVERSATION_MAX >= protocol::UNANSWERED_WRITES_MAX);
const _: () = assert!(WAITING_MAX_BYTES > protocol::FRAME_MAX_BYTES);
