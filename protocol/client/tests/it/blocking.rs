//! The blocking client over a real socket.

use crate::hand::config;
use crate::server::Server;
use prost::Message;
use roost_client::{BlockingClient, Event, Peer};
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::ids::UserId;
use roost_protocol::preface::PREFACE;
use roost_protocol::wire;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Serves one connection until the device closes it.
fn serve(mut stream: TcpStream, server: &mut Server) {
    let mut preface = [0; 4];
    stream.read_exact(&mut preface).unwrap();
    assert_eq!(preface, PREFACE);
    let (mut reader, mut buffer) = (FrameReader::new(), [0; 4096]);
    loop {
        // A client that goes while an answer is on its way resets the connection.
        let length = stream.read(&mut buffer).unwrap_or(0);
        if length == 0 {
            return;
        }
        reader.push(&buffer[..length]);
        while let Some(frame) = reader.next_frame(300_000).unwrap() {
            let frame = wire::ClientFrame::decode(frame).unwrap();
            if let Some(answer) = server.answer(0, 1, frame.body.unwrap()) {
                let mut bytes = Vec::new();
                encode::server(frame.request_id, answer, &mut bytes);
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a deadline for a real socket")]
fn it_connects_sends_and_hears_the_answer() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
        let mut server = Server::new();
        let (stream, _) = listener.accept().unwrap();
        serve(stream, &mut server);
        server.log.len()
    });
    let mut client = BlockingClient::connect(address, config(), "token").unwrap();
    client.send(Peer::User(UserId::new("bob").unwrap()), "hello", 7);
    let deadline = Instant::now() + Duration::from_secs(60);
    let accepted = loop {
        let event = client.next_event(deadline).unwrap().expect("an answer within a minute");
        if let Event::Accepted { tag, seq, .. } = event {
            break (tag, seq.0);
        }
    };
    assert_eq!(accepted, (7, 1));
    drop(client);
    assert_eq!(thread.unwrap().join().unwrap(), 1);
}
