//! `gatepost cert`: the private CA.

use super::source::load_file;
use super::{ConfigFile, FAILED, print_data, say};
use crate::tls::PrivateCa;
use std::path::PathBuf;

/// Where a gateway that was started without a file keeps its state.
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
            Ok(code) => code,
            Err(error) => {
                say(format_args!("{error:#}"));
                FAILED
            }
        },
    }
}

fn export(arguments: &ExportArguments) -> anyhow::Result<u8> {
    let folder = match &arguments.state_dir {
        Some(folder) => folder.clone(),
        None if arguments.file.is_absent() => PathBuf::from(DEFAULT_STATE_DIR),
        None => match load_file(arguments.file.path()) {
            Ok((policy, _)) => policy.state_dir,
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
    say(format_args!("SHA-256 {}", ca.fingerprint()));
    Ok(match arguments.format {
        Format::Pem => print_data(ca.root_pem()),
        Format::Der => print_data(ca.root_der()),
    })
}
