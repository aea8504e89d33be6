//! hosts.allow of the TCP wrappers (hosts_access(5)), and the hosts.deny beside it.
//!
//! Our lists take the form as it is, so the file itself is named wherever that says the same. Where it would not (host names,
//! options, rules of a hosts.deny) the networks are written out, and what needs a look-up is noted.

use super::ImportError;
use super::access::{self, Lists, Rule};
use super::model::{Backend, Imported, Listener, Service, TlsRule};
use super::notes::{self, Notes, Place};
use super::reading::{self, Reading};
use crate::policy::access::{Purpose, hosts_allow_fields, not_a_network, parse_list, parse_network};
use ipnet::IpNet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

/// The names that programs for a service had in these files; the same that lists in a configuration take for theirs.
const DAEMONS: [(Service, &[&str]); 3] = [
    (Service::Imap, &["imap", "imapd", "imap4d", "imaps", "in.imapd", "imap-login"]),
    (
        Service::Pop3,
        &["pop3", "pop3d", "pop3s", "ipop3d", "in.pop3d", "popa3d", "popper", "in.popper", "qpopper", "pop3-login"],
    ),
    (Service::Submission, &["smtp", "smtpd", "smtps", "in.smtpd", "submission", "sendmail"]),
];

/// The listeners of each service.
const LISTENERS: [(Service, u16, TlsRule); 4] = [
    (Service::Imap, 993, TlsRule::Implicit),
    (Service::Pop3, 995, TlsRule::Implicit),
    (Service::Submission, 465, TlsRule::Implicit),
    (Service::Submission, 587, TlsRule::StartTls),
];

/// Reads a hosts.allow.
pub(super) fn read(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Imported, ImportError> {
    let text = reading.text(file)?;
    let allowed = parse(&text, file, true, notes);
    let beside = file.with_file_name("hosts.deny");
    let denied = if file != Path::new("-") && beside.is_file() {
        Some(parse(&reading.text(&beside)?, &beside, false, notes))
    } else {
        None
    };
    let mut imported = Imported::default();
    if let (None, Some(line)) = (&denied, allowed.first()) {
        let where_ =
            if file == Path::new("-") { "no hosts.deny is read with it" } else { "no hosts.deny lies beside it" };
        notes.left(
            &line.place,
            "hosts.deny",
            format_args!("{where_}: taken as if it said ALL: ALL, so that only those come in who are allowed"),
        );
    }
    for (service, daemons) in DAEMONS {
        let mut rules: Vec<&Line> = allowed.iter().filter(|line| line.is_for(daemons)).collect();
        match &denied {
            Some(denied) => rules.extend(denied.iter().filter(|line| line.is_for(daemons))),
            // A service that is named nowhere was not wrapped, or has no rules of its own.
            None if rules.is_empty() => continue,
            None => {}
        }
        let Some(lists) = lists(service, daemons, &rules, &text, file, denied.is_some(), notes) else { continue };
        for (of, port, tls) in LISTENERS.into_iter().filter(|(of, ..)| *of == service) {
            let backend = imported.backend(Backend::nowhere(of));
            let place = rules.first().map_or_else(|| Place::new(&notes::shown(file), 1), |line| line.place.clone());
            let mut listener = Listener::new(&place, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), of, tls, backend);
            listener.lists = lists.clone();
            imported.listeners.push(listener);
        }
    }
    for line in allowed.iter().chain(denied.iter().flatten()) {
        if !DAEMONS.iter().any(|(_, daemons)| line.is_for(daemons)) {
            notes.idle(&line.place, &line.daemons.join(" "));
        }
    }
    if imported.listeners.is_empty() {
        return Err(ImportError::Nothing(format!(
            "{}: no line in it lets anybody in to a mail service (imapd, ipop3d, smtpd and the like, or ALL)",
            notes::shown(file)
        )));
    }
    Ok(imported)
}

/// The lists for one service; `None` where nobody may come in.
fn lists(
    service: Service,
    daemons: &[&str],
    lines: &[&Line],
    text: &str,
    file: &Path,
    has_deny: bool,
    notes: &mut Notes,
) -> Option<Lists> {
    let mut rules: Vec<Rule> = lines.iter().flat_map(|line| line.rules.iter().copied()).collect();
    if !has_deny {
        rules.push(Rule { allows: false, network: None });
    }
    // Who stands in neither file may come in.
    let Some(lists) = access::first_match(&rules, true) else {
        notes.missing(format_args!(
            "the rules for {} are too many to be sorted: write them into a list file",
            service.word()
        ));
        return None;
    };
    if lists.nobody {
        notes.missing(format_args!("nobody may come in to {}: its listeners are left out", service.word()));
        return None;
    }
    // The file itself says the same where it is good as a list, and nothing but its own lines lets in or keeps out.
    let names: Vec<String> = daemons.iter().map(|name| (*name).to_owned()).collect();
    let (ours, ends) = (lines.iter().all(|line| line.in_allow || line.is_everybody_out()), !lists.allow.is_empty());
    if file != Path::new("-") && ours && ends && parse_list(text, &names, Purpose::Allow).is_ok() {
        return Some(Lists {
            allow: vec![format!("file:{}", reading::absolute(Path::new("."), &file.display().to_string()))],
            ..Lists::default()
        });
    }
    Some(lists)
}

/// One line: whose it is, and what it says.
struct Line {
    place: Place,
    daemons: Vec<String>,
    /// From hosts.allow, not hosts.deny.
    in_allow: bool,
    rules: Vec<Rule>,
}

impl Line {
    /// Whether the line is for one of these daemons; `ALL EXCEPT sshd` is, too.
    fn is_for(&self, names: &[&str]) -> bool {
        let words: Vec<&str> = self.daemons.iter().map(String::as_str).collect();
        let mut ours = false;
        for group in words.split(|word| word.eq_ignore_ascii_case("EXCEPT")).rev() {
            let listed = group.iter().any(|word| {
                let plain = word.split_once('@').map_or(*word, |(daemon, _)| daemon);
                plain.eq_ignore_ascii_case("ALL") || names.iter().any(|name| name.eq_ignore_ascii_case(plain))
            });
            ours = listed && !ours;
        }
        ours
    }

    fn is_everybody_out(&self) -> bool {
        self.rules == [Rule { allows: false, network: None }]
    }
}

fn parse(text: &str, file: &Path, in_allow: bool, notes: &mut Notes) -> Vec<Line> {
    let shown = notes::shown(file);
    let mut lines = Vec::new();
    let mut all = text.lines().enumerate();
    while let Some((index, first)) = all.next() {
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            line.pop();
            let Some((_, next)) = all.next() else { break };
            line.push_str(next);
        }
        let place = Place::new(&shown, index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = hosts_allow_fields(line);
        let [daemons, clients, options @ ..] = fields.as_slice() else {
            notes.left(&place, line, "is no DAEMONS: CLIENTS");
            continue;
        };
        let daemons = words(daemons);
        let mut parsed = Line { place, daemons, in_allow, rules: Vec::new() };
        if DAEMONS.iter().any(|(_, names)| parsed.is_for(names)) {
            let allows = verdict(options, in_allow, &parsed.place, line, notes);
            parsed.rules = rules(&words(clients), allows, &parsed.place, line, notes);
        }
        lines.push(parsed);
    }
    lines
}

/// Whether a line lets in. Its options may say so themselves; other options are noted.
fn verdict(options: &[String], in_allow: bool, place: &Place, line: &str, notes: &mut Notes) -> bool {
    let mut allows = in_allow;
    for option in options {
        match option.split_whitespace().next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "allow" => allows = true,
            "deny" => allows = false,
            // The service is another program then, which says no, mostly.
            "twist" => {
                allows = false;
                notes.left(place, line, "runs a program in the service's place: taken as deny");
            }
            "" | "severity" => {}
            _ => notes.left(place, line, "no program is run, and no option taken but allow and deny: the events in the log say who came and who was refused"),
        }
    }
    allows
}

/// The rules of a client list. `a EXCEPT b EXCEPT c` is `a EXCEPT (b EXCEPT c)`, and whom an exception names is for the lines
/// below to decide about.
///
/// What needs a look-up is left out so that nobody gets in by that: of a line that lets in, the name, or the whole line where the
/// name is an exception; of a line that keeps out, the exception.
fn rules(words: &[String], allows: bool, place: &Place, line: &str, notes: &mut Notes) -> Vec<Rule> {
    let groups: Vec<&[String]> = words.split(|word| word.eq_ignore_ascii_case("EXCEPT")).collect();
    let mut kept: Vec<Option<IpNet>> = Vec::new();
    for (depth, group) in groups.iter().enumerate().rev() {
        let mut here: Vec<Option<IpNet>> = Vec::new();
        for word in *group {
            if word.eq_ignore_ascii_case("ALL") {
                here.push(None);
            } else if let Some(network) = network(word) {
                here.push(Some(network));
            } else {
                notes.left(place, line, needs_a_lookup(word));
                if allows && depth % 2 == 1 {
                    return Vec::new();
                }
            }
        }
        kept = if kept.is_empty() { here } else { except(&here, &kept) };
    }
    kept.into_iter().map(|network| Rule { allows, network }).collect()
}

/// Networks without others. Everybody is both families.
fn except(networks: &[Option<IpNet>], others: &[Option<IpNet>]) -> Vec<Option<IpNet>> {
    if others.contains(&None) {
        return Vec::new();
    }
    let everybody = || ["0.0.0.0/0", "::/0"].into_iter().filter_map(|text| text.parse::<IpNet>().ok());
    let mut pieces: Vec<IpNet> = networks
        .iter()
        .flat_map(|network| network.map_or_else(|| everybody().collect(), |network| vec![network]))
        .collect();
    for other in others.iter().flatten() {
        pieces = pieces.into_iter().flat_map(|piece| access::without(piece, *other)).collect();
    }
    pieces.into_iter().map(Some).collect()
}

/// A network as hosts.allow writes it: `192.0.2.7`, `10.1.`, `10.0.0.0/255.0.0.0`, `[2001:db8::]/32`.
fn network(word: &str) -> Option<IpNet> {
    if let Some(network) = parse_network(word) {
        return Some(network);
    }
    let octets: Vec<&str> = word.strip_suffix('.')?.split('.').collect();
    if octets.len() > 3 || !octets.iter().all(|octet| octet.parse::<u8>().is_ok()) {
        return None;
    }
    parse_network(&format!("{word}{}/{}", vec!["0"; 4 - octets.len()].join("."), 8 * octets.len()))
}

fn needs_a_lookup(word: &str) -> String {
    let shown = notes::quoted(word);
    if ["LOCAL", "KNOWN", "UNKNOWN", "PARANOID"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
        format!("{shown} depends on host names, which are not looked up: write networks under allow")
    } else if word.starts_with('@') {
        format!("{shown} is a netgroup, which is not looked up: write its networks under allow")
    } else if word.contains('@') {
        format!("{shown} asks for the client's user (ident), which is not looked up: write the network alone")
    } else if word.starts_with('/') {
        format!("{shown} is a file of patterns: write allow: [\"file:{word}\"], if it has networks alone")
    } else {
        format!("{} under allow", not_a_network(word))
    }
}

fn words(field: &str) -> Vec<String> {
    field.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether POP3 lets this address in, by the lists written out of a hosts.allow without a hosts.deny.
    fn lets_in(lists: Option<&Lists>, address: std::net::IpAddr) -> bool {
        let holds = |list: &[String]| list.iter().any(|text| parse_network(text).expect("ours").contains(&address));
        lists.is_some_and(|lists| !holds(&lists.deny) && (lists.allow.is_empty() || holds(&lists.allow)))
    }

    fn line() -> impl Strategy<Value = String> {
        let network = prop_oneof![
            (0u8..4, 0u8..8).prop_map(|(c, d)| format!("10.0.{c}.{d}")),
            (0u8..4).prop_map(|c| format!("10.0.{c}.")),
            (0u8..4).prop_map(|c| format!("10.0.{c}.0/255.255.254.0")),
            Just("10.".to_owned()),
            Just("ALL".to_owned()),
        ];
        let networks = proptest::collection::vec(network, 1..3).prop_map(|networks| networks.join(" "));
        let clients = proptest::collection::vec(networks, 1..4).prop_map(|groups| groups.join(" EXCEPT "));
        let daemon = proptest::sample::select(vec!["ipop3d", "ALL", "ALL EXCEPT ipop3d", "imapd", "ALL EXCEPT imapd"]);
        let option = proptest::sample::select(vec!["", " : allow", " : deny"]);
        (daemon, clients, option).prop_map(|(daemon, clients, option)| format!("{daemon}: {clients}{option}\n"))
    }

    #[test]
    fn nobody_gets_in_by_a_name_that_is_not_looked_up() {
        let rules = |text: &str, allows| {
            let words = words(text);
            rules(&words, allows, &Place::new(&"f".into(), 1), text, &mut Notes::default())
        };
        let everybody = |allows| vec![Rule { allows, network: None }];
        assert_eq!(rules("ALL EXCEPT .spam.example", true), []);
        assert_eq!(rules("ALL EXCEPT .isp.example", false), everybody(false));
        assert_eq!(rules("ALL .isp.example", true), everybody(true));
        let office = network("10.").expect("a network");
        assert_eq!(rules("10. .isp.example", true), [Rule { allows: true, network: Some(office) }]);
    }

    proptest! {
        #[test]
        fn what_is_written_out_lets_in_whom_the_file_would(text in proptest::collection::vec(line(), 0..6)) {
            let text = text.concat();
            let daemons = DAEMONS[1].1;
            let (stdin, mut notes) = (Path::new("-"), Notes::default());
            let lines = parse(&text, stdin, true, &mut notes);
            let ours: Vec<&Line> = lines.iter().filter(|line| line.is_for(daemons)).collect();
            let lists = lists(Service::Pop3, daemons, &ours, &text, stdin, false, &mut notes);
            let names: Vec<String> = daemons.iter().map(|name| (*name).to_owned()).collect();
            let file = parse_list(&text, &names, Purpose::Allow).expect("a good list");
            for (c, d) in (0..5).flat_map(|c| (0..9).map(move |d| (c, d))) {
                let address = std::net::IpAddr::from([10, 0, c, d]);
                prop_assert_eq!(lets_in(lists.as_ref(), address), file.contains(address), "{} in {}", address, text);
            }
            for address in ["192.0.2.1", "2001:db8::1"] {
                let address = address.parse().expect("an address");
                prop_assert_eq!(lets_in(lists.as_ref(), address), file.contains(address), "{} in {}", address, text);
            }
        }
    }
}
