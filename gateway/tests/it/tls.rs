//! TLS against other people's clients, and against those that mean harm. What records may say is
//! tested in gateway/detached-tls; here the real server speaks it.

use crate::device::{Bystanders, Device, hello};
use crate::roost::{PATIENCE, Server, Setup, on_both_drivers, waits_for};
use roost_protocol::encode;
use roost_protocol::frame::FrameReader;
use roost_protocol::preface::PREFACE;
use roost_protocol::wire::ServerFrame;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::server_frame::Body as Told;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const HANDSHAKES: &str = "roost_tls_handshakes_total";
const RESUMED: &str = "roost_tls_resumed_total";
const FAILED: &str = "roost_tls_failed_total";
const IN_PROGRESS: &str = "roost_tls_handshakes_in_progress";
const OPEN: &str = "roost_connections_open";

/// Looks like a protected record.
const FORGED: [u8; 25] = {
    let mut record = [7; 25];
    [record[0], record[1], record[2], record[3], record[4]] = [23, 3, 3, 0, 20];
    record
};

fn certificate(server: &Server) -> PathBuf {
    server.data().join("keys/tls-cert.pem")
}

/// What a device says first.
pub(crate) fn first_words(server: &Server, user: &str, connection: u64) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    encode::client(1, Ask::Hello(hello(&server.token(user), 1, connection)), &mut bytes);
    bytes
}

/// Whether a stream of the server begins with Welcome; none while it is too short to say.
pub(crate) fn is_welcome(bytes: &[u8]) -> Option<bool> {
    use prost::Message as _;
    let mut reader = FrameReader::new();
    reader.push(bytes);
    let content = reader.next_frame(1 << 20).unwrap()?;
    let frame = ServerFrame::decode(content).unwrap();
    Some(matches!(frame.body, Some(Told::Welcome(_))))
}

// ---- OpenSSL ----

/// `openssl s_client`. It must not obey letters at the start of what it reads: a preface begins
/// with one. So what it can be told (new keys) is tested in gateway/detached-tls.
struct OpenSsl {
    child: Child,
    keys: Option<ChildStdin>,
    heard: Receiver<Vec<u8>>,
    said: Receiver<String>,
}

impl OpenSsl {
    fn start(server: &Server, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-brief", "-nocommands", "-tls1_3", "-servername", "localhost"]);
        command.arg("-connect");
        command.arg(server.tls().to_string()).arg("-CAfile").arg(certificate(server));
        command.args(["-verify_return_error"]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("openssl is installed: see .ci/run");
        let (hears, heard) = channel();
        let mut stdout = child.stdout.take().unwrap();
        let reader = thread::Builder::new().name("s_client-out".to_owned()).spawn(move || {
            let mut chunk = vec![0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                if hears.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        drop(reader.unwrap());
        let (says, said) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = thread::Builder::new().name("s_client-err".to_owned()).spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if says.send(line).is_err() {
                    return;
                }
            }
        });
        drop(reader.unwrap());
        let keys = child.stdin.take();
        Self { child, keys, heard, said }
    }

    fn types(&mut self, bytes: &[u8]) {
        let keys = self.keys.as_mut().unwrap();
        keys.write_all(bytes).and_then(|()| keys.flush()).unwrap();
    }

    fn hears(&self) -> Vec<u8> {
        self.heard.recv_timeout(PATIENCE).expect("the server says something")
    }

    /// Waits for a line of its own.
    fn tells(&self, what: &str) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("openssl does not say {what}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    fn signs_in(&mut self, server: &Server, user: &str, connection: u64) {
        self.types(&first_words(server, user, connection));
        let mut bytes = self.hears();
        while is_welcome(&bytes).is_none() {
            bytes.extend(self.hears());
        }
        assert_eq!(is_welcome(&bytes), Some(true));
    }

    /// Says that it is there, and hears it back.
    fn beats(&mut self) {
        self.types(&[0]);
        assert_eq!(self.hears(), [0]);
    }

    /// Ends it as somebody who leaves.
    fn leaves(mut self) {
        drop(self.keys.take());
        assert!(waits_for(&mut self.child).success());
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// ---- rustls ----

struct Rustls {
    config: Arc<ClientConfig>,
}

impl Rustls {
    fn new(server: &Server, protocols: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate(server)).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self { config: Arc::new(config) }
    }

    fn connect(&self, server: &Server) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        StreamOwned::new(connection, socket(server))
    }
}

pub(crate) fn socket(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.tls()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn welcomed(stream: &mut impl Read) {
    let mut bytes = Vec::new();
    while is_welcome(&bytes).is_none() {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the connection ended");
        bytes.extend_from_slice(&chunk[..count]);
    }
    assert_eq!(is_welcome(&bytes), Some(true));
}

/// What the server says to raw bytes, until it closes.
fn answer_to(server: &Server, parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = socket(server);
    for part in parts {
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    // A reset ends it as well.
    drop(stream.read_to_end(&mut answer));
    answer
}

// ---- tests ----

on_both_drivers! {
    fn openssl_talks_pads_and_closes(driver) {
        let server = Setup::new(driver).with_tls().start();
        let suites = ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];
        for (number, suite) in (1..).zip(suites) {
            let more = ["-alpn", "roost/1", "-ciphersuites", suite, "-record_padding", "512"];
            let mut openssl = OpenSsl::start(&server, &more);
            assert!(openssl.tells("Ciphersuite").contains(suite));
            openssl.signs_in(&server, "ann", number);
            for _ in 0..100 {
                openssl.beats();
            }
            openssl.leaves();
        }
        server.metric_becomes(HANDSHAKES, |count| count == 2);
        server.metric_becomes(OPEN, |open| open == 0);
        assert_eq!(server.metric(FAILED), 0);
    }

    fn openssl_resumes_on_any_shard_and_after_a_restart(driver) {
        let server = Setup::new(driver).with_tls().shards(2).start();
        let session = server.path("session.pem");
        let session = session.to_str().unwrap();
        let mut openssl =
            OpenSsl::start(&server, &["-alpn", "roost/1", "-sess_out", session]);
        openssl.signs_in(&server, "ann", 1);
        openssl.leaves();
        server.metric_becomes(HANDSHAKES, |count| count == 1);
        assert_eq!(server.metric(RESUMED), 0);
        let resume = |server: &Server, connection| {
            let mut openssl = OpenSsl::start(server, &["-alpn", "roost/1", "-sess_in", session]);
            openssl.signs_in(server, "ann", connection);
            openssl.leaves();
        };
        for connection in 2..8 {
            resume(&server, connection);
        }
        server.metric_becomes(RESUMED, |count| count == 6);
        let server = server.start_again();
        resume(&server, 10);
        server.metric_becomes(RESUMED, |count| count == 1);
        assert_eq!(server.metric(HANDSHAKES), 1);
    }

    fn python_sends_records_of_one_byte(driver) {
        let server = Setup::new(driver).with_tls().start();
        let script = "\
import socket, ssl, sys
host, port, ca, words = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.set_alpn_protocols(['roost/1'])
session = None
for word in words:
    with socket.create_connection((host, port)) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_hostname='localhost', session=session) as tls:
            for byte in bytes.fromhex(word):
                tls.sendall(bytes([byte]))
            heard = tls.recv(65536)
            for byte in bytes(64):
                tls.sendall(bytes([byte]))
            beats = b''
            while len(beats) < 64:
                beats += tls.recv(65536)
            session = tls.session
            print(tls.selected_alpn_protocol(), tls.session_reused, heard.hex(), set(beats))
            tls.unwrap()
";
        let hex = |bytes: Vec<u8>| -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let output = Command::new("python3")
            .args(["-c", script, &server.tls().ip().to_string(), &server.tls().port().to_string()])
            .arg(certificate(&server))
            .args([hex(first_words(&server, "ann", 1)), hex(first_words(&server, "ann", 2))])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> =
            said.lines().map(|line| line.split(' ').collect()).collect();
        for (line, reused) in lines.iter().zip(["False", "True"]) {
            assert_eq!((line[0], line[1], line[3]), ("roost/1", reused, "{0}"));
            let bytes: Vec<u8> = (0..line[2].len() / 2)
                .map(|at| u8::from_str_radix(&line[2][at * 2..at * 2 + 2], 16).unwrap())
                .collect();
            assert_eq!(is_welcome(&bytes), Some(true));
        }
        assert_eq!(lines.len(), 2);
        assert_eq!(server.metric(FAILED), 0);
    }

    fn another_protocol_or_none_is_refused(driver) {
        let server = Setup::new(driver).with_tls().start();
        let openssl = OpenSsl::start(&server, &["-alpn", "h2"]);
        openssl.tells("no application protocol");
        server.metric_becomes(FAILED, |failed| failed == 1);
        // Without a name the handshake is done, and then refused in protected words.
        let mut stream = Rustls::new(&server, &[]).connect(&server);
        let error = stream.write_all(&PREFACE).and_then(|()| stream.read(&mut [0; 64]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
        server.metric_becomes(FAILED, |failed| failed == 2);
        server.metric_becomes(OPEN, |open| open == 0);
    }

    fn garbage_instead_of_a_hello_is_answered_with_an_alert(driver) {
        let server = Setup::new(driver).with_tls().start();
        let mut bystanders = Bystanders::new(&server);
        let wrong: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"ROO\x01",
            &[22, 3, 1, 0xff, 0xff],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &FORGED,
            &[0x80, 0x2e, 1, 0, 2],
        ];
        for (count, bytes) in (1..).zip(wrong) {
            let answer = answer_to(&server, &[bytes]);
            assert_eq!((answer.len(), answer[0], answer[5]), (7, 21, 2), "{bytes:?}");
            server.metric_becomes(FAILED, |failed| failed == count);
        }
        bystanders.are_unharmed();
        server.metric_becomes(IN_PROGRESS, |count| count == 0);
    }

    fn a_hello_without_end_is_cut_off(driver) {
        let server = Setup::new(driver).with_tls().start();
        let mut bystanders = Bystanders::new(&server);
        // A hello of 60,000 bytes in records that are each fine.
        let first = [&[22, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60][..], &vec![0; 16_380]].concat();
        let next = [&[22, 3, 1, 0x40, 0][..], &vec![0; 16_384]].concat();
        let answer = answer_to(&server, &[&first, &next, &next]);
        // If bytes were still coming when it closed, the reset may have overtaken the alert.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        server.metric_becomes(FAILED, |failed| failed == 1);
        server.metric_becomes(OPEN, |open| open == 2);
        bystanders.are_unharmed();
    }

    fn garbage_behind_the_handshake_ends_that_connection_only(driver) {
        let server = Setup::new(driver).with_tls().start();
        let client = Rustls::new(&server, &[b"roost/1"]);
        let mut other = client.connect(&server);
        other.write_all(&first_words(&server, "other", 1)).unwrap();
        welcomed(&mut other);
        let wrong: [(&[u8], &str); 5] = [
            (&FORGED, "BadRecordMac"),
            (&[22, 3, 3, 0, 4, 1, 0, 0, 0], "UnexpectedMessage"),
            (&[20, 3, 3, 0, 1, 1], "UnexpectedMessage"),
            (&[23, 3, 3, 0x41, 1], "RecordOverflow"),
            (b"GET / HTTP/1.1\r\n\r\n", "UnexpectedMessage"),
        ];
        for (count, (bytes, alert)) in (1..).zip(wrong) {
            let mut stream = client.connect(&server);
            stream.write_all(&first_words(&server, "eve", count)).unwrap();
            welcomed(&mut stream);
            stream.sock.write_all(bytes).unwrap();
            let error = stream.read(&mut [0; 64]).unwrap_err().to_string();
            assert!(error.contains(alert), "{bytes:?}: {error}");
            server.metric_becomes(FAILED, |failed| failed == count);
        }
        other.write_all(&[0]).unwrap();
        let mut beat = [1];
        other.read_exact(&mut beat).unwrap();
        assert_eq!(beat, [0]);
        server.metric_becomes(OPEN, |open| open == 1);
    }

    fn half_open_handshakes_cost_little_and_go(driver) {
        let config = "limits.hello_timeout_ms = 2000\nlimits.handshakes_in_progress_max = 64\n";
        let server = Setup::new(driver).with_tls().shards(1).config(config).start();
        let client = Rustls::new(&server, &[b"roost/1"]);
        let mut bytes = Vec::new();
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&client.config), name).unwrap();
        connection.write_tls(&mut bytes).unwrap();
        // Silent ones, ones that stop in the middle of a hello, and ones that stop behind it.
        let mut held = Vec::new();
        for part in [0, 1, 5, bytes.len() - 1, bytes.len()] {
            for _ in 0..100 {
                let mut stream = socket(&server);
                stream.write_all(&bytes[..part]).unwrap();
                held.push(stream);
            }
        }
        // All come in, as many as may be shake hands at a time, and all have had their time in the
        // end. What is so for a moment only may pass unseen.
        server.metric_becomes("roost_connections_total", |total| {
            assert!(server.metric(IN_PROGRESS) <= 64);
            total == 500
        });
        server.metric_becomes(OPEN, |open| open == 0);
        server.metric_becomes(IN_PROGRESS, |count| count == 0);
        let mut stream = client.connect(&server);
        stream.write_all(&first_words(&server, "ann", 1)).unwrap();
        welcomed(&mut stream);
        drop(held);
    }

    fn a_hello_or_a_record_that_drips_in_has_no_more_time_than_others(driver) {
        let config = "limits.half_frame_timeout_ms = 600\nlimits.hello_timeout_ms = 1000\n";
        let server = Setup::new(driver).with_tls().config(config).start();
        let drips = |stream: &mut TcpStream, bytes: &[u8]| {
            stream.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
            let is_quiet = |stream: &TcpStream| stream.peek(&mut [0]).is_err();
            bytes.iter().all(|byte| stream.write_all(&[*byte]).is_ok() && is_quiet(stream))
        };
        let mut stream = socket(&server);
        assert!(!drips(&mut stream, &[&[22, 3, 1, 8, 0][..], &[1; 2_000]].concat()));
        let client = Rustls::new(&server, &[b"roost/1"]);
        let words = first_words(&server, "ann", 1);
        let mut stream = client.connect(&server);
        stream.write_all(&words).unwrap();
        welcomed(&mut stream);
        assert!(!drips(&mut stream.sock, &[&[23, 3, 3, 8, 0][..], &[1; 2_000]].concat()));
        server.metric_becomes(OPEN, |open| open == 0);
    }

    fn handshakes_take_turns_and_none_starves(driver) {
        let config = "limits.handshake_steps_per_turn_max = 1\n\
                      limits.handshakes_in_progress_max = 16\n";
        let server = Setup::new(driver).with_tls().shards(1).config(config).start();
        let client = Rustls::new(&server, &[b"roost/1"]);
        let mut bystanders = Bystanders::new(&server);
        let mut streams: Vec<_> = (0..200).map(|_| client.connect(&server)).collect();
        for stream in &mut streams {
            // All say Hello before any of them listens.
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock).unwrap();
            }
        }
        bystanders.are_unharmed();
        for (connection, stream) in (1..).zip(streams.iter_mut()) {
            stream.write_all(&first_words(&server, &format!("user{connection}"), 1)).unwrap();
            welcomed(stream);
        }
        server.metric_becomes(HANDSHAKES, |count| count == 200);
        assert_eq!(server.metric(FAILED), 0);
    }

    fn the_last_words_are_followed_by_close_notify(driver) {
        let server = Setup::new(driver).with_tls().start();
        let client = Rustls::new(&server, &[b"roost/1"]);
        let mut stream = client.connect(&server);
        stream.write_all(b"wrong").unwrap();
        // The error frame, then a clean end: rustls makes an error of any other.
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(is_welcome(&bytes) == Some(false));
        let mut plain = Device::sign_in(&server, "plain");
        plain.wire.is_alive();
    }
}
