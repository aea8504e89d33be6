//! Where the configuration comes from: a file, or no file at all.

use super::say;
use crate::config::{self, Environment, Finding, Given, Severity};
use crate::policy::{Policy, Reach};
use crate::tls::SETTLING;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The file that is read when none is named.
pub(super) const DEFAULT: &str = "/etc/gatepost/gatepost.yaml";

/// Flags that say what to run. A flag goes before the environment, the environment before the file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SourceArguments {
    /// The configuration [default: /etc/gatepost/gatepost.yaml, unless a backend is named]
    #[arg(short, long, value_name = "FILE", env = "GATEPOST_CONFIG", value_parser = path())]
    config: Option<PathBuf>,
    /// Runs without a file, in front of this host's plaintext ports 143, 110 and 25
    #[arg(long, value_name = "HOST", env = "GATEPOST_BACKEND")]
    backend: Option<String>,
    /// Our name, in greetings and on the certificate
    #[arg(long, value_name = "NAME", env = "GATEPOST_HOSTNAME")]
    hostname: Option<String>,
    /// The certificate chain (PEM)
    #[arg(long, value_name = "FILE", env = "GATEPOST_CERT", value_parser = path())]
    cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", env = "GATEPOST_KEY", value_parser = path())]
    key: Option<PathBuf>,
    /// Without a file: who may come in (networks and addresses, separated by commas) [default: everyone]
    #[arg(long, value_name = "CIDR,…", env = "GATEPOST_ALLOW")]
    allow: Option<String>,
    /// Where metrics and health are served [default: the configuration's, else 127.0.0.1:9900]
    #[arg(long, value_name = "ADDRESS", env = "GATEPOST_ADMIN_ADDRESS")]
    admin_address: Option<String>,
    /// Added to each port of the default listeners (10000: 10993, 10995, 10465, 10587), for processes that may not bind low ports
    #[arg(long, value_name = "N", env = "GATEPOST_PORT_OFFSET", value_parser = port_offset)]
    port_offset: Option<u16>,
}

impl SourceArguments {
    /// Sorts out which of two things is meant that clap, which looks at each flag alone, cannot: a backend on the command line
    /// asks for a gateway without a file, and a file that only the environment names stands behind that.
    pub(super) fn flags_first(mut self, is_flag: impl Fn(&str) -> bool) -> Self {
        if is_flag("backend") && !is_flag("config") {
            self.config = None;
        }
        self
    }

    /// The file that is read, if one is.
    pub(crate) fn file(&self) -> Option<&Path> {
        let file = self.config.as_deref().and_then(written);
        let needs_none = self.backend.as_deref().is_some_and(|backend| !backend.is_empty());
        file.or((!needs_none).then_some(Path::new(DEFAULT)))
    }

    /// Reads the configuration for a start. A certificate that is caught between the writing of its two files is tried again
    /// for a while: a machine that restarts in that moment must not be left without mail.
    pub(super) fn load_once_settled(&self) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
        let began = Instant::now();
        once_settled(
            || self.load(None),
            |findings, is_first| {
                if is_first {
                    print_findings(findings);
                    say(format_args!("this may be a renewal under way: tried again for {} s", SETTLING.as_secs()));
                }
                std::thread::sleep(Duration::from_millis(500));
                began.elapsed() < SETTLING
            },
        )
    }

    /// Reads the configuration; in a sandbox, what is in its reach.
    pub(crate) fn load(&self, reach: Option<Arc<Reach>>) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
        let environment = Environment::of_process().within(reach);
        let given = Given {
            backend: self.backend.clone(),
            hostname: self.hostname.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            allow: self.allow.clone(),
            admin_address: self.admin_address.clone(),
            port_offset: self.port_offset,
        };
        match self.file() {
            Some(file) => config::load_with(file, &environment, &given),
            None => config::without_file(&given, &environment),
        }
    }
}

/// Loads again as long as nothing is wrong but what may pass, and `wait` says that there is time.
fn once_settled<T>(
    mut load: impl FnMut() -> Result<T, Vec<Finding>>,
    mut wait: impl FnMut(&[Finding], bool) -> bool,
) -> Result<T, Vec<Finding>> {
    let mut is_first = true;
    loop {
        let findings = match load() {
            Ok(loaded) => return Ok(loaded),
            Err(findings) => findings,
        };
        let may_pass = findings.iter().all(|finding| finding.severity != Severity::Error);
        if !may_pass || !wait(&findings, is_first) {
            return Err(findings);
        }
        is_first = false;
    }
}

/// A path that may be empty, as a variable is that a compose file passes on without a value.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A path, unless it is set to nothing, which counts as not set.
pub(super) fn written(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

fn port_offset(text: &str) -> Result<u16, ParseIntError> {
    if text.is_empty() { Ok(0) } else { text.parse() }
}

/// Reads a file.
pub(crate) fn load_file(path: &Path) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    config::load(path, &Environment::of_process())
}

/// What to do for whoever has neither a file nor named a backend.
pub(crate) fn hint_without_file(arguments: &SourceArguments) -> Option<String> {
    let is_named = arguments.config.as_deref().and_then(written).is_some();
    let lost = !is_named && arguments.file().is_some_and(|file| !file.exists());
    lost.then(|| {
        format!(
            "there is no configuration at {DEFAULT}: write one there, name another with -c FILE, or run without one: \
             gatepost run --backend HOST (GATEPOST_BACKEND)"
        )
    })
}

/// Prints findings for people.
pub(crate) fn print_findings(findings: &[Finding]) {
    for finding in findings {
        say(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        Finding { severity, place: None, message: "wrong".to_owned() }
    }

    /// Loads with these severities, one set after the other, and says how often it waited, up to `patience` times.
    fn tried(sets: &[&[Severity]], patience: usize) -> (Result<(), usize>, usize) {
        let (mut sets, mut waits) = (sets.iter(), 0);
        let result = once_settled(
            || match sets.next() {
                Some([]) => Ok(()),
                Some(set) => Err(set.iter().copied().map(finding).collect()),
                None => panic!("asked once too often"),
            },
            |_, is_first| {
                assert_eq!(is_first, waits == 0);
                waits += 1;
                waits <= patience
            },
        );
        (result.map_err(|findings| findings.len()), waits)
    }

    #[test]
    fn only_what_may_pass_is_waited_for_and_not_for_ever() {
        use Severity::{Error, Passing, Warning};
        assert_eq!(tried(&[&[]], 9), (Ok(()), 0));
        assert_eq!(tried(&[&[Passing, Warning], &[Passing], &[]], 9), (Ok(()), 2));
        assert_eq!(tried(&[&[Passing, Error]], 9), (Err(2), 0));
        assert_eq!(tried(&[&[Passing], &[Error]], 9), (Err(1), 1));
        assert_eq!(tried(&[&[Passing], &[Passing], &[Passing, Passing]], 2), (Err(2), 3));
    }
}
