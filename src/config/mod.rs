//! YAML → [`Policy`], or every [`Finding`] at once, each with its place.
//!
//! ```text
//! text ─ tree ──► Node ─ expand ─► Node ─ reader ─► sections::File ─ build ─► Policy
//!                  │                 │       │                         │
//!                  └─ syntax, size   │       └─ types, unknown keys     └─ meaning, files, certificates
//!                                    └─ duplicates, ${…}
//! ```
//!
//! A step reports what is wrong and hands on the rest, so that one mistyped key does not hide what else there is.
//! The sections (`sections`) are plain serde structs, and [`schema`] is made from the same.

mod build;
mod expand;
mod finding;
mod nearest;
mod reader;
mod report;
mod schema;
mod sections;
mod syntax;
mod tree;
mod value;
mod without_file;

pub use expand::Environment;
pub(crate) use finding::one_line;
pub use finding::{Finding, Place, Severity};
pub use schema::schema;
pub use without_file::{Given, without_file};

use crate::policy::Policy;
use expand::Surroundings;
use report::{Report, Source};
use sections::File;
use std::path::{Path, PathBuf};

/// Reads a configuration: the policy with its warnings, or everything that is wrong with it.
///
/// Relative paths inside begin at the file's directory.
///
/// # Errors
/// All findings, warnings among them, in the order of the file; at least one is an error.
pub fn load(path: &Path, environment: &Environment) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    load_with(path, environment, &Given::default())
}

/// [`load`], with what the command line or the environment say before the file.
///
/// # Errors
/// As for [`load`].
pub fn load_with(
    path: &Path,
    environment: &Environment,
    given: &Given,
) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    let name = path.display().to_string();
    if let Some(why) = environment.why_out_of_reach(path) {
        return Err(vec![Finding { severity: Severity::Error, place: None, message: format!("{name} {why}") }]);
    }
    let text = syntax::read(path, &name).map_err(|finding| vec![finding])?;
    let whole = syntax::parse(&text, &name).map_err(|finding| vec![finding])?;
    let around = Surroundings { environment, directory: path.parent().unwrap_or(Path::new("")) };

    let mut tree = whole.clone();
    let mut faults = report::duplicates(&mut tree);
    let mut sources = vec![path.to_owned()];
    faults.extend(expand::expand(&mut tree, around, &mut sources));
    let (mut file, unread): (File, _) = reader::read(&mut tree);
    faults.extend(unread);
    faults.truncate(reader::MOST_FAULTS);
    let hopeless = faults.iter().any(|fault| fault.path.is_empty()) || faults.len() >= reader::MOST_FAULTS;

    let mut report = Report::about(Source { name, text, whole }, tree, faults);
    if hopeless {
        return Err(report.finish());
    }
    given.apply(&mut file, &mut report);
    given.report_unused(&mut report);
    let (mut policy, findings) = conclude(&file, around, report)?;
    policy.sources = sources;
    Ok((policy, findings))
}

/// Where a file puts the admin socket, whatever else is wrong with the file: the gateway it was last good for still
/// runs, and is asked over that socket. `None` where the file cannot be read or wants no socket.
pub fn admin_socket(path: &Path, environment: &Environment) -> Option<PathBuf> {
    let text = syntax::read(path, &path.display().to_string()).ok()?;
    let mut tree = syntax::parse(&text, "").ok()?;
    report::duplicates(&mut tree);
    let directory = path.parent().unwrap_or(Path::new(""));
    expand::expand(&mut tree, Surroundings { environment, directory }, &mut Vec::new());
    let (file, _): (File, _) = reader::read(&mut tree);
    file.admin.socket.map(|socket| directory.join(socket))
}

fn conclude(file: &File, around: Surroundings<'_>, mut report: Report) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    let policy = build::policy(file, around, &mut report);
    let findings = report.finish();
    match policy {
        Some(policy) => Ok((policy, findings)),
        None => Err(findings),
    }
}
