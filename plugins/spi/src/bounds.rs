//! How much a plugin may say: what it returns is recorded, replicated and shown.

use model::InstanceId;

/// The longest id in bytes: providers use up to about 2 KiB (resource paths), and a report has many of them.
pub const LONGEST_ID: usize = 4 << 10;

/// The longest message in bytes: more is not read by anyone, and the log keeps it.
pub const LONGEST_TEXT: usize = 1 << 10;

const CUT: char = '…';

/// An instance id from a plugin.
pub(crate) fn id(text: String) -> Result<InstanceId, String> {
    match text.len() {
        0 => Err("it has no instance id".into()),
        1..=LONGEST_ID => Ok(text.into()),
        long => Err(format!("its instance id has {long} bytes; at most {LONGEST_ID} are allowed")),
    }
}

/// A message from a plugin, cut to [`LONGEST_TEXT`].
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let mut ends = (0..=LONGEST_TEXT - CUT.len_utf8()).rev();
        let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_at_least_one_byte_and_at_most_four_kilobytes() {
        assert!(id(String::new()).is_err());
        assert!(id("x".repeat(LONGEST_ID)).is_ok());
        assert!(id("x".repeat(LONGEST_ID + 1)).expect_err("too long").contains("4097"));
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let fits = "x".repeat(LONGEST_TEXT);
        assert_eq!(shorten(fits.clone()), fits);
        for letter in ["x", "ü", "€", "😀"] {
            let cut = shorten(letter.repeat(LONGEST_TEXT + 1));
            assert!(cut.len() <= LONGEST_TEXT && cut.len() > LONGEST_TEXT - 4, "{letter}: {}", cut.len());
            assert!(cut.ends_with(CUT));
            assert_eq!(cut.trim_end_matches(CUT).replace(letter, ""), "");
        }
    }
}
