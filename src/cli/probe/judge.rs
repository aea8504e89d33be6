//! Judging: what was seen becomes findings. No socket and no clock, so that each rule is a row in a table of tests.

use super::finding::{Finding, Grade};
use super::look::{Injection, Relay, Seen, is_plain, start_tls};
use super::versions::Answer;
use crate::cli::remote::{Fault, Target};
use crate::proto::{Capabilities, Mechanism, Service};
use crate::tls::{self, ChainFinding, Presented};
use std::time::SystemTime;

/// Everything there is to say of a server, the worst first.
pub(super) fn judge(target: &Target, seen: &Seen, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(fault) = &seen.fault {
        findings.push(fault_in_words(fault, target));
    }
    if seen.greeting.as_deref().is_some_and(|greeting| greeting.starts_with("* PREAUTH")) {
        let text =
            "it greets with PREAUTH, so that everybody is logged in without a password: close that port to the world";
        findings.push(Finding::bad("preauth", text));
    }
    certificate(seen, now, &mut findings);
    versions(seen, &mut findings);
    if let Some(before) = &seen.before {
        upgrade(target, before, &mut findings);
        login_in_the_clear(target, before, &mut findings);
    }
    injection(seen, &mut findings);
    relay(seen, &mut findings);
    if let Some(after) = &seen.after {
        capabilities(target, after, &mut findings);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    findings
}

/// The worst of the findings.
pub(super) fn worst(findings: &[Finding]) -> Grade {
    findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok)
}

fn fault_in_words(fault: &Fault, target: &Target) -> Finding {
    match fault {
        Fault::Unreachable(_) => Finding::bad(
            "unreachable",
            format!("{fault}: does the server run, and does every firewall on the way let this port through?"),
        ),
        Fault::Timeout("take a connection") => Finding::bad(
            "unreachable",
            format!("{fault}: a firewall drops the packets, or nobody is at that address (--timeout waits longer)"),
        ),
        Fault::Timeout(_) => Finding::bad(
            "unreachable",
            format!("{fault}: old servers look up their clients in DNS or by ident first (--timeout waits longer)"),
        ),
        Fault::TurnedAway(_) => Finding::bad("turned_away", format!("{fault}: see that server's own log")),
        Fault::Garbage(..) => {
            Finding::bad("wrong_protocol", format!("{fault}: is that the right port, and does it begin without TLS?"))
        }
        Fault::NoStartTls(_) => Finding::bad(
            "starttls",
            format!("{fault}, though it offers it: mostly its certificate or key cannot be read, see its log"),
        ),
        Fault::Unsolicited => Finding::bad("starttls", fault.to_string()),
        Fault::Tls(error) if is_plain(error) => {
            let text = "it does not begin with TLS: is that the right port, or one for STARTTLS (imap://, pop3://, submission://)?";
            Finding::bad("tls", text)
        }
        Fault::Tls(error) => {
            let words = tls::words(error, &target.host);
            let hint = "it needs TLS 1.2 or 1.3 with an ECDHE key exchange and AES-GCM or ChaCha20";
            Finding::bad("tls", format!("no TLS that a client of today speaks: {words}; {hint}"))
        }
        Fault::Closed | Fault::Broken(_) | Fault::TooLarge => Finding::bad("broken_off", fault.to_string()),
    }
}

fn certificate(seen: &Seen, now: SystemTime, findings: &mut Vec<Finding>) {
    let presented = match &seen.presented {
        None => return,
        Some(Err(wrong)) => {
            findings.extend(wrong.iter().map(|finding| Finding::bad(finding.code(), finding.to_string())));
            if wrong.is_empty() {
                findings.push(Finding::bad("no_certificate", "it shows no certificate: give it one"));
            }
            return;
        }
        Some(Ok(presented)) => presented,
    };
    let before = findings.len();
    findings.extend(presented.findings.iter().filter_map(|finding| chain_finding(finding, presented)));
    if let Err(why) = &presented.trust {
        let explained = |finding: &Finding| {
            ["incomplete_chain", "self_signed", "broken_chain", "weak_signature"].contains(&finding.code)
        };
        if !findings[before..].iter().any(explained) {
            let text = format!(
                "{why}: have it send the whole chain up to a CA that clients know; if it is your own CA, give it to \
                 your users, and to this command as --ca FILE"
            );
            findings.push(Finding::bad("unknown_issuer", text));
        }
    }
    if findings.len() == before
        && let Some(leaf) = presented.chain.first()
    {
        let days = leaf.not_after.duration_since(now).unwrap_or_default().as_secs() / (24 * 3600);
        let text = format!("the certificate is trusted, for this name, and good for {days} more days");
        findings.push(Finding::ok("certificate", text));
    }
}

/// Weighs what is wrong with a chain as a client does, which is harder than the gateway is with its own. Where the chain is
/// trusted here, who signed it is not wrong.
fn chain_finding(finding: &ChainFinding, presented: &Presented) -> Option<Finding> {
    let (code, text) = (finding.code(), finding.to_string());
    match finding {
        ChainFinding::Incomplete { .. } | ChainFinding::SelfSigned { .. } if presented.trust.is_ok() => None,
        ChainFinding::WrongOrder { .. } => {
            let text = "the certificates come in the wrong order, which some clients refuse: the server's own first, then \
                        each one's issuer";
            Some(Finding::warn(code, text))
        }
        ChainFinding::Stranger { subject, .. } => {
            let text =
                format!("it sends a certificate that is no part of the chain ({subject}): take it out of the file");
            Some(Finding::warn(code, text))
        }
        ChainFinding::ExpiresSoon { .. } | ChainFinding::UnusualKey { .. } => Some(Finding::warn(code, text)),
        _ => Some(Finding::bad(code, text)),
    }
}

fn versions(seen: &Seen, findings: &mut Vec<Finding>) {
    if seen.versions.is_empty() {
        return;
    }
    let named = |wanted: Answer| {
        let old = seen.versions.iter().filter(|(version, answer)| version.is_old() && *answer == wanted);
        in_a_row(old.map(|(version, _)| version.to_string()))
    };
    if let Some(taken) = named(Answer::Taken) {
        let text = format!(
            "it still speaks {taken}, which nobody should (RFC 8996): allow 1.2 and 1.3 alone (Dovecot: \
             ssl_min_protocol = TLSv1.2; Postfix: smtpd_tls_protocols = >=TLSv1.2, smtpd_tls_mandatory_protocols too)"
        );
        findings.push(Finding::bad("old_tls", text));
    } else if let Some(refused) = named(Answer::Refused) {
        findings.push(Finding::ok("old_tls", format!("it refuses {refused}")));
    }
    if let Some(unknown) = named(Answer::Unknown) {
        let text = format!("whether it speaks {unknown} is not known: it did not answer, or not in a way that says so");
        findings.push(Finding::warn("old_tls", text));
    }
    match seen.tls.as_ref().map(|facts| facts.version) {
        Some("1.3") => findings.push(Finding::ok("tls13", "it speaks TLS 1.3")),
        Some(_) => {
            let text = "it does not speak TLS 1.3: update the server or its TLS library, or allow it there";
            findings.push(Finding::warn("tls13", text));
        }
        None => {}
    }
}

fn upgrade(target: &Target, before: &Capabilities, findings: &mut Vec<Finding>) {
    let word = start_tls(target.service);
    if before.has(word) {
        findings.push(Finding::ok("starttls", format!("{word} is offered")));
        return;
    }
    let text = format!(
        "{word} is not offered, so that everything goes in the clear: give the server a certificate and switch it on, or put \
         gatepost in front of it"
    );
    // A server that takes the world's mail is not worse than none without it, and RFC 3207 lets it be.
    let grade = if target.service == Service::Smtp { Grade::Warn } else { Grade::Bad };
    findings.push(Finding { grade, code: "starttls", text });
}

fn login_in_the_clear(target: &Target, before: &Capabilities, findings: &mut Vec<Finding>) {
    if !before.takes_passwords() {
        findings.push(Finding::ok("plaintext_login", "no password is asked for before TLS"));
        return;
    }
    let (how, cure) = match target.service {
        Service::Imap => {
            ("LOGIN or a plain mechanism is open", "LOGINDISABLED until then (Dovecot: disable_plaintext_auth = yes)")
        }
        Service::Pop3 => {
            ("USER or a plain mechanism is open", "STLS before any login (Dovecot: disable_plaintext_auth = yes)")
        }
        Service::Submission | Service::Smtp => {
            ("AUTH PLAIN or LOGIN is offered", "AUTH under TLS alone (Postfix: smtpd_tls_auth_only = yes)")
        }
    };
    let text = format!("{how} before TLS, so that passwords can be read on the way: ask for {cure}");
    findings.push(Finding::bad("plaintext_login", text));
}

fn injection(seen: &Seen, findings: &mut Vec<Finding>) {
    match seen.injection {
        None => {}
        Some(Injection::Dropped) => {
            findings.push(Finding::ok("starttls_injection", "a command behind STARTTLS in the clear is not run"));
        }
        Some(Injection::Unknown) => {
            let text = "whether a command behind STARTTLS in the clear is run is not known: it gave no answer";
            findings.push(Finding::warn("starttls_injection", text));
        }
        Some(Injection::Run) => {
            let text = "a command that stood behind STARTTLS in the clear is run under TLS (CVE-2011-0411), so that \
                        somebody on the way can put words into a client's mouth: update the server";
            findings.push(Finding::bad("starttls_injection", text));
        }
    }
}

fn relay(seen: &Seen, findings: &mut Vec<Finding>) {
    let finding = match &seen.relay {
        None => return,
        Some(Relay::Closed(words)) => {
            Finding::ok("open_relay", format!("mail from a stranger to elsewhere is refused ({words})"))
        }
        Some(Relay::Unknown(words)) => Finding::ok(
            "open_relay",
            format!("mail from a stranger to elsewhere was not taken just now ({words}); it says nothing of later"),
        ),
        Some(Relay::Open(words)) => Finding::bad(
            "open_relay",
            format!(
                "mail to elsewhere is taken from here without a login ({words}): unless this machine is meant to, take its \
                 address out of what the server trusts (Postfix: mynetworks), or spammers will find it"
            ),
        ),
    };
    findings.push(finding);
}

fn capabilities(target: &Target, after: &Capabilities, findings: &mut Vec<Finding>) {
    let word = start_tls(target.service);
    if after.has(word) {
        let text = format!("{word} is still offered under TLS, which some clients try again: update the server");
        findings.push(Finding::warn("starttls_under_tls", text));
    }
    let missing = |words: &[&str]| in_a_row(words.iter().filter(|word| !after.has(word)).map(ToString::to_string));
    let wants_login = target.service != Service::Smtp;
    if wants_login && !after.login_command && after.mechanisms.is_empty() {
        let text = "there is no way to log in, not under TLS either: switch a mechanism on (PLAIN)";
        findings.push(Finding::bad("login", text));
    } else if wants_login && !after.takes_passwords() {
        let list = in_a_row(after.mechanisms.iter().map(Mechanism::to_string)).unwrap_or_default();
        let text = format!("a login is possible by {list} alone, and most mail programs want PLAIN or LOGIN");
        findings.push(Finding::warn("login", text));
    }
    match target.service {
        Service::Imap => {
            if let Some(missing) = missing(&["IDLE", "UIDPLUS"]) {
                let text = format!("it does not list {missing} before the login; many servers do so only behind it");
                findings.push(Finding::ok("capabilities", text));
            }
        }
        Service::Pop3 => {
            if !after.lines.is_empty() && !after.has("UIDL") {
                let text = "UIDL is not listed: programs that leave mail on the server fetch it again each time";
                findings.push(Finding::warn("capabilities", text));
            }
        }
        Service::Submission | Service::Smtp => {
            if let Some(missing) = missing(&["SIZE", "8BITMIME", "PIPELINING"]) {
                let text = format!(
                    "it does not offer {missing}: mail may be refused late, changed on its way, or sent slowly"
                );
                findings.push(Finding::warn("capabilities", text));
            }
        }
    }
}

/// `a`, `a and b`, `a, b and c`; nothing for nothing.
fn in_a_row(words: impl Iterator<Item = String>) -> Option<String> {
    let words: Vec<String> = words.collect();
    let (last, before) = words.split_last()?;
    Some(if before.is_empty() { last.clone() } else { format!("{} and {last}", before.join(", ")) })
}

#[cfg(test)]
mod tests;
