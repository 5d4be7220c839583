//! Versions of YAML.

/// The version of YAML of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Yaml {
    /// Nobody says: within properties, what InfraKit's reader of YAML 1.1 made of a value holds, with a
    /// warning; a field of a group in which the versions differ is refused. A `%YAML` directive decides.
    #[default]
    Unsaid,
    /// As InfraKit's reader took it, everywhere.
    V1_1,
    /// The core schema of YAML 1.2, everywhere.
    V1_2,
}
