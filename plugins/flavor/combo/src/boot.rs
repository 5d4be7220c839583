//! Boot data of several flavors made one. What cloud-init tells apart by its first line is never joined by a
//! newline: it becomes a MIME archive.

use std::fmt::Write;

/// What cloud-init makes of a text, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format<'a> {
    /// A script, with its interpreter line.
    Script(&'a str),
    CloudConfig,
    /// A type that stands in an archive as it is.
    Typed(&'static str),
    /// Headers and parts of its own.
    Archive,
    /// Lines without a beginning: they go on with what stands before them.
    Lines,
    /// Ignition, which is one JSON value.
    Json,
}

/// The beginnings that cloud-init knows, besides `#!` and `#cloud-config` ("User-data formats").
const TYPES: [(&str, &str); 7] = [
    // The longer of two that begin alike comes first, as cloud-init looks for them.
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config-jsonp", "text/cloud-config-jsonp"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include-once", "text/x-include-once-url"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
];

/// A list is appended to what earlier parts have, a map is merged: without it, the last part would win.
const MERGE: &str = "Merge-Type: list(append)+dict(recurse_array)\n";

fn format(text: &str) -> Format<'_> {
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first.starts_with("#!") {
        return Format::Script(first);
    }
    if let Some((_, kind)) = TYPES.iter().find(|(begin, _)| first.starts_with(begin)) {
        return Format::Typed(kind);
    }
    if first.starts_with("#cloud-config") {
        return Format::CloudConfig;
    }
    let header = first.to_ascii_lowercase();
    if header.starts_with("content-type:") || header.starts_with("mime-version:") {
        return Format::Archive;
    }
    if first.starts_with('{') { Format::Json } else { Format::Lines }
}

/// One text of the parts, each with the name of whoever made it. Parts of one script are joined by newlines.
pub(crate) fn join(parts: &[(&str, &str)]) -> Result<String, String> {
    let mut joined: Vec<(&str, String)> = Vec::new();
    for (name, text) in parts.iter().filter(|(_, text)| !text.is_empty()) {
        let new = format(text);
        let Some((other, before)) = joined.last_mut() else {
            joined.push((name, (*text).to_owned()));
            continue;
        };
        match (format(before), new) {
            (Format::Script(a), Format::Script(b)) if a == b => *before = format!("{before}\n{text}"),
            (Format::Script(_) | Format::Lines, Format::Lines) => *before = format!("{before}\n{text}"),
            (Format::Json, _) | (_, Format::Json) => {
                return Err(format!(
                    "the JSON document of {other} or {name} cannot be joined with other boot data"
                ));
            }
            (Format::Lines, _) | (_, Format::Lines) => {
                return Err(format!(
                    "the boot data of {other} and {name} are of different kinds, and one of them does not say which; \
                     begin each with `#!` or `#cloud-config`"
                ));
            }
            _ => joined.push((name, (*text).to_owned())),
        }
    }
    match &joined[..] {
        [] => Ok(String::new()),
        [(_, one)] => Ok(one.clone()),
        several => Ok(archive(several)),
    }
}

fn archive(parts: &[(&str, String)]) -> String {
    let is_free = |boundary: &String| parts.iter().all(|(_, text)| !text.contains(boundary.as_str()));
    let mut boundaries = (0..).map(|n| format!("==infrakit-{n}=="));
    let boundary = boundaries.find(is_free).unwrap_or_default();
    let mut out = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    let mut configs = 0;
    for (_, text) in parts {
        let _ = write!(out, "\n--{boundary}\n");
        let (kind, merge) = match format(text) {
            Format::Archive => {
                out.push_str(text);
                continue;
            }
            Format::Script(_) | Format::Lines | Format::Json => ("text/x-shellscript", ""),
            Format::Typed(kind) => (kind, ""),
            Format::CloudConfig => {
                configs += 1;
                ("text/cloud-config", if configs > 1 && !says_how(text) { MERGE } else { "" })
            }
        };
        let _ = write!(out, "Content-Type: {kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n{merge}");
        if text.is_ascii() {
            let _ = write!(out, "Content-Transfer-Encoding: 7bit\n\n{text}");
        } else {
            out.push_str("Content-Transfer-Encoding: base64\n");
            let encoded = data_encoding::BASE64_MIME.encode(text.as_bytes());
            let _ = write!(out, "\n{}", encoded.replace("\r\n", "\n").trim_end());
        }
    }
    let _ = writeln!(out, "\n--{boundary}--");
    out
}

/// Whether a cloud-config says itself how it is merged.
fn says_how(text: &str) -> bool {
    text.lines().any(|line| ["merge_how:", "merge_type:"].iter().any(|key| line.starts_with(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &[&str]) -> Result<String, String> {
        let named: Vec<(&str, &str)> = ["a", "b", "c"].into_iter().zip(parts.iter().copied()).collect();
        join(&named)
    }

    #[test]
    fn parts_of_one_script_are_one_script() {
        for (parts, whole) in [
            (&[][..], ""),
            (&["", "echo a", ""], "echo a"),
            (&["echo a", "echo b"], "echo a\necho b"),
            (&["#!/bin/sh\necho a", "echo b"], "#!/bin/sh\necho a\necho b"),
            (&["#!/bin/sh\necho a", "#!/bin/sh\necho b"], "#!/bin/sh\necho a\n#!/bin/sh\necho b"),
            (&["#cloud-config\na: 1"], "#cloud-config\na: 1"),
        ] {
            assert_eq!(joined(parts).as_deref(), Ok(whole));
        }
    }

    #[test]
    fn parts_of_different_kinds_are_an_archive() {
        let whole =
            joined(&["#!/bin/sh\necho a", "#cloud-config\npackages: [b]", "#cloud-config\npackages: [c]\n"]);
        assert_eq!(
            whole.as_deref(),
            Ok("Content-Type: multipart/mixed; boundary=\"==infrakit-0==\"\nMIME-Version: 1.0\n\
                \n--==infrakit-0==\nContent-Type: text/x-shellscript; charset=\"utf-8\"\nMIME-Version: 1.0\n\
                Content-Transfer-Encoding: 7bit\n\n#!/bin/sh\necho a\
                \n--==infrakit-0==\nContent-Type: text/cloud-config; charset=\"utf-8\"\nMIME-Version: 1.0\n\
                Content-Transfer-Encoding: 7bit\n\n#cloud-config\npackages: [b]\
                \n--==infrakit-0==\nContent-Type: text/cloud-config; charset=\"utf-8\"\nMIME-Version: 1.0\n\
                Merge-Type: list(append)+dict(recurse_array)\n\
                Content-Transfer-Encoding: 7bit\n\n#cloud-config\npackages: [c]\n\
                \n--==infrakit-0==--\n")
        );
        let said =
            joined(&["#cloud-config\na: [1]", "#cloud-config\nmerge_how: dict()\na: [2]"]).expect("joined");
        assert!(!said.contains(MERGE), "{said}");
        for (begin, kind) in TYPES {
            let whole = joined(&[&format!("{begin}\nx"), "#!/bin/sh"]).expect("joined");
            assert!(whole.contains(&format!("Content-Type: {kind};")), "{begin}: {whole}");
        }
        let two = joined(&["#!/bin/sh\n==infrakit-0==", "#!/usr/bin/python3\n# gr\u{fc}n"]).expect("joined");
        assert!(
            two.contains("boundary=\"==infrakit-1==\"") && two.contains("\n\nIyEvdXNyL2Jpbi9weXRob24z"),
            "{two}"
        );
        let nested = joined(&["#cloud-config\na: 1", &whole.expect("joined")]).expect("joined");
        assert!(
            nested.contains("==infrakit-1==\nContent-Type: multipart/mixed; boundary=\"==infrakit-0==\"")
        );
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        for (parts, said) in [
            (["#cloud-config\na: 1", "echo b"], "the boot data of a and b are of different kinds"),
            (["echo a", "#cloud-config\nb: 1"], "begin each with `#!` or `#cloud-config`"),
            (["{\"ignition\": {}}", "#!/bin/sh"], "the JSON document of a or b cannot be joined"),
        ] {
            let told = joined(&parts).expect_err(said);
            assert!(told.contains(said), "{told}");
        }
    }
}
