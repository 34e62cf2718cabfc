//! Tokens that must not open the door, each with the code that PROTOCOL.md section 6 names.

use crate::device::{Bystanders, Device, Wire, hello};
use crate::roost::{Server, Setup, on_both_drivers};
use jsonwebtoken::{Algorithm, EncodingKey};
use roost_gateway::keys::SigningKey;
use roost_protocol::error::name;
use roost_protocol::wire::ErrorCode;
use roost_protocol::wire::client_frame::Body as Ask;
use roost_protocol::wire::server_frame::Body as Told;
use roost_protocol::wire::{self};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const REFUSED: &str = "roost_hellos_refused_total";

/// An app's backend with a key of its own, called `app`.
struct Backend {
    folder: TempDir,
}

fn now_s() -> u64 {
    roost_event_loop::now().wall.ms / 1_000
}

impl Backend {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        SigningKey::load_or_create(folder.path()).unwrap();
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("keys").join(name)
    }

    /// What the server is told of this key.
    fn config(&self) -> String {
        let public = self.file("token-public.pem");
        let key = format!("kid = \"app\"\nalgorithm = \"EdDSA\"\nfile = {:?}\n", public);
        format!("[auth]\naudience = \"roost\"\nissuer = \"app\"\n[[auth.keys]]\n{key}")
    }

    fn key(&self) -> EncodingKey {
        EncodingKey::from_ed_pem(&fs::read(self.file("token-signing.pem")).unwrap()).unwrap()
    }

    fn claims(&self) -> Value {
        let (iat, exp) = (now_s(), now_s() + 3_600);
        json!({"sub": "eve", "aud": "roost", "iss": "app", "iat": iat, "exp": exp})
    }

    /// Good claims, but for one; null leaves it out.
    fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        let object = claims.as_object_mut().unwrap();
        object.remove(name);
        if !value.is_null() {
            object.insert(name.to_owned(), value);
        }
        claims
    }

    fn token(&self, claims: &Value) -> String {
        signed(&header("EdDSA"), claims, &self.key(), Algorithm::EdDSA)
    }
}

fn header(alg: &str) -> Value {
    json!({"typ": "JWT", "alg": alg, "kid": "app"})
}

fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// Base64url without padding.
fn part(value: &Value) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in value.to_string().as_bytes().chunks(3) {
        let byte = |at: usize| usize::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.extend((0..=group.len()).map(|at| char::from(LETTERS[bits >> (18 - 6 * at) & 63])));
    }
    text
}

/// Shows a token; asserts the code it is refused with, the end, and the counter.
#[track_caller]
fn refused(server: &Server, what: &str, token: &str, counter: &str, code: ErrorCode) {
    let before = server.metric(counter);
    let mut wire = Wire::open(server.tcp);
    wire.ask(9, Ask::Hello(hello(token, 1, 1)));
    // What follows Hello in the same breath is refused with it.
    wire.ask(10, Ask::Sync(wire::Sync::default()));
    let (request_id, error) = wire.refused_hello();
    assert_eq!((name(error.code()), request_id), (name(code), 9), "{what}: {}", error.text);
    server.metric_rises(counter, before);
}

/// Two who have tokens of the data folder's own key cannot enter here; these two are of the app.
#[track_caller]
fn enter(server: &Server, backend: &Backend, user: &str) -> Device {
    let token = backend.token(&backend.claims_with("sub", json!(user)));
    let mut wire = Wire::open(server.tcp);
    wire.ask(1, Ask::Hello(hello(&token, 1, 1)));
    Device::welcomed(wire)
}

on_both_drivers! {
    fn tokens_with_wrong_claims(driver) {
        let backend = Backend::new();
        let server = Setup::new(driver).config(&backend.config()).start();
        let mut bystanders = Bystanders::of(
            enter(&server, &backend, "ann"),
            enter(&server, &backend, "bob"),
        );
        let claims = ErrorCode::ErrorTokenClaims;
        let early = ErrorCode::ErrorTokenNotYetValid;
        // What is so for a minute only is made just before it is shown.
        for (claim, from_now_s, code) in [
            ("exp", -61, ErrorCode::ErrorTokenExpired),
            ("exp", 400 * 24 * 60 * 60, claims),
            ("iat", 120, early),
            ("nbf", 120, early),
        ] {
            let value = json!(now_s().saturating_add_signed(from_now_s));
            let token = backend.token(&backend.claims_with(claim, value.clone()));
            refused(&server, &format!("{claim} {value}"), &token, REFUSED, code);
        }
        let wrong = [
            ("exp", json!(null), claims),
            ("exp", json!("tomorrow"), claims),
            ("iat", json!(null), claims),
            ("aud", json!("another"), ErrorCode::ErrorTokenAudience),
            ("aud", json!(["another", "third"]), ErrorCode::ErrorTokenAudience),
            ("aud", json!(null), ErrorCode::ErrorTokenAudience),
            ("iss", json!("another"), ErrorCode::ErrorTokenIssuer),
            ("sub", json!(""), claims),
            ("sub", json!("s".repeat(65)), claims),
            ("sub", json!("a\nb"), claims),
            ("sub", json!(null), claims),
            ("device", json!(""), claims),
            ("device", json!("d".repeat(65)), claims),
        ];
        for (claim, value, code) in wrong {
            let token = backend.token(&backend.claims_with(claim, value.clone()));
            refused(&server, &format!("{claim} {value}"), &token, REFUSED, code);
        }
        // Within the leeway of a minute both clocks are right.
        for (claim, from_now_s) in [("exp", -20), ("nbf", 20), ("iat", 20)] {
            let value = now_s().saturating_add_signed(from_now_s);
            let mut claims = backend.claims_with(claim, json!(value));
            claims["iat"] = json!(claims["iat"].as_u64().unwrap().min(value));
            claims["sub"] = json!(format!("in time by {claim}"));
            let mut wire = Wire::open(server.tcp);
            wire.ask(1, Ask::Hello(hello(&backend.token(&claims), 1, 1)));
            Device::welcomed(wire).leave();
        }
        bystanders.are_unharmed();
    }

    fn tokens_that_are_not_signed_as_they_must(driver) {
        let backend = Backend::new();
        let stranger = Backend::new();
        let server = Setup::new(driver).config(&backend.config()).start();
        let mut bystanders = Bystanders::of(
            enter(&server, &backend, "ann"),
            enter(&server, &backend, "bob"),
        );
        let (good, claims) = (backend.token(&backend.claims()), backend.claims());
        let with = |header: Value| signed(&header, &claims, &backend.key(), Algorithm::EdDSA);
        let public = fs::read(backend.file("token-public.pem")).unwrap();
        let secret = EncodingKey::from_secret(&public);
        let hmac = signed(&header("HS256"), &claims, &secret, Algorithm::HS256);
        let none = format!("{}.{}.", part(&header("none")), part(&claims));
        let critical = json!({"alg": "EdDSA", "kid": "app", "crit": ["b64"], "b64": false});
        let (body, signature) = good.rsplit_once('.').unwrap();
        let algorithm = ErrorCode::ErrorTokenAlgorithm;
        let unknown = ErrorCode::ErrorTokenKeyUnknown;
        let wrong_signature = ErrorCode::ErrorTokenSignature;
        let malformed = ErrorCode::ErrorTokenMalformed;
        let wrong = [
            ("of a stranger's key", stranger.token(&claims), wrong_signature),
            ("of other claims", format!("{}.{signature}", part(&header("EdDSA")) + "." +
                &part(&backend.claims_with("sub", json!("ann")))), wrong_signature),
            ("alg none", none, algorithm),
            ("alg none, signed", with(header("none")), algorithm),
            ("alg None", with(header("None")), algorithm),
            ("the public key as a secret", hmac, algorithm),
            ("another alg", with(header("ES256")), algorithm),
            ("unknown kid", with(json!({"alg": "EdDSA", "kid": "other"})), unknown),
            ("no kid", with(json!({"alg": "EdDSA"})), unknown),
            ("crit", with(critical), malformed),
            ("two parts", body.to_owned(), malformed),
            ("padding", format!("{good}=="), malformed),
            ("no JSON", "a.b.c".to_owned(), malformed),
        ];
        for (what, token, code) in wrong {
            refused(&server, what, &token, REFUSED, code);
        }
        // A signature cut short is wrong, or not even one.
        let before = server.metric(REFUSED);
        let mut wire = Wire::open(server.tcp);
        wire.ask(9, Ask::Hello(hello(&format!("{body}."), 1, 1)));
        let (_, error) = wire.refused_hello();
        assert!([wrong_signature, malformed].contains(&error.code()), "{error:?}");
        server.metric_rises(REFUSED, before);
        // The data folder's own key is nobody here.
        let own = SigningKey::load_or_create(server.data()).unwrap();
        assert!(own.kid().starts_with("dev-"));
        refused(&server, "the folder's own key", &server.token("eve"), REFUSED, unknown);
        bystanders.are_unharmed();
    }

    fn a_token_that_is_too_long(driver) {
        let server = Setup::new(driver).shards(1).log("debug").start();
        let mut bystanders = Bystanders::new(&server);
        let frames = "roost_frames_refused_total";
        for bytes in [4097, 8000] {
            let token = "t".repeat(bytes);
            refused(&server, "too long", &token, frames, ErrorCode::ErrorTokenTooLong);
        }
        let malformed = ErrorCode::ErrorTokenMalformed;
        refused(&server, "the longest", &"t".repeat(4096), frames, malformed);
        let line = server.logs("refused at hello");
        assert!(line.contains("code=ErrorTokenMalformed"), "{line}");
        bystanders.are_unharmed();
    }

    fn a_bad_refresh_leaves_the_connection(driver) {
        let server = Setup::new(driver).start();
        let mut bystanders = Bystanders::new(&server);
        let mut device = Device::sign_in(&server, "eve");
        let refresh = |token: String| Ask::Refresh(wire::Refresh { token });
        let wrong = [
            (server.token("ann"), ErrorCode::ErrorTokenOtherUser),
            ("a.b.c".to_owned(), ErrorCode::ErrorTokenMalformed),
            (String::new(), ErrorCode::ErrorTokenMalformed),
            ("t".repeat(4097), ErrorCode::ErrorTokenTooLong),
        ];
        for (token, code) in wrong {
            let before = server.metric("roost_refusals_total");
            assert_eq!(device.refused(refresh(token)).code(), code);
            server.metric_rises("roost_refusals_total", before);
        }
        // Each is answered, so it does not count as unanswered: more than may be in flight.
        for _ in 0..100 {
            let Told::Refreshed(refreshed) = device.ask(refresh(server.token("eve"))) else {
                panic!("not refreshed")
            };
            assert!(!refreshed.ticket.is_empty());
        }
        device.wire.is_alive();
        bystanders.are_unharmed();
    }
}
