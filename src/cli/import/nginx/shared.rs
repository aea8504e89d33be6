//! What a server of `mail` and one of `stream` have in common: where it listens, TLS, times.

use super::super::model::{Listener, Service, TlsRule};
use super::super::ports;
use super::super::reading;
use super::Context;
use super::syntax::{Directive, named};
use std::net::SocketAddr;
use std::time::Duration;

/// A server and the blocks around it, innermost first: a directive of an outer block holds where no inner one has it.
pub(super) struct Scopes<'a>(pub(super) [&'a [Directive]; 3]);

impl<'a> Scopes<'a> {
    /// The directives of this name that hold here.
    pub(super) fn all(&self, name: &'a str) -> Vec<&'a Directive> {
        let mut blocks = self.0.iter().map(|block| named(block, name).collect::<Vec<_>>());
        blocks.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The one that holds; nginx takes most of them once only.
    pub(super) fn one(&self, name: &'a str) -> Option<&'a Directive> {
        self.all(name).first().copied()
    }

    pub(super) fn is_on(&self, name: &'a str) -> bool {
        self.one(name).is_some_and(Directive::is_on)
    }
}

/// One `listen`.
pub(super) struct Listen<'a> {
    pub(super) directive: &'a Directive,
    pub(super) address: SocketAddr,
    pub(super) ssl: bool,
    pub(super) proxy_protocol: bool,
}

/// Reads a `listen`; what cannot be listened on here is noted.
pub(super) fn listen<'a>(directive: &'a Directive, context: &mut Context<'_>) -> Option<Listen<'a>> {
    let says = |word: &str| directive.arguments.iter().skip(1).any(|argument| argument == word);
    let advice = if says("udp") {
        "only TCP is listened on"
    } else if directive.first().starts_with("unix:") {
        "write an address and a port: there are no sockets in the file system"
    } else {
        match ports::listen(directive.first()) {
            Some(address) => {
                return Some(Listen { directive, address, ssl: says("ssl"), proxy_protocol: says("proxy_protocol") });
            }
            // nginx listens on port 80 there, which is none of ours, too.
            None => "write an address and a port, such as \"[::]:993\"",
        }
    };
    context.notes.left(&directive.place, &directive.text(), advice);
    None
}

/// Takes up certificates and what else there is about TLS, for a server that speaks it; the word of the contract for client
/// certificates.
pub(super) fn tls(scopes: &Scopes<'_>, context: &mut Context<'_>) -> Option<&'static str> {
    certificates(scopes, context);
    if let Some(versions) = scopes.one("ssl_protocols") {
        versions_of(versions, context);
    }
    if let Some(tickets) = scopes.one("ssl_session_tickets") {
        context.imported.no_session_tickets |= tickets.first() == "off";
    }
    let asked = scopes.one("ssl_verify_client")?;
    let word = match asked.first() {
        "on" => "require",
        "optional" => "request",
        "optional_no_ca" => {
            let advice = "only certificates signed by tls.client_ca are taken: who shows another is refused";
            context.notes.left(&asked.place, &asked.text(), advice);
            "request"
        }
        _ => return None,
    };
    match scopes.one("ssl_client_certificate") {
        Some(ca) => {
            let path = reading::absolute(&context.folder, ca.first());
            context.imported.client_ca(path, &ca.place, context.notes);
        }
        None => {
            context.notes.left(&asked.place, &asked.text(), "name under tls.client_ca who signs client certificates");
        }
    }
    Some(word)
}

fn certificates(scopes: &Scopes<'_>, context: &mut Context<'_>) {
    let (chains, keys) = (scopes.all("ssl_certificate"), scopes.all("ssl_certificate_key"));
    for (index, chain) in chains.iter().enumerate() {
        let Some(key) = keys.get(index) else {
            context.notes.left(&chain.place, &chain.text(), "has no key: write both under tls.certificates");
            continue;
        };
        let elsewhere = |text: &str| {
            text.contains('$') || text.starts_with("data:") || text.starts_with("engine:") || text.starts_with("store:")
        };
        if elsewhere(chain.first()) || elsewhere(key.first()) {
            let advice =
                "is no file: write each certificate under tls.certificates, they are chosen by the names in them";
            context.notes.left(&chain.place, &chain.name, advice);
            continue;
        }
        let path = |directive: &Directive| reading::absolute(&context.folder, directive.first());
        let (chain, key) = (path(chain), path(key));
        context.imported.certificate(chain, key);
    }
}

fn versions_of(versions: &Directive, context: &mut Context<'_>) {
    let says = |word: &str| versions.arguments.iter().any(|argument| argument.eq_ignore_ascii_case(word));
    let old: Vec<&str> = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"].into_iter().filter(|word| says(word)).collect();
    if !old.is_empty() {
        let advice =
            "TLS 1.2 and 1.3 are all that is spoken: gatepost_tls_too_old_total counts the clients that know neither";
        context.notes.left(&versions.place, &format!("ssl_protocols {}", old.join(" ")), advice);
    }
    if says("TLSv1.3") && !says("TLSv1.2") && old.is_empty() {
        context.imported.only_1_3 = true;
    }
}

/// A listener whose TLS rule was none: nobody's mail stops, and TLS is there for who wants it.
pub(super) fn without_tls(listen: &Listen<'_>, context: &mut Context<'_>) -> (TlsRule, Vec<String>) {
    if listen.address.ip().is_loopback() {
        return (TlsRule::Off, Vec::new());
    }
    let advice =
        "had no TLS: STARTTLS is offered now, and logins without it still work; write tls: starttls once they need not";
    context.notes.left(&listen.directive.place, &listen.directive.text(), advice);
    (TlsRule::Optional, vec!["logins without TLS still work here".to_owned()])
}

/// Load balancers whose PROXY header is believed.
pub(super) fn load_balancers(
    listener: &mut Listener,
    listen: &Listen<'_>,
    scopes: &Scopes<'_>,
    context: &mut Context<'_>,
) {
    if !listen.proxy_protocol {
        return;
    }
    for directive in scopes.all("set_real_ip_from") {
        if crate::policy::access::parse_network(directive.first()).is_some() {
            listener.proxy_protocol.push(directive.first().to_owned());
        } else {
            context.notes.left(
                &directive.place,
                &directive.text(),
                "write the load balancer's address under proxy_protocol",
            );
        }
    }
    if listener.proxy_protocol.is_empty() {
        let advice = "took PROXY headers from everybody: write the load balancers' addresses under proxy_protocol";
        context.notes.left(&listen.directive.place, &listen.directive.text(), advice);
        listener.looks.push("proxy_protocol: the load balancers' addresses".to_owned());
    }
}

/// Takes up a time as a deadline of ours.
pub(super) fn timeout(scopes: &Scopes<'_>, name: &'static str, key: &'static str, context: &mut Context<'_>) {
    let Some(directive) = scopes.one(name) else { return };
    match time(directive.first()) {
        Some(span) => context.imported.timeout(key, span, &directive.place, context.notes),
        None => {
            context.notes.left(&directive.place, &directive.text(), format_args!("is no time: write timeouts.{key}"));
        }
    }
}

/// How long a session may be silent.
pub(super) fn idle(scopes: &Scopes<'_>, service: Service, context: &mut Context<'_>) {
    timeout(scopes, "proxy_timeout", service.idle_key(), context);
}

/// Reads a time of nginx: `60`, `500ms`, `1h30m`.
fn time(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let (mut whole, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (count, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" | "" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "M" => 30 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        let part =
            Duration::from_millis(count.parse::<u32>().ok()?.into()).checked_mul(u32::try_from(milliseconds).ok()?)?;
        (whole, rest) = (whole.checked_add(part)?, behind.trim_start());
    }
    (!text.is_empty()).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_nginx_units() {
        for (text, seconds) in [
            ("60", Some(60)),
            ("60s", Some(60)),
            ("1h30m", Some(5_400)),
            ("24h", Some(86_400)),
            ("1500ms", Some(1)),
            ("", None),
            ("soon", None),
            ("9999999999", None),
        ] {
            assert_eq!(time(text).map(|span| span.as_secs()), seconds, "{text}");
        }
    }
}
