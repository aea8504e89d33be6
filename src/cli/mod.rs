//! The commands.

mod cert;
mod check;
mod connect;
mod control;
pub mod demo;
mod hook;
mod import;
mod passwd;
mod probe;
mod remote;
mod run;
mod serving;
mod source;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// All is well.
pub(crate) const FINE: u8 = 0;
/// Something failed while running.
pub(crate) const FAILED: u8 = 1;
/// The command was used wrongly, in a way that clap does not see.
pub(crate) const MISUSED: u8 = 2;
/// The configuration is refused: a supervisor must not start again on it (EX_CONFIG of sysexits).
pub(crate) const REFUSED: u8 = 78;

/// TLS, access lists and login limits in front of old plaintext POP3, IMAP and SMTP servers.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Run(source::SourceArguments),
    /// Says everything that is wrong with a configuration, and what to write instead.
    Check(check::CheckArguments),
    /// Shows the whole thing on this machine, with a mail server of its own and nothing to set up.
    Demo(demo::DemoArguments),
    /// The private CA.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Shows what a mail client sees of a server, and what is wrong with it.
    Probe(probe::ProbeArguments),
    /// Gives programs that know no TLS a plaintext port on this machine to a server with TLS.
    Connect(connect::ConnectArguments),
    /// Says what a running gateway is doing.
    Status(control::StatusArguments),
    /// Has a running gateway read its configuration, certificates and lists again.
    Reload(control::SocketArguments),
    /// Has a running gateway stop accepting and end when its sessions have.
    Drain(control::SocketArguments),
    /// Adds a user to a file for `auth.submission: file:FILE`, or gives one another password.
    Passwd(passwd::PasswdArguments),
    /// Makes our configuration of nginx's, Perdition's, stunnel's, Dovecot's, or of hosts.allow.
    Import(import::ImportArguments),
    /// Prints the JSON Schema of the configuration, for editors.
    Schema,
    /// Runs `tls.acme.hook` for the gateway that started this.
    #[command(name = crate::server::HOOK_SUBCOMMAND, hide = true)]
    AcmeHook(hook::HookArguments),
}

/// Where the configuration is, for commands beside a running gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration [default: /etc/gatepost/gatepost.yaml]
    #[arg(short, long, value_name = "FILE", env = "GATEPOST_CONFIG", value_parser = source::path())]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn path(&self) -> &Path {
        self.config.as_deref().and_then(source::written).unwrap_or(Path::new(source::DEFAULT))
    }

    /// Whether no file is named and none stands in the usual place: a gateway here runs without one.
    fn is_absent(&self) -> bool {
        self.config.as_deref().and_then(source::written).is_none() && !Path::new(source::DEFAULT).exists()
    }
}

/// Runs the command on the command line. Human text goes to stderr, data to stdout.
pub fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let is_flag = |name: &str| matches.subcommand().is_some_and(|(_, flags)| is_flag(flags, name));
    let code = match arguments.command {
        Command::Run(arguments) => run::run(arguments.flags_first(is_flag)),
        Command::Check(arguments) => check::check(&arguments.flags_first(is_flag)),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Cert(command) => cert::cert(&command),
        Command::Probe(arguments) => probe::probe(&arguments),
        Command::Connect(arguments) => connect::connect(&arguments),
        Command::Status(arguments) => control::status(&arguments),
        Command::Reload(arguments) => control::post(&arguments, "/api/v1/reload"),
        Command::Drain(arguments) => control::post(&arguments, "/api/v1/drain"),
        Command::Passwd(arguments) => passwd::passwd(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::AcmeHook(arguments) => hook::hook(arguments),
        Command::Schema => print_data(format!("{:#}\n", crate::config::schema())),
    };
    ExitCode::from(code)
}

/// Whether a value stands on the command line, as opposed to the environment.
fn is_flag(flags: &ArgMatches, name: &str) -> bool {
    flags.value_source(name) == Some(ValueSource::CommandLine)
}

/// Writes data to stdout, and gives the exit code. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print_data(data: impl AsRef<[u8]>) -> u8 {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(format_args!("cannot write to standard output: {error}"));
            FAILED
        }
        _ => FINE,
    }
}

/// Says a line to a person. `eprintln!` panics where nobody reads standard error any more (`2>&1 | head -1`), and a
/// gateway must not end for that.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A runtime for a command that talks to the network for a moment.
pub(crate) fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
