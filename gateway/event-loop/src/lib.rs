//! Sockets, file writes and time for one thread, on `io_uring` or epoll.
//!
//! The loop's contract, the same on both backends:
//!
//! - A turn delivers events one by one, then calls [`Handler::on_batch_end`] once, then performs
//!   what was put into [`Actions`], in order. Nothing is performed earlier, so a handler decides
//!   with all of a turn in view, and the work of a turn costs few system calls.
//! - Of every socket the first event is `Opened` or `Connected` and the last is `Closed`, exactly
//!   one. No later event names that [`SocketId`]; actions that still name it do nothing, and a
//!   buffer sent to it is dropped.
//! - Every `send` is answered by `Sent`, or by the socket's `Closed`. Every file operation is
//!   answered by one `FileDone`, every `connect` by `Connected` or `ConnectFailed`.
//! - A `close` is orderly: after what is being sent our direction ends, what the peer still sends
//!   is thrown away, and `Closed` follows the peer's end, within the bounds of
//!   `Settings::linger_ms` and `linger_bytes_max`. So the peer can read the last words, however
//!   much it was sending.
//! - When the peer ends its direction, what is being sent still goes out; `Closed` follows when no
//!   send is outstanding after a turn.
//! - No socket takes more than its share of a turn, however much it sends; and all those together
//!   that say their first words or end take no more than `Settings::gate_per_turn` of it, and less
//!   of a short one.
//!
//! Architecture invariant: this crate knows no protocol. Of ours it only uses the types of time.
//! Unsafe code is only in `uring/` and `priority.rs`. Only `clock.rs` asks the system for the time.

mod actions;
mod backend;
mod clock;
mod epoll;
mod event;
mod event_loop;
mod file_thread;
mod gate;
mod linger;
mod listener;
mod priority;
mod sends;
mod settings;
mod uring;
mod wake;

pub use actions::Actions;
pub use backend::{Choice, Kind, ProbeError, Probed, probe};
pub use clock::now;
pub use event::{BatchFlow, CloseCause, Event, Handler, Limit, ListenerId, SocketId};
pub use event_loop::EventLoop;
pub use listener::Listening;
pub use priority::come_first;
pub use settings::{Accepting, Settings};
pub use uring::SOCKET_BYTES;
pub use wake::Waker;
