//! The text of a token: `IKTKN-1-<digest of the authority>-<secret>`, both in base 32. The digest
//! authenticates the cluster before the secret is sent to it, as in SwarmKit.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use model::access::{Secret, TokenId};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

const PREFIX: &str = "IKTKN-1-";

/// The SHA-256 of a certificate authority's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A join or login token: the fingerprint of the authority, and a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The authority that whoever uses the token will trust.
    pub authority: Fingerprint,
    /// What the managers compare.
    pub secret: Secret,
}

impl Fingerprint {
    /// The fingerprint of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_lowercase())
    }
}

/// Where a token is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFrom {
    /// The token itself.
    Text(Secret),
    /// `-` is the standard input.
    File(PathBuf),
}

impl TokenFrom {
    /// The token; none if the text is empty. The error does not contain the text.
    pub fn read(&self) -> Result<Option<JoinToken>, String> {
        let text = match self {
            TokenFrom::Text(text) => String::from_utf8_lossy(text.expose()).into_owned(),
            TokenFrom::File(path) => {
                let read = match path.to_str() {
                    Some("-") => std::io::read_to_string(std::io::stdin()),
                    _ => std::fs::read_to_string(path),
                };
                read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?
            }
        };
        if text.trim().is_empty() { Ok(None) } else { text.parse().map(Some) }
    }
}

/// The id of the token with this secret: its SHA-256.
pub fn token_id(secret: &[u8]) -> TokenId {
    TokenId::new(data_encoding::HEXLOWER.encode(&Sha256::digest(secret)))
}

impl JoinToken {
    /// A token with a new random secret of 128 bits.
    pub fn draw(authority: Fingerprint) -> Self {
        Self { authority, secret: Secret::new(rand::random::<[u8; 16]>().as_slice()) }
    }

    /// The id of this token.
    pub fn id(&self) -> TokenId {
        token_id(self.secret.expose())
    }

    /// The text of the token, secret included.
    pub fn expose(&self) -> String {
        let secret = BASE32_NOPAD.encode(self.secret.expose()).to_lowercase();
        format!("{PREFIX}{}-{secret}", self.authority)
    }
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("not a valid token: it must have the form {PREFIX}DIGEST-SECRET");
        let (authority, secret) =
            text.trim().strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).ok_or_else(bad)?;
        let decode = |part: &str| BASE32_NOPAD.decode(part.to_uppercase().as_bytes()).map_err(|_| bad());
        let authority = <[u8; 32]>::try_from(decode(authority)?).map_err(|_| bad())?;
        let secret = decode(secret)?;
        if secret.len() != 16 {
            return Err(bad());
        }
        Ok(Self { authority: Fingerprint(authority), secret: Secret::new(secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_shown_and_shows_itself_nowhere_else() {
        let token = JoinToken::draw(Fingerprint::of(&CertificateDer::from(vec![1, 2, 3])));
        let text = token.expose();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        let secret = text.rsplit('-').next().expect("a part").to_owned();
        assert!(!format!("{token:?}").contains(&secret));
        assert_eq!(token.id(), token_id(token.secret.expose()));
        for bad in ["", "IKTKN-1-", "IKTKN-1-a-b", &text[1..], &text[..text.len() - 1], &format!("{text}a")] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
    }
}
