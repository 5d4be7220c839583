//! The rows that are printed, and the numbers in them.

/// What is measured, what it must reach, and what it reached.
pub(crate) type Row = (String, String, String);

pub(crate) fn row(what: &str, bar: &str, measured: String) -> Row {
    eprintln!("{what}: {measured}");
    (what.to_owned(), bar.to_owned(), measured)
}

/// The value at a share of a sorted list.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
    values[at - 1]
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
