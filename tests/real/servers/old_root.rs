//! A root directory for servers that Debian does not let stand beside Dovecot and Postfix.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy, by hard links, of the packages that `tests/run` unpacked: each instance has its own configuration, sockets and mail.
///
/// What it holds may be replaced ([`crate::kept::write`] does), never written into: the copies share their files.
pub fn copy_of_old_servers(name: &str) -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let packages = scratch.parent().expect("the target directory").join("old-servers");
    assert!(packages.join("complete").exists(), "{} is not there: run tests/run first", packages.display());
    let root = scratch.join(format!("{name}-{}", std::process::id()));
    let status = Command::new("cp").arg("-al").arg(&packages).arg(&root).status().expect("cp");
    assert!(status.success(), "cp -al {} {}", packages.display(), root.display());
    root
}
