//! Checks of who connects, and with what.

use super::fields::{self, invalid};
use super::{Credential, Hello, Request};
use crate::error::Refusal;
use crate::ids::ConnectionNumber;
use crate::limits;
use crate::wire::{self, ErrorCode};

pub(super) fn refresh(refresh: wire::Refresh) -> Result<Request, Refusal> {
    token(&refresh.token)?;
    Ok(Request::Refresh { token: refresh.token })
}

fn token(token: &str) -> Result<(), Refusal> {
    if token.len() > limits::TOKEN_MAX_BYTES {
        return Err(Refusal::new(ErrorCode::ErrorTokenTooLong, "a token has at most 4096 bytes"));
    }
    if token.is_empty() {
        return Err(Refusal::new(ErrorCode::ErrorTokenMalformed, "the token is empty"));
    }
    Ok(())
}

pub(super) fn hello(hello: wire::Hello) -> Result<Hello, Refusal> {
    let credential = match (hello.token.is_empty(), hello.ticket.is_empty()) {
        (false, true) => {
            token(&hello.token)?;
            Credential::Token(hello.token)
        }
        (true, false) if hello.ticket.len() <= limits::TICKET_MAX_BYTES => {
            Credential::Ticket(hello.ticket)
        }
        (true, false) => {
            return Err(Refusal::new(
                ErrorCode::ErrorTicketInvalid,
                "a ticket has at most 512 bytes",
            ));
        }
        (true, true) | (false, false) => {
            return Err(invalid("hello carries exactly one of token and ticket"));
        }
    };
    let device = match hello.device.as_ref() {
        [] => None,
        device => Some(fields::device(device, "hello.device has 16 bytes")?),
    };
    if hello.connection_number == 0 {
        return Err(invalid("hello.connection_number starts at 1"));
    }
    if hello.client.len() > limits::CLIENT_NAME_MAX_BYTES {
        return Err(invalid("hello.client has at most 128 bytes"));
    }
    Ok(Hello {
        credential,
        device,
        connection_number: ConnectionNumber(hello.connection_number),
        role: wire::Role::try_from(hello.role).map_err(|_| invalid("hello.role is not a role"))?,
        activity: wire::ActivityState::try_from(hello.activity)
            .map_err(|_| invalid("hello.activity is not a state"))?,
        client: hello.client,
    })
}
