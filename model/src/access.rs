//! Access control: roles, tokens, and the certificate authority of the cluster.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ids::{InstanceId, LogIndex};
use crate::time::{Millis, Timestamp};

/// A role. Each user role includes the ones before it; the last is for managers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Declares, scales and destroys groups.
    Operator,
    /// Changes members, tokens, the authority and cluster settings.
    Admin,
    /// Joins the cluster as one of its managers.
    Manager,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Admin, Role::Manager];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
            Role::Manager => "manager",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not one of viewer, operator, admin and manager"))
    }
}

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The certificate authority of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// X.509, in DER.
    pub certificate: Arc<[u8]>,
    /// PKCS #8, in DER.
    pub key: Secret,
}

/// The authority of a cluster, and the progress of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The active authority, which signs certificates.
    pub signing: Authority,
    pub rotation: Rotation,
    /// The log index of the last change of this.
    pub changed: LogIndex,
}

/// The progress of a rotation. Each step is taken after every member has applied the one before, so that
/// every certificate in use is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    None,
    /// The next authority is trusted, and does not sign yet. The bridge is its certificate, signed by the
    /// active one, in DER: peers that trust only the active one trust the next one through it.
    Announced {
        next: Authority,
        bridge: Arc<[u8]>,
    },
    /// The previous authority no longer signs, and is still trusted.
    Retiring {
        certificate: Arc<[u8]>,
        bridge: Arc<[u8]>,
    },
}

impl Authorities {
    pub fn new(signing: Authority, changed: LogIndex) -> Self {
        Self { signing, rotation: Rotation::None, changed }
    }

    /// The certificates that are trusted.
    pub fn trusted(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        let other = match &self.rotation {
            Rotation::None => None,
            Rotation::Announced { next, .. } => Some(&next.certificate),
            Rotation::Retiring { certificate, .. } => Some(certificate),
        };
        std::iter::once(&self.signing.certificate).chain(other)
    }

    /// The cross-signed certificate of the active authority, for peers that trust only the previous one.
    pub fn bridge(&self) -> Option<&Arc<[u8]>> {
        match &self.rotation {
            Rotation::Retiring { bridge, .. } => Some(bridge),
            Rotation::None | Rotation::Announced { .. } => None,
        }
    }
}

/// The id of a token: the SHA-256 of its secret, in hexadecimal digits. The secret is not stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

impl TokenId {
    /// The length of the short form.
    const SHORT: usize = 12;

    pub fn new(digits: impl AsRef<str>) -> Self {
        Self(Arc::from(digits.as_ref()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The short form, for humans.
    pub fn short(&self) -> &str {
        self.0.get(..Self::SHORT).unwrap_or(&self.0)
    }
}

/// A token for joining or logging in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub role: Role,
    pub created: Timestamp,
    /// Who created it.
    pub by: String,
    /// When it expires, if it does.
    pub expires: Option<Timestamp>,
    /// It is valid for a single use.
    pub once: bool,
    /// Who used it, if it is valid for a single use: the digest of a user's key, or the identity of a
    /// manager's disk.
    pub used: Option<String>,
    /// Only for the manager on this instance.
    pub instance: Option<InstanceId>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadToken {
    /// It does not exist, or was revoked.
    Unknown,
    Expired,
    /// It was valid for a single use, and was used.
    Used,
    /// It is for another role.
    OtherRole(Role),
    /// It is for the manager on another instance.
    OtherInstance,
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadToken::Unknown => f.write_str("the token is not known, or was revoked"),
            BadToken::Expired => f.write_str("the token has expired"),
            BadToken::Used => f.write_str("the token was valid for a single use, and was used"),
            BadToken::OtherRole(Role::Manager) => f.write_str("the token is for managers, and not for users"),
            BadToken::OtherRole(role) => {
                write!(f, "the token is for the role {role}, and not for managers")
            }
            BadToken::OtherInstance => f.write_str("the token is for the manager on another instance"),
        }
    }
}

impl Token {
    /// Whether it is valid for this newcomer now.
    pub fn admits(&self, whom: &Newcomer<'_>, now: Timestamp) -> Result<(), BadToken> {
        let is_manager = matches!(whom, Newcomer::Manager { .. });
        if is_manager != (self.role == Role::Manager) {
            return Err(BadToken::OtherRole(self.role));
        }
        let who = whom.who();
        // A repeated request after a lost reply is accepted again.
        if self.used.as_deref().is_some_and(|used| used != who) {
            return Err(BadToken::Used);
        }
        if self.expires.is_some_and(|end| now >= end) && self.used.is_none() {
            return Err(BadToken::Expired);
        }
        if let (Newcomer::Manager { instance, .. }, Some(bound)) = (whom, &self.instance)
            && *instance != Some(bound)
        {
            return Err(BadToken::OtherInstance);
        }
        Ok(())
    }

    /// Whether no credentials issued with it can be valid any longer.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        // Certificates of users expire with it or this much later.
        self.expires.is_some_and(|end| now >= end + LONGEST_LOGIN)
    }
}

/// The validity of the certificate of a login.
pub const LONGEST_LOGIN: Millis = Millis::seconds(90 * 24 * 3600);

/// Who presents a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newcomer<'a> {
    Manager {
        storage: &'a str,
        instance: Option<&'a InstanceId>,
    },
    /// A user, identified by the digest of the key: names are not unique.
    Person {
        key: &'a str,
    },
}

impl Newcomer<'_> {
    pub(crate) fn who(&self) -> &str {
        match self {
            Newcomer::Manager { storage, .. } => storage,
            Newcomer::Person { key } => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(role: Role) -> Token {
        Token {
            role,
            created: Timestamp(0),
            by: "x".into(),
            expires: Some(Timestamp(100)),
            once: true,
            used: None,
            instance: None,
        }
    }

    #[test]
    fn a_token_lets_in_whom_it_is_for_and_nobody_else() {
        let machine = InstanceId::from("i1");
        let manager = Newcomer::Manager { storage: "disk", instance: Some(&machine) };
        let person = Newcomer::Person { key: "ann" };
        let now = Timestamp(99);
        assert_eq!(token(Role::Manager).admits(&manager, now), Ok(()));
        assert_eq!(token(Role::Manager).admits(&person, now), Err(BadToken::OtherRole(Role::Manager)));
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert_eq!(token(role).admits(&person, now), Ok(()));
            assert_eq!(token(role).admits(&manager, now), Err(BadToken::OtherRole(role)));
            assert_eq!(token(role).admits(&person, Timestamp(100)), Err(BadToken::Expired));
        }
        let used = Token { used: Some("bob".into()), ..token(Role::Admin) };
        assert_eq!(used.admits(&person, now), Err(BadToken::Used));
        assert_eq!(used.admits(&Newcomer::Person { key: "bob" }, Timestamp(500)), Ok(()), "asked again");
        let bound = Token { instance: Some("i2".into()), ..token(Role::Manager) };
        assert_eq!(bound.admits(&manager, now), Err(BadToken::OtherInstance));
    }

    #[test]
    fn a_secret_shows_nothing() {
        let authority = Authority { certificate: Arc::from([1]), key: Secret::new(b"hidden".as_slice()) };
        assert!(!format!("{authority:?}").contains("hidden"));
        assert!(!format!("{authority:?}").contains("104"));
    }
}
