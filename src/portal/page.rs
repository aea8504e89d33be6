//! The page that people read. One document, no script, one style sheet inside it; every part is a landmark or has a heading,
//! and nothing is told by colour alone.

use super::escaped;
use super::settings::{Setting, Settings};
use super::story::{self, Tone};
use crate::observe::Attempt;
use crate::policy::portal::UserForm;
use crate::proto::Service;
use crate::session::{Visitor, Way};
use crate::tls::Root;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

pub(super) const STYLE: &str = include_str!("style.css");

/// What a browser may do with anything from here: show it with our own style, and nothing else.
pub(super) fn content_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// The whole page for this reader.
pub(super) fn page(visitor: &Visitor, settings: &Settings, root: Option<&Root>) -> String {
    let portal = &visitor.policy.portal;
    let company = escaped(&portal.company);
    let mut out = String::with_capacity(24 * 1024);
    let _ = write!(
        out,
        "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>E-mail settings – {company}</title>
<style>{STYLE}</style>
</head>
<body>
<a class=\"skip\" href=\"#settings\">Skip to the settings</a>
<header>
<h1>{company}</h1>
<p>E-mail settings and help</p>
<nav aria-label=\"On this page\"><ul>
<li><a href=\"#settings\">Settings</a></li>{}
<li><a href=\"#programs\">Step by step</a></li>
<li><a href=\"#why\">Why can I not connect?</a></li>
</ul></nav>
</header>
<main>
",
        if root.is_some() { "\n<li><a href=\"#trust\">Certificate</a></li>" } else { "" }
    );
    webmails(visitor, &mut out);
    servers(settings, &mut out);
    if let Some(root) = root {
        trust(root, &mut out);
    }
    programs(settings, root.is_some(), &mut out);
    why(visitor, &mut out);
    records(&mut out);
    out.push_str("</main>\n<footer>\n<p>");
    match &portal.help_contact {
        Some(contact) => {
            let _ = write!(out, "Still stuck? {}", link(contact));
        }
        None => out.push_str("Still stuck? Ask whoever gave you your e-mail address."),
    }
    out.push_str("</p>\n</footer>\n</body>\n</html>\n");
    out
}

/// Whom to ask: a link where it is one, else words.
fn link(contact: &str) -> String {
    let text = escaped(contact);
    let shown = contact.strip_prefix("mailto:").or_else(|| contact.strip_prefix("tel:")).unwrap_or(contact);
    if ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| contact.starts_with(scheme)) {
        format!("Ask here: <a href=\"{text}\" rel=\"noreferrer\">{}</a>", escaped(shown))
    } else {
        text
    }
}

/// The way to the webmails, if there is one.
fn webmails(visitor: &Visitor, out: &mut String) {
    let policy = &visitor.policy;
    let port = policy.page_port_in_url();
    // On a mail port there is none: the way is to the page's own.
    let base = if visitor.way == Way::Page { String::new() } else { format!("https://{}{port}", policy.hostname) };
    let addresses: Vec<_> = policy.portal.webmails.iter().map(|webmail| webmail.address(&base, &port)).collect();
    if addresses.is_empty() {
        return;
    }
    out.push_str("<ul class=\"get\">\n");
    for address in &addresses {
        // Of several the address tells which it is.
        let which = if addresses.len() > 1 {
            format!(" <span class=\"print\">({})</span>", escaped(address))
        } else {
            String::new()
        };
        let _ = writeln!(out, "<li><a href=\"{}\">Read mail in the browser{which}</a></li>", escaped(address));
    }
    out.push_str("</ul>\n");
}

fn servers(settings: &Settings, out: &mut String) {
    out.push_str("<section aria-labelledby=\"settings\">\n<h2 id=\"settings\">Settings</h2>\n");
    let user = match settings.user {
        UserForm::Address => format!("your whole address, such as <code>{}</code>", escaped(&settings.example())),
        UserForm::Local => {
            format!("what stands before the @ of your address, such as <code>{}</code>", escaped(&settings.example()))
        }
    };
    let _ = writeln!(
        out,
        "<p>Many mail programs find these by themselves: type your address and password, and let them search. \
         If one asks, the user name is {user}, and the way of authentication is a normal password.</p>\n<div class=\"cards\">"
    );
    for service in [Service::Imap, Service::Pop3, Service::Submission] {
        card(service, settings, out);
    }
    out.push_str("</div>\n</section>\n");
}

/// One service, with every way to it.
fn card(service: Service, settings: &Settings, out: &mut String) {
    let mut ways = settings.all.iter().filter(|way| way.service == service);
    let Some(best) = ways.next() else { return };
    let (what, about) = match service {
        Service::Imap => ("Incoming mail: IMAP", "mail stays on the server"),
        Service::Pop3 => ("Incoming mail: POP3", "mail is fetched to one device"),
        Service::Submission | Service::Smtp => ("Outgoing mail: SMTP", "to send mail"),
    };
    let user = match settings.user {
        UserForm::Address => "whole address",
        UserForm::Local => "part before the @",
    };
    let _ = write!(
        out,
        "<section class=\"card\">\n<h3>{what}</h3>\n<p class=\"tag\">{about}</p>\n<dl>\
         <dt>Server</dt><dd>{}</dd><dt>Port</dt><dd>{}</dd><dt>Security</dt><dd>{}</dd>\
         <dt>User name</dt><dd>{user}</dd>",
        escaped(&best.host),
        best.port,
        security(best)
    );
    for way in ways {
        let _ = write!(out, "<dt>Or else</dt><dd class=\"other\">port {} with {}</dd>", way.port, security(way));
    }
    out.push_str("</dl>\n</section>\n");
}

/// What mail programs call it.
fn security(way: &Setting) -> &'static str {
    if way.implicit { "SSL/TLS" } else { "STARTTLS" }
}

fn trust(root: &Root, out: &mut String) {
    let _ = write!(
        out,
        "<section aria-labelledby=\"trust\">
<h2 id=\"trust\">Trust our certificate</h2>
<p>This mail service signs its certificate itself. Your device learns to trust it once, by installing the certificate
authority below; after that no warning appears.</p>
<ul class=\"get\">
<li><a href=\"/mail.mobileconfig\">iPhone, iPad, Mac <span class=\"print\">(.mobileconfig)</span></a></li>
<li><a href=\"/ca.crt\">Android, Windows <span class=\"print\">(.crt, DER)</span></a></li>
<li><a href=\"/ca.pem\">Thunderbird, Linux <span class=\"print\">(.pem)</span></a></li>
</ul>
<p>Compare its fingerprint (SHA-256) with the one you were given in a letter or on the telephone, before you trust it:</p>
<p class=\"print whole\">{}</p>
<details><summary>How to install it</summary>
<ul>
<li><strong>iPhone, iPad:</strong> open the file in Safari, then Settings, “Profile Downloaded”, Install. Turn it on under
General, About, Certificate Trust Settings.</li>
<li><strong>Mac:</strong> open the file, then System Settings, Privacy &amp; Security, Profiles, Install.</li>
<li><strong>Android:</strong> Settings, Security, Encryption &amp; credentials, Install a certificate, CA certificate.</li>
<li><strong>Windows:</strong> open the file, Install Certificate, Local Machine, “Trusted Root Certification Authorities”.</li>
<li><strong>Thunderbird:</strong> Settings, Privacy &amp; Security, Certificates, Manage Certificates, Authorities, Import;
trust it to identify websites.</li>
<li><strong>Linux (Debian, Ubuntu):</strong> copy the .pem to <code>/usr/local/share/ca-certificates/mail.crt</code> and run
<code>update-ca-certificates</code>.</li>
</ul>
</details>
</section>
",
        // It may be broken behind any colon, and nowhere else.
        escaped(&root.fingerprint).replace(':', ":<wbr>")
    );
}

fn programs(settings: &Settings, private: bool, out: &mut String) {
    let (Some(incoming), outgoing) = (settings.incoming(), settings.best(Service::Submission)) else { return };
    let kind = if incoming.service == Service::Imap { "IMAP" } else { "POP3" };
    let way = |way: &Setting| {
        format!("<code>{}</code>, port <code>{}</code>, {}", escaped(&way.host), way.port, security(way))
    };
    let (read, send) = (way(incoming), outgoing.map(way).unwrap_or_default());
    let send = |label: &str| if send.is_empty() { String::new() } else { format!("<li>{label} {send}.</li>") };
    let profile =
        if private { "the profile above, which brings the certificate and the account" } else { "this profile" };
    out.push_str("<section aria-labelledby=\"programs\">\n<h2 id=\"programs\">Step by step</h2>\n");
    let _ = write!(
        out,
        "<details><summary>Thunderbird</summary><ol>
<li>Menu, New, Existing Mail Account. Type your name, address and password, then Continue.</li>
<li>It finds the settings. If not, choose Configure manually.</li>
<li>Incoming: {kind}, {read}, normal password.</li>{}
</ol></details>
<details><summary>Outlook</summary><ol>
<li>File, Add Account, type your address, Advanced options, “Let me set up my account manually”, Connect.</li>
<li>Choose {kind}. Incoming mail: {read}.</li>{}
<li>Leave “Require logon using Secure Password Authentication” off.</li>
</ol></details>
<details><summary>Apple Mail (iPhone, iPad, Mac)</summary><ol>
<li>The short way: install <a href=\"/mail.mobileconfig\">{profile}</a>, and type your address and password when asked.</li>
<li>By hand: Settings, Apps, Mail, Accounts, Add Account, Other, Add Mail Account.</li>
<li>Incoming: {kind}, {read}.</li>{}
</ol></details>
<details><summary>Android (K-9 Mail, Thunderbird, Gmail)</summary><ol>
<li>Add account, Other, type your address, choose {kind}.</li>
<li>Incoming server: {read}.</li>{}
</ol></details>\n",
        send("Outgoing:"),
        send("Outgoing mail:"),
        send("Outgoing:"),
        send("Outgoing server:")
    );
    mutt(settings, incoming, outgoing, private, out);
    out.push_str("</section>\n");
}

fn mutt(settings: &Settings, incoming: &Setting, outgoing: Option<&Setting>, private: bool, out: &mut String) {
    let user = escaped(&settings.example());
    let host = escaped(&settings.host);
    let scheme = match (incoming.service, incoming.implicit) {
        (Service::Imap, true) => "imaps",
        (Service::Imap, false) => "imap",
        (_, true) => "pops",
        (_, false) => "pop",
    };
    let _ = write!(
        out,
        "<details><summary>mutt</summary>\n<pre tabindex=\"0\" aria-label=\"Lines for .muttrc\"><code>set from = \"you@{}\"\n",
        escaped(settings.domain())
    );
    let _ = if incoming.service == Service::Imap {
        writeln!(
            out,
            "set folder = \"{scheme}://{host}:{}/\"\nset spoolfile = \"+INBOX\"\nset imap_user = \"{user}\"",
            incoming.port
        )
    } else {
        writeln!(out, "set pop_host = \"{scheme}://{user}@{host}:{}/\"", incoming.port)
    };
    if let Some(way) = outgoing {
        let scheme = if way.implicit { "smtps" } else { "smtp" };
        let _ = writeln!(out, "set smtp_url = \"{scheme}://{user}@{host}:{}/\"", way.port);
    }
    out.push_str("set ssl_starttls = yes\nset ssl_force_tls = yes\n");
    if private {
        out.push_str("set certificate_file = \"~/.mutt/ca.pem\"   # the .pem from above\n");
    }
    out.push_str("</code></pre></details>\n");
}

fn why(visitor: &Visitor, out: &mut String) {
    out.push_str("<section aria-labelledby=\"why\">\n<h2 id=\"why\">Why can I not connect?</h2>\n");
    if let Some(ban) = visitor.shared.gate.banned(visitor.client) {
        let (left, now) = (ban.remaining(), SystemTime::now());
        let until = now.checked_add(left).map(clock).unwrap_or_default();
        let who = if ban.closed {
            "Until then every mail program there is turned away."
        } else {
            "Until then only users who have logged in from there before get in."
        };
        let _ = writeln!(
            out,
            "<p class=\"note\"><strong>Your address has to wait until {until} UTC, {} from now.</strong> Too many wrong \
             passwords came from it. {who} Correct the password in every device first, or it begins anew.</p>",
            about(left)
        );
    }
    if visitor.shared.gate.may_be_everybody(visitor.client) {
        out.push_str(
            "<p>This server sees everybody under one address, so it cannot tell your attempts from those of others.</p>\n</section>\n",
        );
        return;
    }
    let attempts = visitor.shared.observe.attempts(visitor.client);
    let client = escaped(&visitor.client.to_string());
    if attempts.is_empty() {
        let _ = writeln!(
            out,
            "<p>Nothing came from your address, <code>{client}</code>, in the last 15 minutes. If you have just tried: the mail \
             program may use another network than this browser (a telephone its mobile network), or a firewall stops it \
             before it gets here. Check the server's name and the port first.</p>"
        );
    } else {
        let _ = writeln!(
            out,
            "<p>What came from your address, <code>{client}</code>, in the last 15 minutes, newest first. Others behind the same \
             router have the same address. Load this page again after the next attempt.</p>\n<ol class=\"tries\">"
        );
        let now = SystemTime::now();
        for attempt in &attempts {
            tried(attempt, now, out);
        }
        out.push_str("</ol>\n");
    }
    out.push_str("</section>\n");
}

fn tried(attempt: &Attempt, now: SystemTime, out: &mut String) {
    let story = story::tell(attempt);
    let (class, mark) = match story.tone {
        Tone::Good => ("good", "Worked"),
        Tone::Bad => ("bad", "Did not work"),
        Tone::Wait => ("wait", "Not now"),
    };
    let what = match attempt.service {
        Service::Imap => "reading mail (IMAP)",
        Service::Pop3 => "reading mail (POP3)",
        Service::Submission | Service::Smtp => "sending mail (SMTP)",
    };
    let ago = about(now.duration_since(attempt.at).unwrap_or_default());
    let at = humantime::format_rfc3339_seconds(attempt.at);
    let _ = writeln!(
        out,
        "<li class=\"{class}\"><p class=\"when\">{mark}: {what}, <time datetime=\"{at}\">{ago} ago</time></p>\
         <p><strong>{}</strong> {}</p></li>",
        escaped(&story.what),
        escaped(story.cure)
    );
}

fn records(out: &mut String) {
    out.push_str(
        "<details><summary>For whoever keeps the domain's DNS</summary>
<p>With <a href=\"/dns.txt\">these records</a> mail programs find the settings by the address alone (RFC 6186, RFC 8314).</p>
</details>\n",
    );
}

/// A time of day, UTC.
fn clock(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.get(11..16).unwrap_or_default().to_owned()
}

/// A span as people say it.
fn about(span: Duration) -> String {
    let (seconds, minutes) = (span.as_secs(), span.as_secs().div_ceil(60));
    match () {
        () if seconds < 60 => format!("{seconds} second{}", if seconds == 1 { "" } else { "s" }),
        () if minutes < 120 => format!("{minutes} minute{}", if minutes == 1 { "" } else { "s" }),
        () => format!("{} hours", span.as_secs().div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_a_link_only_where_it_is_one() {
        assert!(
            link("mailto:help@example.net").contains("<a href=\"mailto:help@example.net\" rel=\"noreferrer\">help@")
        );
        assert_eq!(link("room 3, <2nd> floor"), "room 3, &lt;2nd&gt; floor");
        assert!(!link("javascript:alert(1)").contains("href"));
    }

    #[test]
    fn spans_are_said_as_people_say_them() {
        for (seconds, said) in
            [(1, "1 second"), (59, "59 seconds"), (61, "2 minutes"), (3600, "60 minutes"), (10_000, "3 hours")]
        {
            assert_eq!(about(Duration::from_secs(seconds)), said);
        }
        assert_eq!(clock(SystemTime::UNIX_EPOCH + Duration::from_secs(3661)), "01:01");
    }

    #[test]
    fn the_style_is_the_one_thing_that_is_allowed() {
        assert!(content_policy().contains("default-src 'none'") && !content_policy().contains("unsafe"));
        assert!(!STYLE.contains("</") && !STYLE.contains("url("));
    }
}
