//! Disks that misbehave on request: a small library between a manager and the C library.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The disk of one manager, as its process is made to see it.
#[derive(Debug, Clone)]
pub struct Disk {
    library: PathBuf,
    control: PathBuf,
    record: PathBuf,
}

/// What a disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Syncs succeed and do nothing.
    Lies,
    /// Syncs fail.
    Fails,
    /// Writes find no space.
    Full,
    /// Every sync takes so many milliseconds longer.
    Slow(u32),
}

impl Disk {
    /// A disk whose files of its own are called `name` in `dir`. The library is built there by the C
    /// compiler once.
    pub fn new(dir: &Path, name: &str) -> Self {
        let library = dir.join("disk.so");
        if !library.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("disk/disk.c");
            let built = Command::new("cc")
                .args(["-shared", "-fPIC", "-O2", "-o"])
                .args([&library, &source])
                .arg("-ldl")
                .status()
                .expect("a C compiler is installed");
            assert!(built.success(), "the library builds");
        }
        let of = |what: &str| dir.join(format!("{name}.{what}"));
        Self { library, control: of("control"), record: of("record") }
    }

    /// The library that a process must preload to use this disk.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What that library reads from the environment.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("DISK_CONTROL", &self.control), ("DISK_RECORD", &self.record)]
    }

    pub fn be(&self, mood: Mood) {
        let text = match mood {
            Mood::Well => String::new(),
            Mood::Lies => "lie".into(),
            Mood::Fails => "eio".into(),
            Mood::Full => "full".into(),
            Mood::Slow(millis) => format!("slow {millis}"),
        };
        std::fs::write(&self.control, text).expect("a file");
    }

    /// What a power cut would have left in `dir`: of each file what was synced, and of the rest of it
    /// the first `keep(n)` of `n` bytes. Whoever used it is dead. Gives how many bytes were lost.
    pub fn cut_power(&self, dir: &Path, mut keep: impl FnMut(u64) -> u64) -> u64 {
        let record = std::fs::read_to_string(&self.record).unwrap_or_default();
        let mut synced: BTreeMap<u64, u64> = BTreeMap::new();
        for line in record.lines() {
            let numbers = line.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            if let Some((inode, size)) = numbers {
                synced.insert(inode, size);
            }
        }
        let mut lost = 0;
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let is = std::fs::metadata(&path).expect("a file");
            if !is.is_file() {
                continue;
            }
            // It is never synced, but its inode may be that of a file that was, and is gone.
            let watermark = path.file_name().is_some_and(|name| name == "SYNCED");
            let recorded = synced.get(&is.ino()).copied().filter(|_| !watermark);
            let safe = recorded.unwrap_or(0).min(is.len());
            let left = safe + keep(is.len() - safe).min(is.len() - safe);
            lost += is.len() - left;
            let file = std::fs::File::options().write(true).open(&path).expect("a file");
            file.set_len(left).expect("it is cut");
        }
        lost
    }
}
