//! The problems of an input, reported together: place, problem and remedy.

use std::fmt;

/// A problem of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, if known, both from 1.
    pub place: Option<Place>,
    /// The path of the value, such as `properties.Allocation.Size`; empty for the document itself.
    pub path: String,
    /// The problem.
    pub what: String,
    /// The remedy; may be empty.
    pub remedy: String,
}

/// A place in a text: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// All problems of an input; never empty when returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    /// The name of the file, or `<stdin>`; empty when there is none.
    pub file: String,
    pub list: Vec<Problem>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    /// One line for each problem, in the format that editors understand: `file:line:column: path: what;
    /// remedy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            if !self.file.is_empty() {
                write!(f, "{}:", self.file)?;
            }
            if let Some(place) = problem.place {
                write!(f, "{place}:")?;
            }
            if !self.file.is_empty() || problem.place.is_some() {
                write!(f, " ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
