//! Customers with certificates by the hand of openssl: curl and `s_client` show them, Dovecot stands behind.

use crate::authority::{Authority, Order};
use crate::clients::{Ended, client, curl, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::{until, write};
use crate::servers::dovecot;
use std::path::{Path, PathBuf};

/// Certificate and key.
type Own = (PathBuf, PathBuf);

/// Every port with the words that make `s_client` speak TLS there, and the command that ends its protocol.
const PORTS: [(u16, &str, &str); 6] = [
    (993, "", "a LOGOUT\r\n"),
    (143, "-starttls imap", "a LOGOUT\r\n"),
    (995, "", "QUIT\r\n"),
    (110, "-starttls pop3", "QUIT\r\n"),
    (465, "", "QUIT\r\n"),
    (587, "-starttls smtp", "QUIT\r\n"),
];

const VERSIONS: [(&str, [&str; 3]); 2] =
    [("-tls1_2", ["--tlsv1.2", "--tls-max", "1.2"]), ("-tls1_3", ["--tlsv1.3", "--tls-max", "1.3"])];

const JOE: Order<'static> = Order { names: "email:joe@example.net", usage: "clientAuth", ..Order::GOOD };

/// A gateway that asks for certificates of this authority on the listeners in whose line one of the words stands.
fn asking(asked: &str, words: &[&str], authority: &Authority, more: &str) -> Gatepost {
    let more = format!("  client_ca: {}\n{more}", authority.root().display());
    Gatepost::start_edited(Backend::usual(), &more, |text| {
        let line = |line: &str| {
            let asks = line.contains("protocol:") && words.iter().any(|word| line.contains(word));
            if asks { line.replace(" }", &format!(", client_certificate: {asked} }}")) } else { line.to_owned() }
        };
        text.lines().map(|text| line(text) + "\n").collect()
    })
}

fn s_client(gateway: &Gatepost, (port, starttls, goodbye): (u16, &str, &str), more: &str, own: Option<&Own>) -> Ended {
    let mut openssl = client("openssl");
    openssl.args(["s_client", "-connect", &gateway.at(port).to_string(), "-servername", "mail.example.net"]);
    openssl.args(["-verify_return_error", "-ign_eof", "-CAfile"]).arg(gateway.authority());
    openssl.args(starttls.split_whitespace()).args(more.split_whitespace());
    if let Some((certificate, key)) = own {
        openssl.arg("-cert").arg(certificate).arg("-key").arg(key);
    }
    run(openssl, goodbye.as_bytes())
}

/// Lists the folders of a user by curl.
fn listed(gateway: &Gatepost, url: &str, user: &str, options: &[&str], own: Option<&Own>) -> Ended {
    let mut curl = curl(gateway);
    curl.args(options).args(["--user", &format!("{user}:secret"), url]);
    if let Some((certificate, key)) = own {
        curl.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    run(curl, b"")
}

#[test]
fn where_one_is_required_openssl_comes_in_with_a_certificate_alone() {
    let authority = Authority::new();
    let joe = authority.sign("joe", &JOE);
    let gateway = asking("require", &["protocol:"], &authority, "");
    for (port, (version, _)) in PORTS.into_iter().flat_map(|port| VERSIONS.map(|version| (port, version))) {
        let shown = s_client(&gateway, port, version, Some(&joe));
        assert!(shown.ok && shown.said.contains("Acceptable client certificate CA names"), "{port:?}: {}", shown.said);
        assert!(shown.said.contains("CN = Authority"), "the CA is named, so that programs know what to show");
        let without = s_client(&gateway, port, version, None);
        let alert = if version == "-tls1_2" { "alert handshake failure" } else { "alert certificate required" };
        assert!(without.said.contains(alert), "{port:?} {version}: {}", without.said);
    }
    let mut metrics = client("curl");
    metrics.args(["--silent", &format!("http://{}:9900/metrics", gateway.address)]);
    let counted = output_of(metrics, b"");
    for listener in ["imaps", "imap", "pop3s", "pop3", "submissions", "submission"] {
        let line = format!("gatepost_tls_failures_total{{listener=\"{listener}\",reason=\"no_client_certificate\"}} 2");
        assert!(counted.contains(&line), "{counted}");
    }
}

#[test]
fn curl_logs_in_with_its_certificate_and_the_event_has_the_name() {
    let (authority, user) = (Authority::new(), dovecot::shared().user("customer-with-certificate"));
    let joe = authority.sign("joe", &JOE);
    let rsa = authority.sign("rsa", &Order { names: "email:rsa@example.net", key: "rsa:2048", ..JOE });
    let expired = authority.sign("expired", &Order { dates: ("190101000000Z", "200101000000Z"), ..JOE });
    let server = authority.sign("server", &Order::GOOD);
    let foreign = Authority::new().sign("foreign", &JOE);
    for asked in ["require", "request"] {
        let gateway = asking(asked, &["protocol:"], &authority, "");
        for (scheme, starttls) in [("imaps", ""), ("imap", "--ssl-reqd")] {
            for (_, version) in VERSIONS {
                let options: Vec<&str> = version.into_iter().chain(starttls.split_whitespace()).collect();
                let url = format!("{scheme}://mail.example.net/");
                let list = |own| listed(&gateway, &url, user, &options, own);
                for (own, name) in [(&joe, "joe@example.net"), (&rsa, "rsa@example.net")] {
                    let good = list(Some(own));
                    assert!(good.ok && good.said.contains("INBOX"), "{asked} {options:?}: {}", good.said);
                    gateway.event_where(name, |event| {
                        event["event"] == "auth.ok" && event["tls"]["client"]["name"] == name
                    });
                }
                let without = list(None);
                assert_eq!(without.ok, asked == "request", "{asked} {options:?}: {}", without.said);
                for (bad, why) in [(&expired, "expired"), (&foreign, "refused"), (&server, "a server's")] {
                    let refused = list(Some(bad));
                    assert!(!refused.ok && !refused.said.contains("INBOX"), "{why} {asked}: {}", refused.said);
                }
            }
        }
        let failed = |reason: &str, words: &str| {
            let is_one = |event: &&serde_json::Value| {
                event["event"] == "tls.failed"
                    && event["reason"] == reason
                    && event["detail"].as_str().is_some_and(|detail| detail.contains(words))
            };
            gateway.events().iter().filter(is_one).count()
        };
        until("the last failure", || (failed("client_certificate", "other purposes") == 4).then_some(()));
        assert_eq!(failed("client_certificate", "has expired"), 4, "{}", gateway.log());
        assert_eq!(failed("no_client_certificate", ""), if asked == "require" { 4 } else { 0 });
    }
}

#[test]
fn no_session_of_another_port_is_resumed_where_a_certificate_is_required() {
    let authority = Authority::new();
    let joe = authority.sign("joe", &JOE);
    let gateway = asking("require", &["imap"], &authority, "");
    let folder = tempfile::tempdir().expect("a directory");
    let kept = |name: &str| folder.path().join(name).display().to_string();
    for (version, _) in VERSIONS {
        let (free, own) = (kept(&format!("free{version}")), kept(&format!("own{version}")));
        // A ticket from where nobody asks.
        let first = s_client(&gateway, PORTS[2], &format!("{version} -sess_out {free}"), None);
        assert!(first.ok && Path::new(&free).exists(), "{}", first.said);
        let again = s_client(&gateway, PORTS[2], &format!("{version} -sess_in {free}"), None);
        assert!(again.said.contains("\nReused, "), "it is good there: {}", again.said);
        for port in [PORTS[0], PORTS[1]] {
            let without = s_client(&gateway, port, &format!("{version} -sess_in {free}"), None);
            assert!(!without.said.contains("\nReused, ") && without.said.contains(" alert "), "{}", without.said);
            let with = s_client(&gateway, port, &format!("{version} -sess_in {free} -sess_out {own}"), Some(&joe));
            assert!(with.ok && with.said.contains("\nNew, "), "{}", with.said);
            // What that leaves, if anything, opens nothing.
            let more = if Path::new(&own).exists() { format!("-sess_in {own}") } else { String::new() };
            let without = s_client(&gateway, port, &format!("{version} {more}"), None);
            assert!(!without.said.contains("\nReused, ") && without.said.contains(" alert "), "{}", without.said);
        }
    }
}

#[test]
fn a_certificate_leads_to_another_server() {
    let (authority, main, staff) = (Authority::new(), dovecot::shared(), dovecot::Dovecot::start(""));
    let (here, there) = (main.user("certificate-here"), staff.user("certificate-there"));
    let joe = authority.sign("joe", &Order { names: "email:joe@staff.example.net", ..JOE });
    let more = format!(
        "  client_ca: {}\nroutes:\n  - {{ client_certificate: \"*@Staff.example.net\", backend: staff }}\n",
        authority.root().display()
    );
    let gateway = Gatepost::start_edited(Backend { smtp: None, ..Backend::usual() }, &more, |text| {
        let other = format!("  staff: {{ imap: \"{}\", pop3: \"{}\" }}\nlisteners:\n", staff.imap(), staff.pop3());
        text.replacen("listeners:\n", &other, 1)
            .replace("tls: implicit }", "tls: implicit, backend: main, client_certificate: request }")
            .replace("tls: starttls }", "tls: starttls, backend: main, client_certificate: request }")
    });
    for (scheme, options) in [("imaps", &[][..]), ("imap", &["--ssl-reqd"])] {
        let url = format!("{scheme}://mail.example.net/");
        let with = listed(&gateway, &url, there, options, Some(&joe));
        assert!(with.said.contains("INBOX"), "{scheme}: {}", with.said);
        let without = listed(&gateway, &url, here, options, None);
        assert!(without.said.contains("INBOX"), "{scheme}: {}", without.said);
    }
    for event in gateway.events().iter().filter(|event| event["event"] == "auth.ok") {
        let way = (event["user"].as_str(), event["backend"].as_str());
        assert!(way == (Some(there), Some("staff")) || way == (Some(here), Some("main")), "{event}");
    }
    assert_eq!(gateway.event("auth.ok", there)["tls"]["client"]["name"], "joe@staff.example.net");
    gateway.event("auth.ok", here);
}

#[test]
fn a_revoked_certificate_is_refused_as_soon_as_the_list_is_there() {
    let (authority, user) = (Authority::new(), dovecot::shared().user("certificate-revoked"));
    let (joe, ann) = (authority.sign("joe", &JOE), authority.sign("ann", &JOE));
    let gateway = asking("require", &["protocol:"], &authority, "");
    let list = |own| listed(&gateway, "imaps://mail.example.net/", user, &[], Some(own)).ok;
    assert!(list(&joe) && list(&ann));
    let revoked = authority.revoked("joe");
    write(&authority.root(), std::fs::read_to_string(authority.root()).expect("a root") + &revoked);
    gateway.event_where("the file that is read again", |event| {
        event["event"] == "certificate.loaded" && event["detail"].to_string().contains("tls.client_ca")
    });
    assert!(!list(&joe) && list(&ann));
}

#[test]
fn a_browser_gets_the_page_where_a_certificate_is_requested_and_not_where_it_is_required() {
    let authority = Authority::new();
    let joe = authority.sign("joe", &JOE);
    for (asked, without_one) in [("request", true), ("require", false)] {
        let more = format!("  client_ca: {}\n", authority.root().display());
        let gateway = Gatepost::start_edited(Backend { smtp: None, ..Backend::usual() }, &more, |text| {
            let page = "listeners:\n  help: { address: \"ADDRESS:443\", protocol: https }\n";
            let at = text.find("address: \"").expect("the admin address") + "address: \"".len();
            let address = text[at..].split(':').next().expect("an address").to_owned();
            text.replacen("listeners:\n", &page.replace("ADDRESS", &address), 1)
                .replace("tls: implicit }", &format!("tls: implicit, client_certificate: {asked} }}"))
        });
        let page = |own: Option<&Own>| {
            let mut curl = curl(&gateway);
            curl.args(["--http1.1", "https://mail.example.net:993/"]);
            if let Some((certificate, key)) = own {
                curl.arg("--cert").arg(certificate).arg("--key").arg(key);
            }
            run(curl, b"").said.contains("<dd>993</dd>")
        };
        assert_eq!(page(None), without_one, "{asked}: {}", gateway.log());
        assert!(page(Some(&joe)), "{asked}: {}", gateway.log());
    }
}
