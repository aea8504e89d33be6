//! The old files, read within bounds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file taken, in octets.
const LARGEST: u64 = 1024 * 1024;
/// The most octets of all files together.
const LARGEST_TOTAL: u64 = 32 * 1024 * 1024;
/// The most files that a configuration may include, itself not counted.
const MOST_INCLUDES: usize = 1_000;
/// How deep files may include each other: one that includes itself ends here.
pub(super) const DEEPEST: usize = 16;

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    files: usize,
    octets: u64,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadingError {
    /// The system says no, or it is not a file.
    #[error("{} cannot be read: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is larger than [`LARGEST`].
    #[error("{} is larger than 1 MiB, which no configuration is", .0.display())]
    TooLarge(PathBuf),
    /// There are more files than [`MOST_INCLUDES`], or more octets in them than [`LARGEST_TOTAL`].
    #[error("{} is not read: more than 1,000 files are included, or more than 32 MiB", .0.display())]
    TooMany(PathBuf),
}

impl Reading {
    /// Reads a file; `-` is standard input. What is not UTF-8 (an old comment, mostly) is replaced.
    ///
    /// # Errors
    /// It cannot be read, or is past a bound.
    pub(super) fn text(&mut self, file: &Path) -> Result<String, ReadingError> {
        if self.files > MOST_INCLUDES || self.octets > LARGEST_TOTAL {
            return Err(ReadingError::TooMany(file.to_owned()));
        }
        self.files += 1;
        let bytes = octets(file).map_err(|error| ReadingError::Unreadable { file: file.to_owned(), error })?;
        if bytes.len() as u64 > LARGEST {
            return Err(ReadingError::TooLarge(file.to_owned()));
        }
        self.octets += bytes.len() as u64;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned())
    }
}

fn octets(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    // Asked before opening: opening a pipe would wait for its writer.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(file)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The folder that relative paths of a file begin at.
pub(super) fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A path of the old file as it can stand in a configuration elsewhere: whole.
pub(super) fn absolute(folder: &Path, path: &str) -> String {
    let joined = folder.join(path);
    let whole = std::path::absolute(&joined).unwrap_or(joined);
    whole.display().to_string()
}

/// The files that an include names, in the order of their names: one, or those that fit a pattern.
pub(super) fn included(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let whole = folder.join(pattern);
    if !pattern.contains(['*', '?', '[']) {
        return vec![whole];
    }
    // A folder's own name may hold what means something in a pattern.
    let escaped = PathBuf::from(glob::Pattern::escape(&folder.display().to_string())).join(pattern);
    let found = glob::glob(&escaped.display().to_string()).into_iter().flatten().filter_map(Result::ok);
    found.take(MOST_INCLUDES + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_the_bounds_is_not_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let large = dir.path().join("large");
        fs::write(&large, "# ".repeat(600_000)).expect("written");
        assert!(matches!(Reading::default().text(&large), Err(ReadingError::TooLarge(_))));
        assert!(matches!(Reading::default().text(dir.path()), Err(ReadingError::Unreadable { .. })));

        let small = dir.path().join("small");
        fs::write(&small, b"caf\xe9\n").expect("written");
        let mut reading = Reading::default();
        for _ in 0..=MOST_INCLUDES {
            assert_eq!(reading.text(&small).expect("within bounds"), "caf\u{fffd}\n");
        }
        assert!(matches!(reading.text(&small), Err(ReadingError::TooMany(_))));
    }

    #[test]
    fn a_pattern_names_its_files_in_order_and_a_plain_name_one_that_may_be_missing() {
        let dir = tempfile::Builder::new().prefix("a[b]*").tempdir().expect("a folder");
        for name in ["20-b.conf", "10-a.conf", "other.txt"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let names = |pattern: &str| -> Vec<String> {
            let name = |path: PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
            included(dir.path(), pattern).into_iter().map(name).collect()
        };
        assert_eq!(names("*.conf"), ["10-a.conf", "20-b.conf"]);
        assert_eq!(names("*.none"), [""; 0]);
        assert_eq!(names("missing.conf"), ["missing.conf"]);
    }
}
