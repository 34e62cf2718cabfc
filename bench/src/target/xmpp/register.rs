//! Accounts of a run's users, made before anything is measured: all over one connection, with
//! in-band registration (XEP-0077).

use super::stanza::{self, Piece};
use super::{PASSWORD, header};
use crate::stop;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Accounts that are asked for before answers are waited for.
const AT_ONCE: usize = 100;
/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes an account for each of these users; those that have one already keep it.
///
/// # Errors
/// The server is none of XMPP, or does not let accounts be made.
pub fn register(
    server: SocketAddr,
    domain: &str,
    users: impl Iterator<Item = String>,
) -> Result<(), RegisterError> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(RegisterError::Wire)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(RegisterError::Wire)?;
    let mut talk = Talk { stream, came: Vec::new() };
    let mut out = Vec::new();
    header(domain, &mut out);
    talk.say(&out)?;
    while talk.element(|element| Ok(stanza::name(element) == b"stream:features"))? != Some(true) {}
    let mut users = users.peekable();
    while users.peek().is_some() && !stop::is_wanted() {
        out.clear();
        let mut asked = 0;
        for user in users.by_ref().take(AT_ONCE) {
            asked += 1;
            write!(
                out,
                "<iq type='set' id='{asked}'><query xmlns='jabber:iq:register'>\
                 <username>{user}</username><password>{PASSWORD}</password></query></iq>"
            )
            .map_err(RegisterError::Wire)?;
        }
        talk.say(&out)?;
        while asked > 0 {
            if talk.element(is_answer)? == Some(true) {
                asked -= 1;
            }
        }
    }
    Ok(())
}

/// Whether an element answers a request, and does not refuse it.
fn is_answer(element: &[u8]) -> Result<bool, RegisterError> {
    let is_refusal = stanza::attribute(element, b"type") == Some(b"error")
        && !stanza::holds(element, b"<conflict");
    if is_refusal || stanza::name(element) == b"stream:error" {
        return Err(RegisterError::Refused(stanza::excerpt(element)));
    }
    Ok(stanza::name(element) == b"iq")
}

struct Talk {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Talk {
    fn say(&mut self, bytes: &[u8]) -> Result<(), RegisterError> {
        self.stream.write_all(bytes).map_err(RegisterError::Wire)
    }

    /// What is to be said of the next element; none: it was the beginning of the stream.
    fn element<T>(
        &mut self,
        of: impl Fn(&[u8]) -> Result<T, RegisterError>,
    ) -> Result<Option<T>, RegisterError> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let mut rest = &self.came[..];
            let piece = stanza::cut(&mut rest).map_err(|stanza::NotXmpp| RegisterError::NotXmpp)?;
            if let Some(piece) = piece {
                let said = match piece {
                    Piece::Begin => None,
                    Piece::Element(element) => Some(of(element)?),
                    Piece::End => return Err(RegisterError::Ended),
                };
                let used = self.came.len() - rest.len();
                self.came.drain(..used);
                return Ok(said);
            }
            match self.stream.read(&mut buffer).map_err(RegisterError::Wire)? {
                0 => return Err(RegisterError::Ended),
                count => self.came.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// Why there are no accounts.
#[derive(Debug)]
pub enum RegisterError {
    /// The connection.
    Wire(io::Error),
    /// Nothing that an XMPP server says came.
    NotXmpp,
    /// The server ended the connection.
    Ended,
    /// The server did not make an account, and said this.
    Refused(String),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot register accounts: ")?;
        match self {
            Self::Wire(source) => source.fmt(f),
            Self::NotXmpp => write!(f, "what came is not what XMPP servers say"),
            Self::Ended => write!(f, "the server ended the connection"),
            Self::Refused(said) => write!(
                f,
                "the server refused: {said}; it must serve --xmpp-domain and let accounts be made \
                 (ejabberd: mod_register, registration_timeout: infinity)"
            ),
        }
    }
}

impl std::error::Error for RegisterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wire(source) => Some(source),
            Self::NotXmpp | Self::Ended | Self::Refused(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_there_is_no_refusal() {
        assert!(is_answer(b"<iq type='result' id='1'/>").unwrap());
        assert!(is_answer(b"<iq type='error'><error><conflict x='y'/></error></iq>").unwrap());
        assert!(!is_answer(b"<presence/>").unwrap());
        let no = is_answer(b"<iq type='error'><error><not-allowed/></error></iq>").unwrap_err();
        assert!(no.to_string().contains("<not-allowed/>") && no.to_string().contains("mod_reg"));
        is_answer(b"<stream:error><host-unknown/></stream:error>").unwrap_err();
    }
}
