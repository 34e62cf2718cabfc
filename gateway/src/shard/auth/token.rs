//! JSON Web Tokens: from text to claims, or the rule that refuses it.
//!
//! The token says which key it was signed with (`kid`), the key says which algorithm; what the
//! token says about the algorithm must agree and decides nothing.

pub use crate::shard::auth::key::{TokenAlgorithm, TokenKey, TokenKeyError, TokenKeys};
use roost_protocol::error::Refusal;
use roost_protocol::ids::{DeviceId, UserId};
use roost_protocol::limits::TOKEN_MAX_BYTES;
use roost_protocol::time::Timestamp;
use roost_protocol::wire::ErrorCode;
use serde_json::{Map, Value};

/// Most bytes of the claim `device`.
pub const DEVICE_NAME_MAX_BYTES: usize = 64;
/// What a token must say besides being signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// `aud` must be this or hold it, if given.
    pub audience: Option<String>,
    /// `iss` must be this, if given.
    pub issuer: Option<String>,
    /// How far apart the clocks of issuer and server may be. Default 60 s.
    pub leeway_s: u64,
    /// The longest from `iat` to `exp`: for so long a signed-out device is remembered. Default
    /// 366 days.
    pub life_max_s: u64,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self { audience: None, issuer: None, leeway_s: 60, life_max_s: 366 * 24 * 60 * 60 }
    }
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub user: UserId,
    /// `device`, if the token names one.
    pub device: Option<DeviceId>,
    /// `iat`, in milliseconds since 1970.
    pub issued_ms: u64,
    /// `exp`, in milliseconds since 1970, without leeway.
    pub expires_ms: u64,
}

/// Checks a token at a time.
///
/// # Errors
/// The first rule that it breaks: form, key and algorithm, signature, then claims.
pub fn verify(
    keys: &TokenKeys,
    rules: &TokenRules,
    token: &str,
    now: Timestamp,
) -> Result<Claims, Refusal> {
    if token.len() > TOKEN_MAX_BYTES {
        return refuse(ErrorCode::ErrorTokenTooLong, "a token has at most 4096 bytes");
    }
    let malformed = || Refusal::new(ErrorCode::ErrorTokenMalformed, "this is not a JSON Web Token");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
    let header = object(header).ok_or_else(malformed)?;
    let payload = object(payload).ok_or_else(malformed)?;
    let key = choose_key(keys, &header)?;
    let algorithm = key.algorithm.in_library();
    match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm) {
        Ok(true) => read_claims(&payload, rules, now),
        Ok(false) => refuse(ErrorCode::ErrorTokenSignature, "the signature does not match"),
        Err(_) => Err(malformed()),
    }
}

fn refuse<T>(code: ErrorCode, text: &'static str) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

/// A part of a token: base64url without padding, of a JSON object. A name that is repeated counts
/// as it stands last.
fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decode_base64url(part)?).ok()
}

fn choose_key<'a>(
    keys: &'a TokenKeys,
    header: &Map<String, Value>,
) -> Result<&'a TokenKey, Refusal> {
    if header.contains_key("crit") {
        return refuse(ErrorCode::ErrorTokenMalformed, "crit names extensions, none is supported");
    }
    let Some(algorithm) = header.get("alg").and_then(Value::as_str) else {
        return refuse(ErrorCode::ErrorTokenMalformed, "the header has no alg");
    };
    if algorithm.eq_ignore_ascii_case("none") {
        return refuse(ErrorCode::ErrorTokenAlgorithm, "a token must be signed");
    }
    let Some(kid) = header.get("kid").and_then(Value::as_str) else {
        return refuse(ErrorCode::ErrorTokenKeyUnknown, "the header has no kid");
    };
    let Some(key) = keys.find(kid) else {
        return refuse(ErrorCode::ErrorTokenKeyUnknown, "no key with this kid is configured");
    };
    if key.algorithm.name() != algorithm {
        return refuse(ErrorCode::ErrorTokenAlgorithm, "alg is not the algorithm of this kid");
    }
    Ok(key)
}

fn read_claims(
    payload: &Map<String, Value>,
    rules: &TokenRules,
    now: Timestamp,
) -> Result<Claims, Refusal> {
    let (issued_ms, expires_ms) = read_times(payload, rules, now)?;
    check_audience(payload, rules)?;
    if let Some(issuer) = &rules.issuer
        && payload.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return refuse(ErrorCode::ErrorTokenIssuer, "iss is not the issuer configured here");
    }
    let subject = payload.get("sub").and_then(Value::as_str);
    let Some(user) = subject.and_then(|text| UserId::new(text).ok()) else {
        let text = "sub must be 1 to 64 bytes of text without control characters";
        return refuse(ErrorCode::ErrorTokenClaims, text);
    };
    let device = match payload.get("device") {
        None => None,
        Some(Value::String(name)) if is_device_name(name) => Some(DeviceId::named(name)),
        Some(_) => {
            return refuse(ErrorCode::ErrorTokenClaims, "device must be 1 to 64 bytes of text");
        }
    };
    Ok(Claims { user, device, issued_ms, expires_ms })
}

/// Whether the claim `device` may be this.
#[must_use]
pub const fn is_device_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= DEVICE_NAME_MAX_BYTES
}

fn check_audience(payload: &Map<String, Value>, rules: &TokenRules) -> Result<(), Refusal> {
    let Some(audience) = &rules.audience else { return Ok(()) };
    let is_meant = match payload.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    };
    if is_meant {
        return Ok(());
    }
    refuse(ErrorCode::ErrorTokenAudience, "aud does not hold the audience configured here")
}

/// `iat` and `exp` in milliseconds, checked, with `nbf`, against the clock.
fn read_times(
    payload: &Map<String, Value>,
    rules: &TokenRules,
    now: Timestamp,
) -> Result<(u64, u64), Refusal> {
    let expires_ms = date_ms(payload, "exp", "exp must be a number of seconds since 1970")?;
    let issued_ms = date_ms(payload, "iat", "iat must be a number of seconds since 1970")?;
    let (Some(expires_ms), Some(issued_ms)) = (expires_ms, issued_ms) else {
        return refuse(ErrorCode::ErrorTokenClaims, "a token must have exp and iat");
    };
    let not_before_ms = date_ms(payload, "nbf", "nbf must be a number of seconds since 1970")?;
    let leeway_ms = rules.leeway_s.saturating_mul(1_000);
    if now.ms >= expires_ms.saturating_add(leeway_ms) {
        return refuse(ErrorCode::ErrorTokenExpired, "the token has expired");
    }
    let latest_ms = now.ms.saturating_add(leeway_ms);
    if issued_ms > latest_ms || not_before_ms.is_some_and(|ms| ms > latest_ms) {
        return refuse(ErrorCode::ErrorTokenNotYetValid, "the token is not valid yet (iat, nbf)");
    }
    let life_max_ms = rules.life_max_s.saturating_mul(1_000);
    if expires_ms > issued_ms.saturating_add(life_max_ms) {
        return refuse(ErrorCode::ErrorTokenClaims, "exp is too long after iat");
    }
    Ok((issued_ms, expires_ms))
}

/// A date of RFC 7519: seconds since 1970, whole or not.
fn date_ms(
    payload: &Map<String, Value>,
    name: &str,
    text: &'static str,
) -> Result<Option<u64>, Refusal> {
    let Some(value) = payload.get(name) else { return Ok(None) };
    let ms = value
        .as_u64()
        .map(|seconds| seconds.saturating_mul(1_000))
        .or_else(|| value.as_f64().and_then(seconds_to_ms));
    match ms {
        Some(ms) => Ok(Some(ms)),
        None => refuse(ErrorCode::ErrorTokenClaims, text),
    }
}

fn seconds_to_ms(seconds: f64) -> Option<u64> {
    let good = seconds.is_finite() && (0.0..1e12).contains(&seconds);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 and 1e15, and a fraction of a millisecond does not matter"
    )]
    good.then_some((seconds * 1_000.0) as u64)
}

/// Base64 for URLs without padding; None when it is anything else, or not the one way to write
/// these bytes.
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let mut bits: u32 = 0;
    let mut held: u32 = 0;
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held).expect("fewer than 8 bits are carried on"));
            bits &= (1 << held) - 1;
        }
    }
    (held < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::EncodingKey;
    use rcgen::{KeyPair, RsaKeySize, SignatureAlgorithm};
    use serde_json::json;
    use std::sync::OnceLock;

    const NOW: Timestamp = Timestamp { ms: 1_800_000_000_000 };
    const NOW_S: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

    struct Fixture {
        ed: KeyPair,
        ec: KeyPair,
        rsa: KeyPair,
    }

    fn fixture() -> &'static Fixture {
        static FIXTURE: OnceLock<Fixture> = OnceLock::new();
        let pair =
            |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).unwrap();
        FIXTURE.get_or_init(|| Fixture {
            ed: pair(&rcgen::PKCS_ED25519),
            ec: pair(&rcgen::PKCS_ECDSA_P256_SHA256),
            rsa: KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        })
    }

    fn public(kid: &str, algorithm: TokenAlgorithm, pair: &KeyPair) -> TokenKey {
        TokenKey::from_pem(kid, algorithm, pair.public_key_pem().as_bytes()).unwrap()
    }

    fn keys() -> TokenKeys {
        let Fixture { ed, ec, rsa } = fixture();
        TokenKeys::new(vec![
            public("ed", TokenAlgorithm::EdDSA, ed),
            public("ec", TokenAlgorithm::ES256, ec),
            public("rsa", TokenAlgorithm::RS256, rsa),
            TokenKey::from_secret("hs", SECRET).unwrap(),
        ])
        .unwrap()
    }

    fn rules() -> TokenRules {
        TokenRules {
            audience: Some("roost".to_owned()),
            issuer: Some("app".to_owned()),
            ..TokenRules::default()
        }
    }

    fn claims() -> Value {
        json!({"sub": "ann", "aud": "roost", "iss": "app", "iat": NOW_S, "exp": NOW_S + 3600})
    }

    /// The good claims with one changed, or taken away by null.
    fn claims_with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        let object = claims.as_object_mut().unwrap();
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.to_owned(), value);
        }
        claims
    }

    fn encode_base64url(bytes: &[u8]) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for at in 0..=group.len() {
                let index = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap();
                text.push(char::from(LETTERS[index]));
            }
        }
        text
    }

    fn part(value: &Value) -> String {
        encode_base64url(value.to_string().as_bytes())
    }

    fn signed_by(header: &Value, claims: &Value, alg: TokenAlgorithm, key: &EncodingKey) -> String {
        let message = format!("{}.{}", part(header), part(claims));
        let algorithm = alg.in_library();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn ed_key() -> EncodingKey {
        EncodingKey::from_ed_der(fixture().ed.serialized_der())
    }

    fn with_header(header: &Value) -> String {
        signed_by(header, &claims(), TokenAlgorithm::EdDSA, &ed_key())
    }

    fn token(claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": "ed", "typ": "JWT"});
        signed_by(&header, claims, TokenAlgorithm::EdDSA, &ed_key())
    }

    fn check(token: &str) -> Result<Claims, Refusal> {
        verify(&keys(), &rules(), token, NOW)
    }

    fn code(token: &str) -> ErrorCode {
        check(token).unwrap_err().code
    }

    fn code_with(name: &str, value: Value) -> ErrorCode {
        code(&token(&claims_with(name, value)))
    }

    #[test]
    fn each_algorithm_is_accepted() {
        let Fixture { ec, rsa, .. } = fixture();
        let signers = [
            ("ed", TokenAlgorithm::EdDSA, ed_key()),
            ("ec", TokenAlgorithm::ES256, EncodingKey::from_ec_der(ec.serialized_der())),
            (
                "rsa",
                TokenAlgorithm::RS256,
                EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap(),
            ),
            ("hs", TokenAlgorithm::HS256, EncodingKey::from_secret(SECRET)),
        ];
        for (kid, algorithm, key) in signers {
            let header = json!({"alg": algorithm.name(), "kid": kid});
            let token = signed_by(&header, &claims(), algorithm, &key);
            let claims = check(&token).unwrap();
            assert_eq!(claims.user.as_str(), "ann");
            assert_eq!(claims.device, None);
            assert_eq!((claims.issued_ms, claims.expires_ms), (NOW.ms, NOW.ms + 3_600_000));
        }
    }

    #[test]
    fn the_device_is_named_by_the_token() {
        let claims = check(&token(&claims_with("device", json!("phone")))).unwrap();
        assert_eq!(claims.device, Some(DeviceId::named("phone")));
        let longest = "d".repeat(64);
        assert!(check(&token(&claims_with("device", json!(longest)))).is_ok());
        for bad in [json!(""), json!("d".repeat(65)), json!(7), json!({})] {
            assert_eq!(code_with("device", bad), ErrorCode::ErrorTokenClaims);
        }
    }

    #[test]
    fn expired() {
        // 60 s of leeway, and not a second more.
        assert!(check(&token(&claims_with("exp", json!(NOW_S - 59)))).is_ok());
        assert_eq!(code_with("exp", json!(NOW_S - 60)), ErrorCode::ErrorTokenExpired);
    }

    #[test]
    fn not_yet_valid() {
        for name in ["nbf", "iat"] {
            assert!(check(&token(&claims_with(name, json!(NOW_S + 60)))).is_ok());
            assert_eq!(code_with(name, json!(NOW_S + 61)), ErrorCode::ErrorTokenNotYetValid);
        }
    }

    #[test]
    fn wrongly_signed() {
        let stranger = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let key = EncodingKey::from_ed_der(stranger.serialized_der());
        let header = json!({"alg": "EdDSA", "kid": "ed"});
        let forged = signed_by(&header, &claims(), TokenAlgorithm::EdDSA, &key);
        assert_eq!(code(&forged), ErrorCode::ErrorTokenSignature);

        let good = token(&claims());
        let (message, _) = good.rsplit_once('.').unwrap();
        assert_eq!(code(&format!("{message}.")), ErrorCode::ErrorTokenSignature);
        let other = token(&claims_with("sub", json!("bob")));
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert_eq!(code(&format!("{message}.{signature}")), ErrorCode::ErrorTokenSignature);
    }

    #[test]
    fn the_audience_is_one_or_among_many() {
        assert!(check(&token(&claims_with("aud", json!(["mail", "roost"])))).is_ok());
        for bad in [json!("mail"), json!(["mail"]), json!([]), json!(7), Value::Null] {
            assert_eq!(code_with("aud", bad), ErrorCode::ErrorTokenAudience);
        }
    }

    #[test]
    fn the_issuer_is_exact() {
        for bad in [json!("App"), json!(["app"]), Value::Null] {
            assert_eq!(code_with("iss", bad), ErrorCode::ErrorTokenIssuer);
        }
    }

    #[test]
    fn audience_and_issuer_do_not_matter_unless_configured() {
        let mut claims = claims_with("aud", Value::Null);
        claims.as_object_mut().unwrap().remove("iss");
        assert!(verify(&keys(), &TokenRules::default(), &token(&claims), NOW).is_ok());
    }

    #[test]
    fn unsigned() {
        for alg in ["none", "None", "NONE"] {
            let header = json!({"alg": alg, "kid": "ed"});
            let unsigned = format!("{}.{}.", part(&header), part(&claims()));
            assert_eq!(code(&unsigned), ErrorCode::ErrorTokenAlgorithm);
        }
    }

    #[test]
    fn a_kid_has_one_algorithm() {
        for alg in ["ES256", "HS256", "HS512", "eddsa"] {
            let token = with_header(&json!({"alg": alg, "kid": "ed"}));
            assert_eq!(code(&token), ErrorCode::ErrorTokenAlgorithm);
        }
    }

    #[test]
    fn the_text_of_a_public_key_is_no_secret() {
        let Fixture { ed, ec, rsa } = fixture();
        for (kid, pair) in [("ed", ed), ("ec", ec), ("rsa", rsa)] {
            let pem = pair.public_key_pem();
            let key = EncodingKey::from_secret(pem.as_bytes());
            let header = json!({"alg": "HS256", "kid": kid});
            let token = signed_by(&header, &claims(), TokenAlgorithm::HS256, &key);
            assert_eq!(code(&token), ErrorCode::ErrorTokenAlgorithm);
            let error = TokenKey::from_secret("hs", pem.as_bytes()).unwrap_err();
            assert_eq!(error, TokenKeyError::SecretIsPem);
        }
    }

    #[test]
    fn an_unknown_kid_or_none() {
        let unknown = with_header(&json!({"alg": "EdDSA", "kid": "other"}));
        assert_eq!(code(&unknown), ErrorCode::ErrorTokenKeyUnknown);
        for header in [json!({"alg": "EdDSA"}), json!({"alg": "EdDSA", "kid": 1})] {
            let token = with_header(&header);
            assert_eq!(code(&token), ErrorCode::ErrorTokenKeyUnknown);
            let one = vec![public("ed", TokenAlgorithm::EdDSA, &fixture().ed)];
            let one = TokenKeys::new(one).unwrap();
            let refusal = verify(&one, &rules(), &token, NOW).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::ErrorTokenKeyUnknown, "a single key is no default");
        }
    }

    #[test]
    fn extensions_are_refused() {
        for crit in [json!(["b64"]), json!([]), Value::Null] {
            let token = with_header(&json!({"alg": "EdDSA", "kid": "ed", "crit": crit}));
            assert_eq!(code(&token), ErrorCode::ErrorTokenMalformed);
        }
    }

    #[test]
    fn dates_are_needed_and_are_numbers() {
        for name in ["exp", "iat"] {
            assert_eq!(code_with(name, Value::Null), ErrorCode::ErrorTokenClaims);
        }
        for name in ["exp", "iat", "nbf"] {
            for bad in [json!("1800000000"), json!(-1), json!(true), json!(1e300)] {
                assert_eq!(code_with(name, bad), ErrorCode::ErrorTokenClaims);
            }
        }
        let fraction = check(&token(&claims_with("iat", json!(1_799_999_999.5)))).unwrap();
        assert_eq!(fraction.issued_ms, NOW.ms - 500);
    }

    #[test]
    fn a_life_is_bounded() {
        let year = 366 * 24 * 3600;
        assert!(check(&token(&claims_with("exp", json!(NOW_S + year)))).is_ok());
        for bad in [json!(NOW_S + year + 1), json!(u64::MAX)] {
            assert_eq!(code_with("exp", bad), ErrorCode::ErrorTokenClaims);
        }
        assert_eq!(code_with("iat", json!(0)), ErrorCode::ErrorTokenClaims);
    }

    #[test]
    fn the_subject_is_a_user_id() {
        assert!(check(&token(&claims_with("sub", json!("s".repeat(64))))).is_ok());
        let bad = [json!(""), json!("s".repeat(65)), json!("a\nb"), json!(7), Value::Null];
        for bad in bad {
            assert_eq!(code_with("sub", bad), ErrorCode::ErrorTokenClaims);
        }
    }

    #[test]
    fn too_long() {
        let padding = |length| token(&claims_with("x", json!("x".repeat(length))));
        let spare = TOKEN_MAX_BYTES - padding(0).len();
        let fits = padding(spare * 3 / 4 - 2);
        assert!(fits.len() <= TOKEN_MAX_BYTES && check(&fits).is_ok());
        let long = padding(spare * 3 / 4 + 3);
        assert!(long.len() > TOKEN_MAX_BYTES);
        assert_eq!(code(&long), ErrorCode::ErrorTokenTooLong);
        assert_eq!(code(&"x".repeat(TOKEN_MAX_BYTES + 1)), ErrorCode::ErrorTokenTooLong);
    }

    #[test]
    fn malformed() {
        let good = token(&claims());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let (header, payload) = message.split_once('.').unwrap();
        let no_json = encode_base64url(b"not json");
        let no_object = encode_base64url(b"[\"EdDSA\",\"ed\"]");
        let cases = [
            String::new(),
            "..".to_owned(),
            header.to_owned(),
            message.to_owned(),
            format!("{good}."),
            format!("{good}.{signature}"),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}.{payload}.{signature}=="),
            format!("{header}. {payload}.{signature}"),
            format!("{no_json}.{payload}.{signature}"),
            format!("{no_object}.{payload}.{signature}"),
            format!("{header}.{no_json}.{signature}"),
            with_header(&json!({"kid": "ed"})),
        ];
        for case in cases {
            assert_eq!(code(&case), ErrorCode::ErrorTokenMalformed, "{case}");
        }
    }

    #[test]
    fn no_changed_byte_passes() {
        let good = token(&claims());
        for at in 0..good.len() {
            for replacement in ["A", "B", "."] {
                let mut changed = good.clone();
                changed.replace_range(at..=at, replacement);
                assert!(changed == good || check(&changed).is_err());
            }
        }
    }

    #[test]
    fn base64_is_read_as_it_is_written_and_only_so() {
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(77)).collect();
            assert_eq!(decode_base64url(&encode_base64url(&bytes)), Some(bytes));
        }
        for bad in ["A", "AAAAA", "AB", "AAB", "A+AA", "AA==", "é"] {
            assert_eq!(decode_base64url(bad), None, "{bad}");
        }
    }

    #[test]
    fn without_keys_nobody_enters() {
        let refusal = verify(&TokenKeys::default(), &rules(), &token(&claims()), NOW).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::ErrorTokenKeyUnknown);
    }
}
