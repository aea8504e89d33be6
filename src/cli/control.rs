//! Commands to a running gateway, over its admin socket.

use super::{ConfigFile, FAILED, FINE, print_data, say, small_runtime};
use crate::admin::{self, AdminError};
use crate::config::{Environment, admin_socket};
use hyper::Method;
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Where a gateway without a configured socket has it.
const DEFAULT_SOCKET: &str = "/run/gatepost/admin.sock";

/// Which gateway is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct SocketArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The gateway's admin socket [default: the configuration's, else /run/gatepost/admin.sock]
    #[arg(long, value_name = "PATH", env = "GATEPOST_ADMIN_SOCKET")]
    socket: Option<PathBuf>,
}

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    which: SocketArguments,
    /// Says nothing: the exit code is 0 when it is ready, for container health checks
    #[arg(long)]
    health: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl SocketArguments {
    fn path(&self) -> PathBuf {
        if let Some(path) = &self.socket {
            return path.clone();
        }
        // A gateway that was started without a file has the default socket.
        admin_socket(self.file.path(), &Environment::of_process()).unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
    }
}

/// Runs `gatepost status`.
pub(super) fn status(arguments: &StatusArguments) -> u8 {
    let socket = arguments.which.path();
    if arguments.health {
        return match ask(&socket, Method::GET, "/readyz") {
            Ok(_) => FINE,
            Err(error) => {
                say(error);
                FAILED
            }
        };
    }
    match ask(&socket, Method::GET, "/api/v1/status") {
        Ok(text) if arguments.json => print_data(format!("{text}\n")),
        Ok(text) => match serde_json::from_str(&text) {
            Ok(status) => print_data(describe(&status)),
            Err(error) => {
                say(format_args!("the gateway's answer cannot be read: {error}"));
                FAILED
            }
        },
        Err(error) => {
            say(error);
            FAILED
        }
    }
}

/// Has the gateway do something, and prints what it says.
pub(super) fn post(arguments: &SocketArguments, path: &str) -> u8 {
    match ask(&arguments.path(), Method::POST, path) {
        Ok(text) => {
            say(text.trim_end());
            FINE
        }
        Err(error) => {
            say(error);
            FAILED
        }
    }
}

fn ask(socket: &Path, method: Method, path: &str) -> Result<String, AdminError> {
    small_runtime().map_err(|error| AdminError::Broken(error.to_string()))?.block_on(admin::call(socket, method, path))
}

fn describe(status: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut text = format!(
        "gatepost {}, up for {}{}\n{} of {} sessions\n",
        word(&status["version"]),
        humantime::format_duration(std::time::Duration::from_secs(status["uptime_seconds"].as_u64().unwrap_or(0))),
        if status["draining"] == true { ", draining" } else { "" },
        status["sessions"],
        status["sessions_limit"],
    );
    for listener in status["listeners"].as_array().into_iter().flatten() {
        for address in listener["addresses"].as_array().into_iter().flatten() {
            let _ = writeln!(
                text,
                "  {:<12} {:<24} {} (tls: {})",
                word(&listener["name"]),
                word(address),
                word(&listener["protocol"]),
                word(&listener["tls"])
            );
        }
    }
    for server in status["backends"].as_array().into_iter().flatten() {
        let state = match server["up"].as_bool() {
            Some(true) => "up",
            Some(false) => "down",
            None => "not asked yet",
        };
        // What is closed is as it should be.
        let relays = match server["relays"].as_str() {
            Some("open") => ", relays for our address without a login",
            _ => "",
        };
        let _ = writeln!(
            text,
            "  {:<12} {}://{} {state}{relays}",
            word(&server["backend"]),
            word(&server["protocol"]),
            word(&server["server"])
        );
    }
    text
}
