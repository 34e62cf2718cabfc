//! The command line of `roost store`.

use clap::{Args as ClapArgs, Subcommand};
use roost_protocol::ids::{ConversationId, InvalidUserId, UserId};
use roost_storage_engine::StreamId;
use std::path::PathBuf;

/// `roost store`.
#[derive(Debug, Clone, ClapArgs)]
pub struct StoreArgs {
    /// What to do
    #[command(subcommand)]
    pub what: StoreCommand,
}

/// What to do with a store.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Say what the store consists of, or where one stream's records lie
    Inspect {
        /// Which store.
        #[command(flatten)]
        place: PlaceArgs,
        /// Which stream.
        #[command(flatten)]
        stream: StreamArgs,
    },
    /// Check every checksum; exit code 0 if all is whole, 1 if not, 2 if it could not be looked at
    Verify {
        /// Which store.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Count streams, records and bytes
    Stats {
        /// Which store.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Print all records, or those of one stream, as lines of JSON
    Export {
        /// Which store.
        #[command(flatten)]
        place: PlaceArgs,
        /// Which stream.
        #[command(flatten)]
        stream: StreamArgs,
        /// Print the bodies alone, one behind the other
        #[arg(long, conflicts_with = "json")]
        bodies: bool,
    },
    /// Write what is whole into new files; the server must be stopped
    Repair {
        /// Which store.
        #[command(flatten)]
        place: PlaceArgs,
        /// Change nothing, only say what would be kept and lost
        #[arg(long)]
        dry_run: bool,
        /// Also leave out what follows a hole in a stream: the server refuses such streams
        #[arg(long)]
        cut_at_holes: bool,
    },
}

/// Which store, and how to speak of it.
#[derive(Debug, Clone, ClapArgs)]
pub struct PlaceArgs {
    /// The server's data folder
    #[arg(long, value_name = "DIR", env = "ROOST_DATA", default_value = "./roost-data")]
    pub data: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which stream: a mailbox, a conversation, or whatever has this number.
#[derive(Debug, Clone, Default, ClapArgs)]
#[group(id = "which_stream", multiple = true)]
pub struct StreamArgs {
    /// Only this stream, 32 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = parse_stream)]
    #[arg(conflicts_with_all = ["user", "conversation"])]
    pub stream: Option<StreamId>,
    /// Only this conversation, 32 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = parse_stream, conflicts_with = "user")]
    pub conversation: Option<StreamId>,
    /// Only this user's mailbox
    #[arg(long, value_name = "NAME", value_parser = parse_user)]
    pub user: Option<UserId>,
    /// Not the mailbox, but the conversation of the user with this one
    #[arg(long, value_name = "NAME", value_parser = parse_user, requires = "user")]
    pub with: Option<UserId>,
    /// The tenant of these users, as in the server's settings
    #[arg(long, value_name = "NAME", default_value = "", requires = "user")]
    pub tenant: String,
}

impl StreamArgs {
    /// The stream that is meant, if one is.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        let of_user = self.user.as_ref().map(|user| {
            let one = user.key(&self.tenant);
            match &self.with {
                None => StreamId(one.as_u128()),
                Some(other) => {
                    let other = other.key(&self.tenant);
                    StreamId(ConversationId::direct(one, other).as_u128())
                }
            }
        });
        self.stream.or(self.conversation).or(of_user)
    }
}

fn parse_stream(text: &str) -> Result<StreamId, &'static str> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
    number.map(StreamId).ok_or("write 32 hexadecimal digits")
}

fn parse_user(text: &str) -> Result<UserId, InvalidUserId> {
    UserId::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        store: StoreArgs,
    }

    fn stream_of(line: &str) -> Option<StreamId> {
        let words = std::iter::once("store").chain(line.split_whitespace());
        match Line::try_parse_from(words).ok()?.store.what {
            StoreCommand::Inspect { stream, .. } | StoreCommand::Export { stream, .. } => {
                stream.stream()
            }
            StoreCommand::Verify { .. }
            | StoreCommand::Stats { .. }
            | StoreCommand::Repair { .. } => None,
        }
    }

    #[test]
    fn a_stream_is_named_by_number_or_by_people() {
        let hex = "00112233445566778899aabbccddeeff";
        let number = StreamId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        assert_eq!(stream_of(&format!("inspect --stream {hex}")), Some(number));
        assert_eq!(stream_of(&format!("export --conversation {hex} --bodies")), Some(number));
        assert_eq!(stream_of("export --stream 12"), None);
        assert_eq!(stream_of(&format!("export --stream {hex} --user ann")), None);
        let (ann, bob) = (UserId::new("ann").unwrap().key(""), UserId::new("bob").unwrap().key(""));
        assert_eq!(stream_of("inspect --user ann"), Some(StreamId(ann.as_u128())));
        let both = Some(StreamId(ConversationId::direct(ann, bob).as_u128()));
        assert_eq!(stream_of("inspect --user ann --with bob"), both);
        assert_eq!(stream_of("inspect --user bob --with ann"), both);
        assert_ne!(stream_of("inspect --user ann --tenant blue"), stream_of("inspect --user ann"));
    }
}
