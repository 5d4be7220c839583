//! Files on their way into a container and out of it: tar archives (POSIX ustar).

use std::collections::BTreeSet;

/// A file for a container, by its path without the first slash.
pub(crate) struct File<'a> {
    pub(crate) path: &'a str,
    pub(crate) mode: u32,
    pub(crate) content: &'a [u8],
}

/// The size of a block.
const BLOCK: usize = 512;

/// The files and their parent directories.
pub(crate) fn pack(files: &[File<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut made = BTreeSet::new();
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            if made.insert(&file.path[..=end]) {
                tar.extend_from_slice(&header(&file.path[..=end], 0o755, 0, b'5'));
            }
        }
        tar.extend_from_slice(&header(file.path, file.mode, file.content.len(), b'0'));
        tar.extend_from_slice(file.content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

fn header(path: &str, mode: u32, size: usize, kind: u8) -> [u8; BLOCK] {
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Takes the last bytes of the one file of an archive that comes piece by piece.
pub(crate) struct Tail {
    /// The header until it is whole, then what is kept of the file.
    kept: Vec<u8>,
    /// How much of the file is still to come; none until the header is whole.
    left: Option<usize>,
    most: usize,
}

impl Tail {
    pub(crate) fn of(most: usize) -> Self {
        Self { kept: Vec::new(), left: None, most }
    }

    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        if self.left.is_none() {
            let more = piece.len().min(BLOCK - self.kept.len());
            self.kept.extend_from_slice(&piece[..more]);
            piece = &piece[more..];
            if self.kept.len() < BLOCK {
                return;
            }
            self.left = Some(size_in(&self.kept));
            self.kept.clear();
        }
        let Some(left) = &mut self.left else { return };
        let piece = &piece[..piece.len().min(*left)];
        *left -= piece.len();
        self.kept.extend_from_slice(piece);
        if self.kept.len() > self.most {
            self.kept.drain(..self.kept.len() - self.most);
        }
    }

    /// What is kept of the file; nothing of what is no regular file.
    pub(crate) fn take(self) -> Vec<u8> {
        if self.left.is_some() { self.kept } else { Vec::new() }
    }
}

fn size_in(header: &[u8]) -> usize {
    let octal = String::from_utf8_lossy(&header[124..136]);
    let size = usize::from_str_radix(octal.trim_matches(['\0', ' ']), 8).unwrap_or(0);
    if matches!(header[156], b'0' | 0) { size } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_taken_out_again_however_it_is_cut() {
        let content: Vec<u8> = (0..1500u32).map(|n| (n % 251) as u8).collect();
        let tar = pack(&[File { path: "f", mode: 0o644, content: &content }]);
        for size in [1, 7, 511, 512, 513, 5000] {
            for most in [10, 1500, 9000] {
                let mut tail = Tail::of(most);
                tar.chunks(size).for_each(|piece| tail.push(piece));
                assert_eq!(tail.take(), content[content.len().saturating_sub(most)..], "{size} {most}");
            }
        }
        assert!(Tail::of(10).take().is_empty());
        let mut directory = Tail::of(10);
        directory.push(&pack(&[File { path: "d/f", mode: 0o644, content: b"x" }]));
        assert!(directory.take().is_empty(), "the first entry is a directory");
    }
}
