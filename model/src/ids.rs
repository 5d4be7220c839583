//! Names and numbers, each with a type of its own so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a valid name, as a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }
    };
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($of:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $of);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

text! {
    /// The name of a group: what `metadata.name` or `ID` of its spec says.
    GroupId
}
text! {
    /// The lasting identity of a pet, often its private address.
    LogicalId
}
text! {
    /// What a provider calls an instance. Opaque.
    InstanceId
}
text! {
    /// A plugin reference `lookup[/type]` (plugin-protocol §2.3): the part before the first `/` is
    /// the file name of the socket, the rest names an object inside that process.
    PluginName
}
text! {
    /// The identity of a cluster, drawn once when it is bootstrapped: 32 hexadecimal digits.
    ClusterId
}

number! {
    /// The identity of a manager: the log index of its join. Never reused.
    NodeId(u64)
}
number! {
    /// The number of an accepted spec of one group, from 1.
    Revision(u64)
}
number! {
    /// A term of Raft: at most one leader each.
    Term(u64)
}
number! {
    /// The incarnation of a slot: 1 for its first instance.
    Generation(u32)
}

/// Names a request, so that a repeated one gets the first answer instead of a second effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

/// The place of an entry in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    pub term: Term,
    pub index: u64,
}

/// The name of an intent: the log entry that opened it, and its place in that entry's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId {
    pub index: u64,
    pub offset: u32,
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.index, self.offset)
    }
}

/// What kinds of objects can be declared. Closed: a replica that does not know one must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Group,
}

/// The name of a declared object: no two of one kind are alike (decision 5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: ObjectKind,
    pub name: Arc<str>,
}

/// The lasting place of one member in its group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Cattle: the lowest free number, from 0.
    Ordinal(u32),
    /// Pets: the logical id.
    Logical(LogicalId),
}

impl ObjectKind {
    /// As it is written in a file and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Group => "group",
        }
    }
}

impl ObjectKey {
    /// The group of this name.
    pub fn group(id: &GroupId) -> Self {
        Self { kind: ObjectKind::Group, name: id.0.clone() }
    }

    /// The group that this names, if it is one.
    pub fn as_group(&self) -> Option<GroupId> {
        match self.kind {
            ObjectKind::Group => Some(GroupId(self.name.clone())),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind.as_str(), self.name)
    }
}

impl Slot {
    pub fn logical_id(&self) -> Option<&LogicalId> {
        match self {
            Slot::Ordinal(_) => None,
            Slot::Logical(id) => Some(id),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Ordinal(n) => f.pad(&n.to_string()),
            Slot::Logical(id) => f.pad(id.as_str()),
        }
    }
}

impl GroupId {
    /// The longest group name: it stands in tags and container names, which providers limit.
    pub const LONGEST: usize = 63;

    /// Accepts 1 to 63 of `[A-Za-z0-9._-]`, beginning with a letter or digit.
    pub fn check(text: &str) -> Result<Self, BadName> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() {
            return Err(BadName("the name is empty".into()));
        }
        if text.len() > Self::LONGEST {
            return Err(BadName(format!(
                "the name has {} characters; at most {} are allowed",
                text.len(),
                Self::LONGEST
            )));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(fits) {
            return Err(BadName(format!(
                "`{text}` is not a group name: use letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
            )));
        }
        Ok(Self::new(text))
    }
}

impl PluginName {
    /// The part before the first `/`: the file name in the plugin directory.
    pub fn lookup(&self) -> &str {
        self.as_str().split_once('/').map_or(self.as_str(), |(lookup, _)| lookup)
    }

    /// The part after the first `/`, empty for the base object.
    pub fn subtype(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(_, sub)| sub)
    }

    /// Accepts `lookup[/type]` without quotes, blanks or control characters.
    pub fn check(text: &str) -> Result<Self, BadName> {
        let name = Self::new(text);
        let lookup = name.lookup();
        if lookup.is_empty() || lookup == "." || lookup == ".." {
            return Err(BadName(format!(
                "`{text}` is not a plugin name: write NAME or NAME/TYPE, such as `simulator/compute`"
            )));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '\\';
        if text.contains(odd) {
            return Err(BadName(format!(
                "`{}` is not a plugin name: quotes, backslashes and blanks are not allowed",
                text.escape_debug()
            )));
        }
        Ok(name)
    }
}

impl ClusterId {
    /// The first eight digits: what stands in tokens and container names.
    pub fn short(&self) -> &str {
        self.as_str().get(..8).unwrap_or(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for RequestId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        u128::from_str_radix(text, 16)
            .map(RequestId)
            .map_err(|_| BadName(format!("`{text}` is not a request id: 32 hexadecimal digits are expected")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_name_splits_at_its_first_slash() {
        let name = PluginName::new("ztyped/b/c");
        assert_eq!((name.lookup(), name.subtype()), ("ztyped", "b/c"));
        let base = PluginName::new("vars");
        assert_eq!((base.lookup(), base.subtype()), ("vars", ""));
    }

    #[test]
    fn a_group_name_fits_a_tag_and_a_container_name() {
        for good in ["web", "a", "us-east.web_1", &"x".repeat(63)] {
            assert!(GroupId::check(good).is_ok(), "{good}");
        }
        for bad in ["", "-web", "a b", "a/b", "é", &"x".repeat(64)] {
            assert!(GroupId::check(bad).is_err(), "{bad}");
        }
    }
}
