//! Rules of conversations, told as stories: who may do what, who is told, what is refused and then
//! changes nothing.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, not the rest")]

mod asks;
mod channels;
mod contents;
mod direct;
mod groups;
mod receipts;
mod recovery;
mod world;
