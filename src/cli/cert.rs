//! `gatepost cert`: the private CA, and what stands in a certificate.

mod show;

use super::source::load_file;
use super::{ConfigFile, FAILED, FINE, print_data, say};
use crate::policy::Policy;
use crate::tls::{Name, PrivateCa, Shown};
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where a gateway that was started without a file keeps its state.
const DEFAULT_STATE_DIR: &str = "/var/lib/gatepost";

/// What can be done with the private CA.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CertCommand {
    /// Makes the CA, as `gatepost run` does where no certificate is given; one that is there stays as it is
    Init(InitArguments),
    /// Issues a certificate for these names, for a server beside the gateway or for another gateway, or to a customer
    Issue(IssueArguments),
    /// Shows what stands in a certificate file, and what is wrong with it
    Show(show::ShowArguments),
    /// Writes the CA's root certificate to stdout, for clients to trust
    Export(ExportArguments),
}

/// Where the CA is.
#[derive(Debug, clap::Args)]
pub(crate) struct StateArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The gateway's state folder, where there is no configuration [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Flags of `cert init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArguments {
    #[command(flatten)]
    state: StateArguments,
    /// The name by which people find the root among those they trust [default: the configuration's hostname]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
}

/// Flags of `cert issue`.
#[derive(Debug, clap::Args)]
pub(crate) struct IssueArguments {
    #[command(flatten)]
    state: StateArguments,
    /// Host names and addresses; `*.example.net` too
    #[arg(value_name = "NAME", required_unless_present = "client")]
    names: Vec<Name>,
    /// For a customer instead, who shows it where `client_certificate` asks for one: joe@example.net, or a name
    #[arg(long, value_name = "NAME", conflicts_with = "names")]
    client: Option<String>,
    /// The folder for NAME.pem and NAME.key
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Flags of `cert export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    state: StateArguments,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Text, for most programs
    Pem,
    /// Binary, for Windows and Android
    Der,
    /// A profile, for iPhones, iPads and Macs
    Mobileconfig,
}

/// Runs `gatepost cert …`.
pub(super) fn cert(command: &CertCommand) -> u8 {
    let done = match command {
        CertCommand::Init(arguments) => init(arguments),
        CertCommand::Issue(arguments) => issue(arguments),
        CertCommand::Show(arguments) => return show::show(arguments),
        CertCommand::Export(arguments) => export(arguments),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("{error:#}"));
        FAILED
    })
}

impl StateArguments {
    /// The configuration, where one is to be read.
    fn policy(&self) -> anyhow::Result<Option<Policy>> {
        if self.state_dir.is_some() || self.file.is_absent() {
            return Ok(None);
        }
        match load_file(self.file.path()) {
            Ok((policy, _)) => Ok(Some(policy)),
            Err(findings) => {
                super::source::print_findings(&findings);
                anyhow::bail!("where the CA is stands in the configuration; without one, name --state-dir");
            }
        }
    }

    fn folder(&self, policy: Option<&Policy>) -> PathBuf {
        match (&self.state_dir, policy) {
            (Some(folder), _) => folder.clone(),
            (None, Some(policy)) => policy.state_dir.clone(),
            (None, None) => PathBuf::from(DEFAULT_STATE_DIR),
        }
    }

    fn open(&self) -> anyhow::Result<PrivateCa> {
        let folder = self.folder(self.policy()?.as_ref());
        PrivateCa::open(&folder)?.with_context(|| {
            format!(
                "there is no private CA in {}: `gatepost cert init` makes one, and `gatepost run` when no certificate is given",
                folder.display()
            )
        })
    }
}

fn init(arguments: &InitArguments) -> anyhow::Result<u8> {
    let policy = arguments.state.policy()?;
    let folder = arguments.state.folder(policy.as_ref());
    let hostname = arguments.hostname.clone().or_else(|| policy.as_ref().map(|policy| policy.hostname.clone()));
    let hostname = hostname
        .context("the root is named after the mail server: name it with --hostname, such as mail.example.net")?;
    if let Some(ca) = PrivateCa::open(&folder)? {
        say(format_args!("there is a private CA in {} already, and it stays as it is", folder.display()));
        say(format_args!("SHA-256 {}", ca.fingerprint()));
        return Ok(FINE);
    }
    // The gateway must be able to read and renew it: it is made as the user that will.
    if let Some(identity) =
        policy.as_ref().map(|policy| crate::server::privileges::identity(&policy.runtime)).transpose()?.flatten()
    {
        identity.is_within_reach()?;
        if !folder.exists() {
            std::fs::create_dir_all(&folder)
                .and_then(|()| identity.own(&folder))
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        identity.assume(false)?;
    }
    let ca = PrivateCa::open_or_create(&folder, &hostname, SystemTime::now())?;
    say(format_args!(
        "made a private CA in {}: back it up; customers get its root by `gatepost cert export`",
        folder.join("ca").display()
    ));
    say(format_args!("SHA-256 {}", ca.fingerprint()));
    Ok(FINE)
}

fn issue(arguments: &IssueArguments) -> anyhow::Result<u8> {
    let ca = arguments.state.open()?;
    let (issued, stem) = match &arguments.client {
        Some(name) => (ca.issue_to_client(name, SystemTime::now())?, file_name(name)),
        None => {
            let first = arguments.names.first().map(ToString::to_string).unwrap_or_default();
            // Neither a star nor the colons of an address are for a file's name.
            let stem = first.replace('*', "_").replace(':', "-");
            (ca.issue(&arguments.names, SystemTime::now())?, stem)
        }
    };
    let (chain, key) = (arguments.out.join(format!("{stem}.pem")), arguments.out.join(format!("{stem}.key")));
    create(&key, 0o600, issued.key_pem.as_bytes())?;
    if let Err(error) = create(&chain, 0o644, issued.certificate_pem.as_bytes()) {
        // A key without its certificate would only be in the way of the next try.
        let _ = std::fs::remove_file(&key);
        return Err(error);
    }
    let until = humantime::format_rfc3339_seconds(issued.not_after);
    if arguments.client.is_some() {
        let (chain, key, root) = (chain.display(), key.display(), ca.root_file());
        say(format_args!("{chain} and {key}: good until {until}, where tls.client_ca is {}", root.display()));
        say(
            "mail programs and phones take both as one file: openssl pkcs12 -export -in NAME.pem -inkey NAME.key -out NAME.p12",
        );
        return Ok(FINE);
    }
    say(format_args!(
        "{} and {}: good until {until}, for who trusts the root (`gatepost cert export`)",
        chain.display(),
        key.display()
    ));
    say("it does not renew itself: issue it again before that, and move these two away first");
    Ok(FINE)
}

/// A customer's name as a file's, whatever is in it.
fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '@' | '-' | '_' | '+');
    let mut stem = String::new();
    for c in name.chars().take(200) {
        // A dot that stands first hides a file, and two of them lead elsewhere.
        let is_inner_dot = c == '.' && stem.chars().last().is_some_and(|last| last != '.');
        stem.push(if is_plain(c) || is_inner_dot { c } else { '_' });
    }
    stem
}

/// Writes a file that must not be there: a certificate in use is not overwritten.
fn create(path: &Path, mode: u32, contents: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}: move it away, or name another folder with --out", path.display()))
}

fn export(arguments: &ExportArguments) -> anyhow::Result<u8> {
    let ca = arguments.state.open()?;
    say(format_args!("SHA-256 {}", ca.fingerprint()));
    Ok(match arguments.format {
        Format::Pem => print_data(ca.root_pem()),
        Format::Der => print_data(ca.root_der()),
        Format::Mobileconfig => {
            say(
                "on an iPhone or iPad the root must also be turned on by hand: Settings, General, About, Certificate Trust Settings",
            );
            print_data(crate::portal::profile(Some(ca.root_der()), &common_name(ca.root_der()), None))
        }
    })
}

/// The root's name as people see it.
fn common_name(root: &[u8]) -> String {
    let subject = Shown::of(root).map(|shown| shown.subject).unwrap_or_default();
    subject.trim_start_matches("CN=").to_owned()
}
