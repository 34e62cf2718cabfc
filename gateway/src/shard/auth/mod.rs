//! Who a device is: tokens of the app's backend, and tickets of our own.
//!
//! Pure: keys, random bytes and the time are arguments. Whether a device was signed out is the
//! mailbox's to say.

pub mod key;
pub mod ticket;
pub mod token;
