//! When a manager dies in a sweep.

/// A moment at which a manager may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Right before this write or sync of its disk, counted from its first start.
    Disk { node: usize, operation: u64 },
    /// Before or after a call to the provider, whoever makes it: two moments a call, in the order in which
    /// they come.
    Call(u64),
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Moment::Disk { node, operation } => write!(f, "disk:{node}:{operation}"),
            Moment::Call(moment) => write!(f, "call:{moment}"),
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = String;

    /// What [`Moment`] prints: `disk:NODE:OPERATION` or `call:NUMBER`.
    fn from_str(text: &str) -> Result<Self, String> {
        let odd = |_| format!("`{text}` is no moment: give disk:NODE:OPERATION or call:NUMBER");
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["disk", node, operation] => Ok(Moment::Disk {
                node: node.parse().map_err(odd)?,
                operation: operation.parse().map_err(odd)?,
            }),
            ["call", moment] => Ok(Moment::Call(moment.parse().map_err(odd)?)),
            _ => Err(format!("`{text}` is no moment: give disk:NODE:OPERATION or call:NUMBER")),
        }
    }
}
