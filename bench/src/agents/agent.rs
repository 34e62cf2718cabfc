//! The side that does what it is told.

use super::gate;
use super::message::{Order, Part, Reply, VERSION, Word, hear, say};
use crate::args::{Args, Wanted};
use crate::run;
use clap::Parser;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::Builder;

/// Takes orders, one controller after the other, or only one. Says first where it listens.
///
/// # Errors
/// The address cannot be had.
pub fn serve(listen: SocketAddr, once: bool, say_where: impl Fn(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    say_where(listener.local_addr()?);
    for controller in listener.incoming() {
        // A controller that goes away takes its run with it, and nothing else.
        drop(obey(controller?));
        if once {
            break;
        }
    }
    Ok(())
}

fn obey(stream: TcpStream) -> io::Result<()> {
    let mut speaks = stream.try_clone()?;
    let mut hears = BufReader::new(stream);
    let order: Order = hear(&mut hears)?;
    let (ready, is_ready) = channel();
    let open = Arc::new(AtomicBool::new(false));
    gate::open_by(ready, Arc::clone(&open));
    let mut tells = speaks.try_clone()?;
    // The run has its own thread's loop to drive, so somebody else waits for the word.
    Builder::new().name("agent-word".to_owned()).spawn(move || {
        if is_ready.recv().is_ok() && say(&mut tells, &Reply::Ready).is_ok() {
            let word: io::Result<Word> = hear(&mut hears);
            if matches!(word, Ok(Word::Go)) {
                open.store(true, Ordering::Release);
            }
        }
    })?;
    let reply = perform(order).map_or_else(Reply::Failed, |part| Reply::Found(Box::new(part)));
    say(&mut speaks, &reply)
}

fn perform(order: Order) -> Result<Part, String> {
    if order.version != VERSION {
        return Err(format!(
            "the controller speaks version {} and this agent {VERSION}: use the same build",
            order.version
        ));
    }
    let args = Args::try_parse_from(&order.command).map_err(|error| error.to_string())?;
    let Wanted::Server(wanted) = args.wanted else {
        return Err("only measurements of a server can be shared".to_owned());
    };
    let devices = run::Devices {
        users: order.users,
        tokens: order.tokens,
        connection_number: order.connection_number,
        // Tokens have come already; what is left of them counts as what was there before.
        rss_before_bytes: run::own_rss_bytes(),
    };
    let found = run::part(&wanted, order.server, devices).map_err(|error| error.to_string())?;
    Part::of(found).map_err(|error| error.to_string())
}
