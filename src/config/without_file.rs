//! A gateway without a file: from the command line and the environment.

use super::expand::{Environment, Surroundings};
use super::finding::{Finding, quoted};
use super::report::{Report, Spot};
use super::sections::{Backend, Certificate, File, default_listeners};
use super::value::{Address, Host, Named};
use crate::policy::Policy;
use std::path::{Path, PathBuf};

/// What the command line or, behind it, the environment says. Beside a file, the host name, the certificate and the
/// administration address stand before what the file says; the others are for where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// `--backend`, `GATEPOST_BACKEND`: a name, an address, or an IPv6 address in brackets.
    pub backend: Option<String>,
    /// `--hostname`, `GATEPOST_HOSTNAME`.
    pub hostname: Option<String>,
    /// `--cert`, `GATEPOST_CERT`: the chain; with `key`.
    pub cert: Option<PathBuf>,
    /// `--key`, `GATEPOST_KEY`.
    pub key: Option<PathBuf>,
    /// `--allow`, `GATEPOST_ALLOW`: networks, addresses and file:PATH with commas or spaces between; for every listener.
    pub allow: Option<String>,
    /// `--admin-address`, `GATEPOST_ADMIN_ADDRESS`; `off` for none.
    pub admin_address: Option<String>,
    /// `--port-offset`, `GATEPOST_PORT_OFFSET`: added to the default ports, for a container that may not bind low
    /// ones: 10000 makes them 10993, 10995, 10465 and 10587.
    pub port_offset: Option<u16>,
}

const BACKEND: &str = "--backend (GATEPOST_BACKEND)";
const HOSTNAME: &str = "--hostname (GATEPOST_HOSTNAME)";
const CERT: &str = "--cert (GATEPOST_CERT)";
const KEY: &str = "--key (GATEPOST_KEY)";
const ALLOW: &str = "--allow (GATEPOST_ALLOW)";
const ADMIN_ADDRESS: &str = "--admin-address (GATEPOST_ADMIN_ADDRESS)";
const PORT_OFFSET: &str = "--port-offset (GATEPOST_PORT_OFFSET)";

/// The default listeners in front of one backend. Without a hostname the machine's own is taken, with a warning.
///
/// # Errors
/// All findings; at least one is an error.
pub fn without_file(given: &Given, environment: &Environment) -> Result<(Policy, Vec<Finding>), Vec<Finding>> {
    let (mut file, mut report) = (File::default(), Report::default());
    let spot = Spot::top("backends");
    report.given(&spot, BACKEND);
    match written(given.backend.as_deref()) {
        None => {
            report.error(&spot, "is not given, and there is no configuration file: name the server behind");
        }
        Some(backend) => {
            if let Some(host) = parsed::<Host>(&spot, backend, BACKEND, &mut report) {
                let backend = Backend { host: Some(host), ..Backend::default() };
                file.backends = Named(vec![("main".to_owned(), backend)]);
            }
        }
    }
    if written(given.hostname.as_deref()).is_none() {
        file.hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let taken = file.hostname.as_deref().map_or_else(|| "localhost".to_owned(), str::to_owned);
        let message = format!(
            "is not given: `{taken}`, this machine's name, is taken, and is what certificates are checked against"
        );
        report.given(&Spot::top("hostname"), HOSTNAME);
        report.warning(&Spot::top("hostname"), message);
        file.hostname = Some(taken);
    }
    // An offset that is too large is told below, with all else that is given.
    let mut listeners = default_listeners(given.port_offset.unwrap_or(0)).unwrap_or_default();
    let entries = given.allow.as_deref().unwrap_or_default().split([',', ' ']).filter(|entry| !entry.is_empty());
    let allow: Vec<_> = entries.filter_map(|entry| parsed(&Spot::top("allow"), entry, ALLOW, &mut report)).collect();
    // Unlike the others, set to nothing is not unset: the doors would stand open by a mistake elsewhere.
    let names_nobody = |text: &str| !text.split([',', ' ']).any(|entry| !entry.is_empty());
    if given.allow.as_deref().is_some_and(names_nobody) {
        report.given(&Spot::top("allow"), ALLOW);
        report.error(&Spot::top("allow"), "names nobody: unset it for everyone");
    }
    for (name, listener) in &mut listeners.0 {
        listener.allow.clone_from(&allow);
        report.given(&Spot::top("listeners").key(name).key("allow"), ALLOW);
    }
    file.listeners = Some(listeners);
    given.apply(&mut file, &mut report);
    if report.has_errors() {
        return Err(report.finish());
    }
    let around = Surroundings { environment, directory: Path::new("") };
    super::conclude(&file, around, report)
}

impl Given {
    /// Puts what stands before the file into its sections.
    pub(super) fn apply(&self, file: &mut File, report: &mut Report) {
        if let Some(hostname) = written(self.hostname.as_deref()) {
            file.hostname = Some(hostname.to_owned());
            report.given(&Spot::top("hostname"), HOSTNAME);
        }
        if let Some(offset) = self.port_offset {
            if default_listeners(offset).is_some() {
                file.port_offset = offset;
            } else {
                let spot = Spot::top("listeners");
                report.given(&spot, PORT_OFFSET);
                report.error(&spot, format_args!("`{offset}` is too large: 995 and this are more than 65535"));
            }
        }
        if let Some(address) = written(self.admin_address.as_deref()) {
            let spot = Spot::top("admin").key("address");
            file.admin.address = match address {
                "off" => None,
                _ => parsed::<Address>(&spot, address, ADMIN_ADDRESS, report),
            };
            report.given(&spot, ADMIN_ADDRESS);
        }
        let spot = Spot::top("tls").key("certificates");
        let path = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        match (path(&self.cert), path(&self.key)) {
            (None, None) => {}
            (Some(chain), Some(key)) => {
                let directory = std::env::current_dir().unwrap_or_default();
                let [chain, key] = [chain, key].map(|path| Some(directory.join(path)));
                file.tls.certificates = vec![Certificate { chain, key }];
                report.given(&spot.item(0).key("chain"), CERT);
                report.given(&spot.item(0).key("key"), KEY);
            }
            (given, _) => {
                let (here, absent) = if given.is_some() { (CERT, KEY) } else { (KEY, CERT) };
                report.given(&spot, here);
                report.error(&spot, format_args!("is given without {absent}: give both, or neither"));
            }
        }
    }

    /// Warns of what has no meaning beside a file.
    pub(super) fn report_unused(&self, report: &mut Report) {
        for (given, name) in [(&self.backend, BACKEND), (&self.allow, ALLOW)] {
            if written(given.as_deref()).is_some() {
                let spot = Spot::top(name);
                report.given(&spot, name);
                report.warning(&spot, "is not looked at, for there is a configuration file: write it there");
            }
        }
    }
}

/// A variable that is set to nothing counts as not set: compose files pass them on like that.
fn written(given: Option<&str>) -> Option<&str> {
    given.filter(|text| !text.is_empty())
}

fn parsed<T: std::str::FromStr<Err = String>>(
    spot: &Spot,
    text: &str,
    name: &'static str,
    report: &mut Report,
) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(why) => {
            report.given(spot, name);
            report.error(spot, format_args!("{} {why}", quoted(text)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Protocol;

    fn given(backend: &str) -> Given {
        Given { backend: Some(backend.to_owned()), hostname: Some("mail.example.net".to_owned()), ..Given::default() }
    }

    fn refused(given: &Given) -> String {
        let findings = without_file(given, &Environment::default()).expect_err("refused");
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_backend_is_enough() {
        for (backend, server) in [
            ("10.0.0.5", "10.0.0.5:143"),
            ("old.example.net", "old.example.net:143"),
            ("[2001:db8::5]", "[2001:db8::5]:143"),
        ] {
            let (policy, findings) = without_file(&given(backend), &Environment::default()).expect(backend);
            assert_eq!(findings, []);
            let doors: Vec<_> = policy
                .listeners
                .iter()
                .flat_map(|l| l.addresses.iter().map(|a| (a.to_string(), l.tls.as_str())))
                .collect();
            let expected = [
                ("[::]:993", "implicit"),
                ("[::]:995", "implicit"),
                ("[::]:465", "implicit"),
                ("[::]:587", "starttls"),
            ];
            assert_eq!(doors, expected.map(|(address, tls)| (address.to_owned(), tls)));
            assert_eq!(policy.backends["main"].servers[&Protocol::Imap.into()][0].to_string(), server);
            assert!(policy.listeners[0].access.check("203.0.113.9".parse().expect("an address")).is_ok());
        }
    }

    #[test]
    fn an_offset_an_allow_list_and_no_admin_address() {
        let given = Given {
            allow: Some("10.0.0.0/8, 2001:db8::/32".to_owned()),
            admin_address: Some("off".to_owned()),
            port_offset: Some(10_000),
            ..given("10.0.0.5")
        };
        let (policy, _) = without_file(&given, &Environment::default()).expect("good");
        let ports: Vec<u16> = policy.listeners.iter().map(|listener| listener.addresses[0].port()).collect();
        assert_eq!(ports, [10_993, 10_995, 10_465, 10_587]);
        assert_eq!(policy.admin.address, None);
        for listener in &policy.listeners {
            assert!(listener.access.check("10.1.2.3".parse().expect("an address")).is_ok());
            assert!(listener.access.check("203.0.113.9".parse().expect("an address")).is_err());
        }
    }

    #[test]
    fn without_a_hostname_the_machine_s_own_is_taken_with_a_warning() {
        match without_file(&Given { hostname: None, ..given("10.0.0.5") }, &Environment::default()) {
            Ok((_, findings)) => assert!(findings[0].to_string().contains("warning: --hostname"), "{findings:?}"),
            // A machine may have a name that is none.
            Err(findings) => assert!(findings.iter().any(|f| f.to_string().contains("--hostname")), "{findings:?}"),
        }
    }

    #[test]
    fn each_wrong_word_is_named_by_where_it_came_from() {
        let cases = [
            (Given { backend: None, ..given("") }, "error: --backend (GATEPOST_BACKEND): is not given"),
            (given("10.0.0.5:143"), "error: --backend (GATEPOST_BACKEND): `10.0.0.5:143` has a port"),
            (
                Given { hostname: Some("a b".to_owned()), ..given("h") },
                "error: --hostname (GATEPOST_HOSTNAME): `a b` is not a host name",
            ),
            (
                Given { cert: Some("c.pem".into()), ..given("h") },
                "error: --cert (GATEPOST_CERT): is given without --key (GATEPOST_KEY)",
            ),
            (
                Given { cert: Some("/none".into()), key: Some("/none".into()), ..given("h") },
                "error: --key (GATEPOST_KEY): `/none` cannot be read: No such file",
            ),
            (Given { allow: Some("x".to_owned()), ..given("h") }, "error: --allow (GATEPOST_ALLOW): `x` is neither"),
            (Given { allow: Some(String::new()), ..given("h") }, "error: --allow (GATEPOST_ALLOW): names nobody"),
            (Given { allow: Some(" , ".to_owned()), ..given("h") }, "error: --allow (GATEPOST_ALLOW): names nobody"),
            (
                Given { allow: Some("file:/none".to_owned()), ..given("h") },
                "error: --allow (GATEPOST_ALLOW): `/none` cannot be read",
            ),
            (
                Given { admin_address: Some("9900".to_owned()), ..given("h") },
                "error: --admin-address (GATEPOST_ADMIN_ADDRESS): `9900` is not an address",
            ),
            (
                Given { port_offset: Some(65_000), ..given("h") },
                "error: --port-offset (GATEPOST_PORT_OFFSET): `65000` is too large",
            ),
        ];
        for (given, words) in cases {
            let said = refused(&given);
            assert!(said.contains(words), "{said}\nlacks {words}");
        }
        let everywhere = refused(&Given { allow: Some("file:/none".to_owned()), ..given("h") });
        assert_eq!(everywhere.lines().count(), 1, "once, not for each listener: {everywhere}");
    }
}
