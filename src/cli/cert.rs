//! `gatepost cert`: the private CA.

use super::source::load_file;
use super::{ConfigFile, FAILED, FINE, print_data};
use crate::tls::PrivateCa;
use std::io::Write;
use std::path::PathBuf;

/// Where a gateway keeps its state unless its configuration says otherwise.
const DEFAULT_STATE_DIR: &str = "/var/lib/gatepost";

/// What can be done with the private CA.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CertCommand {
    /// Writes the CA's root certificate to stdout, for clients to trust
    Export(ExportArguments),
}

/// Flags of `cert export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The gateway's state folder, where there is no configuration [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Pem)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Text, for most programs
    Pem,
    /// Binary, for phones and Windows
    Der,
}

/// Runs `gatepost cert …`.
pub(super) fn cert(command: &CertCommand) -> u8 {
    match command {
        CertCommand::Export(arguments) => match export(arguments) {
            Ok(()) => FINE,
            Err(error) => {
                eprintln!("{error:#}");
                FAILED
            }
        },
    }
}

fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    let folder = match &arguments.state_dir {
        Some(folder) => folder.clone(),
        None => match load_file(arguments.file.config.as_deref()) {
            Ok((policy, _)) => policy.state_dir,
            // A gateway that was started without a file keeps it there.
            Err(_) if arguments.file.config.is_none() && !super::source::has_default_file() => DEFAULT_STATE_DIR.into(),
            Err(findings) => {
                super::source::print_findings(&findings);
                anyhow::bail!("where the CA is stands in the configuration; without one, name --state-dir");
            }
        },
    };
    let Some(ca) = PrivateCa::open(&folder)? else {
        anyhow::bail!(
            "there is no private CA in {}: `gatepost run` makes one when no certificate is given",
            folder.display()
        );
    };
    eprintln!("SHA-256 {}", ca.fingerprint());
    match arguments.format {
        Format::Pem => print_data(ca.root_pem()),
        Format::Der => std::io::stdout().lock().write_all(ca.root_der())?,
    }
    Ok(())
}
