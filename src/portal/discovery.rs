//! What mail programs ask for themselves: Thunderbird's autoconfig, Outlook's autodiscover, and the records that the DNS is
//! to have.

use super::escaped;
use super::settings::{Setting, Settings};
use crate::policy::Policy;
use crate::policy::portal::UserForm;
use crate::proto::Service;
use std::fmt::Write;

/// The longest address that an answer repeats (RFC 5321 section 4.5.3.1.3, less the brackets).
const LONGEST_ADDRESS: usize = 254;
/// The most elements and texts in a question of Outlook's; its own has some ten.
const MOST_NODES: u32 = 50;
/// The most namespaces; its own names two.
const MOST_NAMESPACES: usize = 8;

/// Thunderbird's `config-v1.1.xml` (draft-ietf-mailmaint-autoconfig). It is the same for every address: whether an account
/// exists is nobody's business.
pub(super) fn thunderbird(policy: &Policy, settings: &Settings) -> String {
    let user = match settings.user {
        UserForm::Address => "%EMAILADDRESS%",
        UserForm::Local => "%EMAILLOCALPART%",
    };
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<clientConfig version=\"1.1\">\n");
    let _ = writeln!(out, "  <emailProvider id=\"{}\">", escaped(settings.domain()));
    for domain in &settings.domains {
        let _ = writeln!(out, "    <domain>{}</domain>", escaped(domain));
    }
    let company = escaped(&policy.portal.company);
    let _ =
        writeln!(out, "    <displayName>{company}</displayName>\n    <displayShortName>{company}</displayShortName>");
    for way in &settings.all {
        let (element, kind) = match way.service {
            Service::Imap => ("incomingServer", "imap"),
            Service::Pop3 => ("incomingServer", "pop3"),
            Service::Submission | Service::Smtp => ("outgoingServer", "smtp"),
        };
        let _ = write!(
            out,
            "    <{element} type=\"{kind}\">
      <hostname>{}</hostname>
      <port>{}</port>
      <socketType>{}</socketType>
      <authentication>password-cleartext</authentication>
      <username>{user}</username>
    </{element}>\n",
            escaped(&way.host),
            way.port,
            if way.implicit { "SSL" } else { "STARTTLS" }
        );
    }
    if let Some(port) = policy.page_port() {
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let _ = writeln!(
            out,
            "    <documentation url=\"https://{}{port}/\">\n      <descr lang=\"en\">Settings for every mail program</descr>\n    </documentation>",
            escaped(&settings.host)
        );
    }
    out.push_str("  </emailProvider>\n");
    if let Some(webmail) = policy.portal.webmails.first() {
        let port = policy.page_port_in_url();
        let address = webmail.address(&format!("https://{}{port}", policy.hostname), &port);
        let _ = writeln!(out, "  <webMail>\n    <loginPage url=\"{}\"/>\n  </webMail>", escaped(&address));
    }
    out.push_str("</clientConfig>\n");
    out
}

/// Outlook's answer (MS-OXDSCLI, the POX form). A question that is none gets the error that the protocol has for it. The caller
/// bounds the question.
pub fn outlook(settings: &Settings, company: &str, question: &[u8]) -> String {
    let head = "<?xml version=\"1.0\" encoding=\"utf-8\"?>
<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\n";
    let Some(address) = address(question) else {
        return format!(
            "{head}  <Response>
    <Error Time=\"00:00:00.0000000\" Id=\"0\">
      <ErrorCode>600</ErrorCode>
      <Message>Invalid Request</Message>
      <DebugData />
    </Error>
  </Response>
</Autodiscover>\n"
        );
    };
    let user = match settings.user {
        UserForm::Address => address.as_str(),
        UserForm::Local => address.split('@').next().unwrap_or_default(),
    };
    let mut out = format!(
        "{head}  <Response xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\">
    <User>
      <DisplayName>{}</DisplayName>
    </User>
    <Account>
      <AccountType>email</AccountType>
      <Action>settings</Action>\n",
        escaped(company)
    );
    for service in [Service::Imap, Service::Pop3, Service::Submission] {
        // Of several ways Outlook takes one of each kind.
        if let Some(way) = settings.best(service) {
            protocol(way, user, &mut out);
        }
    }
    out.push_str("    </Account>\n  </Response>\n</Autodiscover>\n");
    out
}

fn protocol(way: &Setting, user: &str, out: &mut String) {
    let kind = match way.service {
        Service::Imap => "IMAP",
        Service::Pop3 => "POP3",
        Service::Submission | Service::Smtp => "SMTP",
    };
    let (ssl, encryption) = if way.implicit { ("on", "SSL") } else { ("off", "TLS") };
    let _ = write!(
        out,
        "      <Protocol>
        <Type>{kind}</Type>
        <Server>{}</Server>
        <Port>{}</Port>
        <DomainRequired>off</DomainRequired>
        <LoginName>{}</LoginName>
        <SPA>off</SPA>
        <SSL>{ssl}</SSL>
        <Encryption>{encryption}</Encryption>
        <AuthRequired>on</AuthRequired>\n",
        escaped(&way.host),
        way.port,
        escaped(user)
    );
    if way.service == Service::Submission {
        out.push_str("        <UsePOPAuth>off</UsePOPAuth>\n        <SMTPLast>off</SMTPLast>\n");
    }
    out.push_str("      </Protocol>\n");
}

/// The address in Outlook's question. It is the one thing of a request that comes back, so it is held against what an
/// address may be made of.
fn address(question: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(question).ok()?;
    // The parser compares each namespace with each, for every element.
    if text.matches("xmlns").count() > MOST_NAMESPACES {
        return None;
    }
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text.trim_start_matches('\u{feff}'), options).ok()?;
    let element = document.descendants().find(|node| node.tag_name().name() == "EMailAddress")?;
    let address = element.text()?.trim();
    let (local, domain) = address.rsplit_once('@')?;
    let is_plain = |c: char| c.is_alphanumeric() || ".!#$%*+-/=?^_`{|}~".contains(c);
    let is_address = address.len() <= LONGEST_ADDRESS
        && [local, domain].iter().all(|part| !part.is_empty() && part.chars().all(is_plain));
    is_address.then(|| address.to_owned())
}

/// The records for each domain, in a zone file's form: RFC 6186 and RFC 8314 section 5.1. A service that is not offered has the
/// target `.`, so that programs need not guess.
pub(super) fn records(settings: &Settings, page: Option<u16>) -> String {
    let mut out = String::from("; Records by which mail programs find their settings. Paste them into the zone.\n");
    let services = [
        ("_imaps", Service::Imap, true, 0),
        ("_imap", Service::Imap, false, 10),
        ("_pop3s", Service::Pop3, true, 20),
        ("_pop3", Service::Pop3, false, 30),
        ("_submissions", Service::Submission, true, 0),
        ("_submission", Service::Submission, false, 10),
    ];
    for domain in &settings.domains {
        let _ = writeln!(out, "\n; {domain}");
        for (name, service, implicit, priority) in services {
            let way = settings.all.iter().find(|way| way.service == service && way.implicit == implicit);
            let name = format!("{name}._tcp.{domain}.");
            let _ = match way {
                Some(way) => writeln!(out, "{name:<42} 3600 IN SRV {priority} 1 {} {}.", way.port, way.host),
                None => writeln!(out, "{name:<42} 3600 IN SRV 0 0 0 ."),
            };
        }
        if let Some(port) = page {
            let name = format!("_autodiscover._tcp.{domain}.");
            let _ = writeln!(out, "{name:<42} 3600 IN SRV 0 1 {port} {}.", settings.host);
            if port == 443 {
                for name in ["autoconfig", "autodiscover"] {
                    let name = format!("{name}.{domain}.");
                    let _ = writeln!(
                        out,
                        "; only if the certificate has this name too:\n{name:<42} 3600 IN CNAME {}.",
                        settings.host
                    );
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let way = |service, implicit, port| Setting { service, implicit, host: "mail.example.net".to_owned(), port };
        Settings {
            all: vec![
                way(Service::Imap, true, 993),
                way(Service::Submission, true, 465),
                way(Service::Submission, false, 587),
            ],
            host: "mail.example.net".to_owned(),
            domains: vec!["example.net".to_owned()],
            user: UserForm::Address,
        }
    }

    fn question(address: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\"><Request><EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>x</AcceptableResponseSchema></Request></Autodiscover>"
        )
    }

    #[test]
    fn outlook_is_told_its_own_address_as_user_name_and_both_servers() {
        let text = outlook(&settings(), "A & B", question("joe@example.net").as_bytes());
        let answer = roxmltree::Document::parse(&text).expect("XML");
        let values = |name: &str| -> Vec<_> {
            let nodes = answer.descendants().filter(|node| node.tag_name().name() == name);
            nodes.map(|node| node.text().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(values("Type"), ["IMAP", "SMTP"]);
        assert_eq!(values("Port"), ["993", "465"]);
        assert_eq!(values("LoginName"), ["joe@example.net", "joe@example.net"]);
        assert_eq!(values("DisplayName"), ["A & B"]);
        let local = Settings { user: UserForm::Local, ..settings() };
        assert!(outlook(&local, "A", question("joe@example.net").as_bytes()).contains("<LoginName>joe</LoginName>"));
    }

    #[test]
    fn a_question_that_is_none_gets_an_error_and_nothing_of_it_back() {
        let laughs = "<!DOCTYPE a [<!ENTITY x \"joe@example.net\">]><a><EMailAddress>&x;</EMailAddress></a>";
        let many = format!("<a>{}</a>", "<b/>".repeat(10_000));
        let deep = "<a>".repeat(20_000);
        let spaces: String = (0..20).map(|n| format!(" xmlns:a{n}=\"b\"")).collect();
        let spaces = format!("<a{spaces}><EMailAddress>joe@example.net</EMailAddress></a>");
        for asked in [
            "",
            "<",
            "joe@example.net",
            laughs,
            &many,
            &deep,
            &spaces,
            &question("joe"),
            &question("&lt;script&gt;@example.net"),
            &question("joe@exa mple.net"),
            &question(&format!("{}@example.net", "x".repeat(250))),
        ] {
            let answer = outlook(&settings(), "A", asked.as_bytes());
            assert!(answer.contains("<ErrorCode>600</ErrorCode>") && !answer.contains("LoginName"), "{asked}");
            roxmltree::Document::parse(&answer).expect("XML");
        }
        assert!(outlook(&settings(), "A", b"\xff\xfe<").contains("600"));
    }

    #[test]
    fn each_record_is_there_and_what_is_not_offered_says_so() {
        let text = records(&settings(), Some(443));
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for record in [
            "_imaps._tcp.example.net. 3600 IN SRV 0 1 993 mail.example.net.",
            "_imap._tcp.example.net. 3600 IN SRV 0 0 0 .",
            "_pop3s._tcp.example.net. 3600 IN SRV 0 0 0 .",
            "_submissions._tcp.example.net. 3600 IN SRV 0 1 465 mail.example.net.",
            "_submission._tcp.example.net. 3600 IN SRV 10 1 587 mail.example.net.",
            "_autodiscover._tcp.example.net. 3600 IN SRV 0 1 443 mail.example.net.",
        ] {
            assert!(lines.iter().any(|line| line == record), "{record}\n{text}");
        }
    }
}
