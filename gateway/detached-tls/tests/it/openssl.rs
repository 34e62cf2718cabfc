//! `openssl s_client`, which changes its keys when it is told to.

use crate::world::{Ours, World};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::Builder;

/// Says everything back, until the peer closes; answers that. Gives how much was heard.
fn echo(mut server: Ours, mut stream: TcpStream) -> usize {
    let (mut chunk, mut heard) = (vec![0; 4096], 0);
    loop {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the stream is truncated");
        let mut output = server.takes(&chunk[..count]).unwrap();
        let plain = server.hears();
        heard += plain.len();
        if server.established.is_some() {
            output.extend(server.says(&plain));
        }
        let is_over = server.established.is_some() && server.detached().peer_has_closed();
        if is_over {
            server.detached().close(&mut output);
        }
        stream.write_all(&output).unwrap();
        if is_over {
            return heard;
        }
    }
}

/// A thousand new keys of each kind: with a capital letter it wants ours changed, too.
#[test]
fn thousands_of_key_updates_by_openssl() {
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"] {
        let world = World::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Ours::server(&world);
        let serving = Builder::new().name("echo".to_owned());
        let serving = serving.spawn(move || echo(server, listener.accept().unwrap().0)).unwrap();
        let mut client = Command::new("openssl")
            .args(["s_client", "-brief", "-tls1_3", "-alpn", "roost/1", "-ciphersuites", suite])
            .args(["-record_padding", "64", "-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl is installed: see .ci/run");
        let mut keys = client.stdin.take().unwrap();
        let mut answers = client.stdout.take().unwrap();
        let mut words = BufReader::new(client.stderr.take().unwrap()).lines();
        let mut says = |what: &str| {
            while !words.next().unwrap().unwrap().contains(what) {}
        };
        says(suite);
        for round in 0..2_000_u32 {
            keys.write_all(if round % 2 == 0 { b"k\n" } else { b"K\n" }).unwrap();
            says("KEYUPDATE");
            let word = format!("round {round}\n");
            keys.write_all(word.as_bytes()).unwrap();
            let mut answer = vec![0; word.len()];
            answers.read_exact(&mut answer).unwrap();
            assert_eq!(answer, word.as_bytes());
        }
        drop(keys);
        assert!(client.wait().unwrap().success());
        assert!(serving.join().unwrap() > 20_000);
    }
}
