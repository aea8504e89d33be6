//! `gatepost demo`: the whole thing on one machine with nothing to set up.
//!
//! [`server`] is the old plaintext mail server the gateway is put in front of, [`words`] what is
//! printed when both are up. The gateway is the same as in `gatepost run`, from a configuration
//! written for it, so that what is seen here is what there is.

pub mod server;
pub mod words;

use super::serving::Serving;
use super::source::{load_file, print_findings};
use super::{FAILED, FINE, say};
use crate::policy::LogFormat;
use crate::server::Workers;
use anyhow::Context;
use server::MailServer;
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use words::{DEFAULT_PORT_BASE, MAX_PORT_BASE, Ports, Words};

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArguments {
    /// Added to the usual ports: 10000 makes 993 10993
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PORT_BASE, value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_PORT_BASE)))]
    port_base: u16,
}

/// Runs the demo until Ctrl-C.
pub(super) fn demo(arguments: &DemoArguments) -> u8 {
    match show(arguments.port_base) {
        Ok(()) => FINE,
        Err(error) => {
            say(format_args!("{error:#}"));
            FAILED
        }
    }
}

fn show(base: u16) -> anyhow::Result<()> {
    let ports = Ports::from_base(base).context("--port-base is too high")?;
    let folder = folder()?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("the demo keeps its CA in {}", folder.display()))?;
    let descriptors = crate::server::privileges::raise_descriptors();
    let (runtime, workers) = (crate::server::runtime()?, Workers::start(1)?);
    let result = runtime.block_on(async {
        // Held to the end: it goes when this block does.
        let old_server = MailServer::start().await.context("the old mail server cannot start")?;
        let file = folder.join("gatepost.yaml");
        std::fs::write(&file, configuration(&folder, ports, &old_server))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let (mut policy, warnings) = load_file(&file).map_err(|findings| {
            print_findings(&findings);
            anyhow::anyhow!("the demo's own configuration is refused")
        })?;
        print_findings(&warnings);
        policy.log.format = LogFormat::Text;
        let bound = crate::server::bind::bind(&policy, workers.count()).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}\nanother --port-base takes other ports", lines.join("\n"))
        })?;
        let (observe, guard) = crate::observe::init(&policy.log)?;
        let ca = folder.join("ca.pem");
        let serving = Serving {
            policy,
            told: warnings,
            bound,
            observe: Arc::clone(&observe),
            descriptors,
            source: Box::new(move || load_file(&file)),
        };
        let state = folder.clone();
        let ended = serving
            .until_told_to_end(&workers, || match export_root(&state, &ca) {
                Ok(()) => say(format_args!("{}", Words { ports, ca: &ca })),
                Err(error) => say(format_args!("the CA's root cannot be exported: {error:#}")),
            })
            .await;
        drop((guard, old_server));
        ended
    });
    workers.end();
    runtime.shutdown_background();
    result
}

/// Where the demo keeps its CA, so that a mail program that trusts it once trusts it the next time too.
fn folder() -> anyhow::Result<PathBuf> {
    let folder = state_home(|name| std::env::var_os(name));
    let folder = folder.context("neither XDG_STATE_HOME nor HOME is set: the demo keeps its CA there")?;
    Ok(folder.join("gatepost-demo"))
}

/// Where programs keep what is to last, by the XDG Base Directory Specification: a folder that is empty or relative counts as
/// none.
fn state_home(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

fn export_root(state: &Path, to: &Path) -> anyhow::Result<()> {
    let ca = crate::tls::PrivateCa::open(state)?.context("there is no private CA")?;
    std::fs::write(to, ca.root_pem())?;
    Ok(())
}

/// The gateway's configuration, which an operator could have written.
fn configuration(folder: &Path, ports: Ports, old: &MailServer) -> String {
    let ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let mut listeners = String::new();
    for (name, port, protocol, tls) in [
        ("imaps", ports.imaps, "imap", "implicit"),
        ("pop3s", ports.pop3s, "pop3", "implicit"),
        ("submissions", ports.submissions, "submission", "implicit"),
        ("submission", ports.submission, "submission", "starttls"),
        ("imap", ports.imap, "imap", "starttls"),
        ("pop3", ports.pop3, "pop3", "starttls"),
    ] {
        // `localhost` is either address to some client.
        let addresses =
            if ipv6 { format!("\"127.0.0.1:{port}\", \"[::1]:{port}\"") } else { format!("127.0.0.1:{port}") };
        listeners += &format!("  {name}: {{ address: [{addresses}], protocol: {protocol}, tls: {tls} }}\n");
    }
    let folder = folder.display().to_string();
    let quoted = serde_json::Value::from(folder.as_str());
    let socket = serde_json::Value::from(format!("{folder}/admin.sock"));
    format!(
        "hostname: localhost\nstate_dir: {quoted}\nlisteners:\n{listeners}backends:\n  old-server: {{ imap: \"{}\", pop3: \"{}\", smtp: \"{}\" }}\nadmin: {{ address: null, socket: {socket} }}\nlimits: {{ sessions: 200 }}\nruntime: {{ drain_timeout: 1s }}\n",
        old.imap, old.pop3, old.smtp
    )
}

#[test]
fn a_folder_for_what_lasts_that_is_empty_or_relative_is_none() {
    for (state, home, folder) in [
        ("/s", "/h", Some("/s")),
        ("", "/h", Some("/h/.local/state")),
        ("s", "/h", Some("/h/.local/state")),
        ("", "", None),
    ] {
        let found = state_home(|name| Some(if name == "HOME" { home } else { state }.into()));
        assert_eq!(found, folder.map(PathBuf::from), "{state:?} {home:?}");
    }
    assert_eq!(state_home(|_| None), None);
}
