//! Tokens as an app's backend makes them: HS256, by hand.

use aws_lc_rs::hmac;
use roost_gateway::shard::auth::token::{TokenKey, TokenKeys};

const SECRET: &[u8] = b"everybody may read this secret: it protects nothing but a simulation";
const KID: &str = "simulated";

/// What the server checks tokens with.
pub(crate) fn keys() -> TokenKeys {
    let key = TokenKey::from_secret(KID, SECRET).expect("the secret is long enough");
    TokenKeys::new(vec![key]).expect("one key has no namesake")
}

/// For how long a token is good that is never renewed.
pub(crate) const LONG_S: u64 = 365 * 24 * 60 * 60;

/// A token of a user, good for so long.
pub(crate) fn token(user: &str, issued_s: u64, life_s: u64) -> String {
    let header = format!(r#"{{"alg":"HS256","kid":"{KID}"}}"#);
    let expires_s = issued_s + life_s;
    let payload = format!(r#"{{"sub":"{user}","iat":{issued_s},"exp":{expires_s}}}"#);
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64url(signature.as_ref()))
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = 0_u32;
        for place in 0..3 {
            word = word << 8 | u32::from(chunk.get(place).copied().unwrap_or(0));
        }
        for place in 0..=chunk.len() {
            let letter = word >> (18 - 6 * place) & 63;
            let letter = usize::try_from(letter).unwrap_or(0);
            out.push(char::from(LETTERS[letter]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_has_no_padding() {
        let encoded: Vec<String> =
            ["", "f", "fo", "foo", "foob"].iter().map(|text| base64url(text.as_bytes())).collect();
        assert_eq!(encoded, ["", "Zg", "Zm8", "Zm9v", "Zm9vYg"]);
    }
}
