//! Who may do what, and what proves who somebody is: roles, tokens, the cluster's certificate authority.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ids::InstanceId;
use crate::time::{Millis, Timestamp};

/// What somebody may do. Each may do what those before it may; a manager is no person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// ListingHistory.
    Viewer,
    /// Declares, scales and destroys groups.
    Operator,
    /// Changes who belongs to the cluster, who may do what, and what the managers obey.
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
            .ok_or_else(|| format!("`{text}` is none of viewer, operator, admin and manager"))
    }
}

/// Bytes that are shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for whoever must have them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A certificate authority: it says who is who in one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// X.509, in DER.
    pub certificate: Arc<[u8]>,
    /// PKCS #8, in DER.
    pub key: Secret,
}

/// The authority of a cluster, and the one that it changes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// It signs.
    pub signing: Authority,
    pub rotation: Rotation,
    /// The log index of the last change of this.
    pub changed: u64,
}

/// How far the change to another authority has come. Each step is taken when every member has applied the one
/// before, so that nobody meets a certificate that it does not trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    None,
    /// The next one is trusted, and signs nothing yet. The bridge is its certificate as the present one signs
    /// it, in DER: whoever trusts the present one alone trusts the next by it.
    Announced {
        next: Authority,
        bridge: Arc<[u8]>,
    },
    /// The one before signs nothing any more, and its certificate is still trusted.
    Retiring {
        certificate: Arc<[u8]>,
        bridge: Arc<[u8]>,
    },
}

impl Authorities {
    pub fn new(signing: Authority, changed: u64) -> Self {
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

    /// What makes the authority that signs trusted by those who trust the one before it alone.
    pub fn bridge(&self) -> Option<&Arc<[u8]>> {
        match &self.rotation {
            Rotation::Retiring { bridge, .. } => Some(bridge),
            Rotation::None | Rotation::Announced { .. } => None,
        }
    }
}

/// Names a token: the SHA-256 of its secret, in hexadecimal digits. The secret itself is stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

impl TokenId {
    /// How many digits name a token to people.
    const SHORT: usize = 12;

    pub fn new(digits: impl AsRef<str>) -> Self {
        Self(Arc::from(digits.as_ref()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The beginning, for people.
    pub fn short(&self) -> &str {
        self.0.get(..Self::SHORT).unwrap_or(&self.0)
    }
}

/// What lets somebody in who is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub role: Role,
    pub created: Timestamp,
    /// Who had it made.
    pub by: String,
    /// Nobody is let in by it from then on; none when it serves for ever.
    pub expires: Option<Timestamp>,
    /// It lets one in, and no second.
    pub once: bool,
    /// Whom it let in, when it serves once: the digest of a person's key, or the identity of a manager's disk.
    pub used: Option<String>,
    /// Only the manager that runs on this instance.
    pub instance: Option<InstanceId>,
}

/// Why a token lets somebody in no more, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadToken {
    /// There is none of this secret, or it was revoked.
    Unknown,
    Expired,
    /// It served once, and has.
    Used,
    /// It is for somebody else.
    OtherRole(Role),
    /// It is for the manager on another instance.
    OtherInstance,
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadToken::Unknown => f.write_str("the token is not known, or was revoked"),
            BadToken::Expired => f.write_str("the token has expired"),
            BadToken::Used => f.write_str("the token served once, and was used"),
            BadToken::OtherRole(Role::Manager) => f.write_str("the token lets a manager in, and no person"),
            BadToken::OtherRole(role) => {
                write!(f, "the token is for the role {role}, and lets no manager in")
            }
            BadToken::OtherInstance => f.write_str("the token is for the manager on another instance"),
        }
    }
}

impl Token {
    /// Whether it lets this one in now.
    pub fn admits(&self, whom: &Newcomer<'_>, now: Timestamp) -> Result<(), BadToken> {
        let is_manager = matches!(whom, Newcomer::Manager { .. });
        if is_manager != (self.role == Role::Manager) {
            return Err(BadToken::OtherRole(self.role));
        }
        let who = whom.who();
        // Whoever asks again, because an answer was lost, is let in again.
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

    /// Whether nobody can be known by it any more.
    pub(crate) fn is_forgotten(&self, now: Timestamp) -> bool {
        // The certificates that it gave to persons end with it or this much later.
        self.expires.is_some_and(|end| now >= end + LONGEST_LOGIN)
    }
}

/// How long a person is known by the certificate that a login gave.
pub const LONGEST_LOGIN: Millis = Millis::seconds(90 * 24 * 3600);

/// Somebody who shows a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newcomer<'a> {
    Manager {
        storage: &'a str,
        instance: Option<&'a InstanceId>,
    },
    /// Known by the digest of their key: a name is anybody's.
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
