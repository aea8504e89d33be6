//! What may stand in a list file: one network a line, or lines in the form of `hosts.allow` (hosts_access(5)).
//!
//! Where tcp wrappers would have to look something up (host names, netgroups, the client's user) the line
//! is an error: a rule that is quietly not applied lets in whom it should keep out, or the other way round.

use super::set::{AddressSet, parse_network};
use std::fmt;

/// Which of a listener's two lists a file serves. It decides what `: allow` and `: deny` at the end of a line mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its members may come in.
    Allow,
    /// Its members may not.
    Deny,
}

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it and what to write.
    pub message: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// The most complaints about one file.
const MOST_COMPLAINTS: usize = 20;

/// Reads a list. `daemons` are the names, lower-cased, that lines in hosts.allow form may give us.
///
/// The first line that holds an address decides about it, as with tcp wrappers.
///
/// # Errors
/// Every line that is wrong, up to a bound.
pub fn parse(text: &str, daemons: &[String], purpose: Purpose) -> Result<AddressSet, Vec<BadLine>> {
    // Neighbouring lines of the same kind are one step: a step costs as much as the whole list.
    let mut steps: Vec<(bool, Vec<AddressSet>)> = Vec::new();
    let mut complaints = Vec::new();
    for (line, content) in logical_lines(text) {
        let decided = match parse_network(&content) {
            Some(network) => Ok(Some((AddressSet::from_iter([network]), true))),
            None => rule(&content, daemons, purpose),
        };
        match (decided, steps.last_mut()) {
            (Ok(None), _) => {}
            (Ok(Some((clients, member))), Some((kind, step))) if *kind == member => step.push(clients),
            (Ok(Some((clients, member))), _) => steps.push((member, vec![clients])),
            (Err(message), _) => complaints.push(BadLine { line, message }),
        }
        if complaints.len() == MOST_COMPLAINTS {
            break;
        }
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    // From the last to the first, so that an earlier line overrides a later one.
    Ok(steps.iter().rev().fold(AddressSet::default(), |members, (member, clients)| {
        if *member {
            AddressSet::union(clients.iter().chain([&members]))
        } else {
            members.without(&AddressSet::union(clients))
        }
    }))
}

/// Lines with their numbers, without comments and blank ones; a backslash at the end joins the next line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, raw) in text.lines().enumerate() {
        let raw = match raw.find('#') {
            Some(at) if raw[..at].is_empty() || raw[..at].ends_with(char::is_whitespace) => &raw[..at],
            _ => raw,
        };
        let (number, mut content) = pending.take().unwrap_or((index + 1, String::new()));
        if let Some(joined) = raw.strip_suffix('\\') {
            content.push_str(joined);
            pending = Some((number, content));
        } else {
            content.push_str(raw);
            lines.push((number, content));
        }
    }
    lines.extend(pending);
    lines
        .into_iter()
        .map(|(number, line)| (number, line.trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// One line in hosts.allow form: whom it decides about and whether they are members. `None`: it is another daemon's.
fn rule(line: &str, daemons: &[String], purpose: Purpose) -> Result<Option<(AddressSet, bool)>, String> {
    let fields = fields(line);
    let [daemon_list, client_list, options @ ..] = fields.as_slice() else {
        return Err(not_a_network(line));
    };
    let names = tokens(daemon_list);
    if names.is_empty() || is_address_gone_wrong(line, &names) {
        return Err(not_a_network(line));
    }
    if !is_ours(&names, daemons)? {
        return Ok(None);
    }
    let member = match options {
        [] => true,
        [option] if option.eq_ignore_ascii_case("allow") => purpose == Purpose::Allow,
        [option] if option.eq_ignore_ascii_case("deny") => purpose == Purpose::Deny,
        [option, ..] => {
            return Err(format!(
                "`{}` behind the clients is not taken: only `allow` or `deny` may stand there, and an IPv6 address stands in brackets",
                shown(option)
            ));
        }
    };
    Ok(Some((clients(&tokens(client_list))?, member)))
}

/// Whether a line that would pass for the rule of a daemon named `2001` is an IPv6 address gone wrong: mistyped, or with
/// something behind it, another one or a comment without a space before it.
fn is_address_gone_wrong(line: &str, names: &[&str]) -> bool {
    let word = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '/' | '#')).next().unwrap_or_default();
    let like_an_address =
        word.matches(':').count() > 1 && word.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    let all_digits = names.iter().all(|name| name.bytes().all(|b| b.is_ascii_hexdigit()));
    all_digits && (like_an_address || !line.contains(char::is_whitespace))
}

/// The fields of a line in hosts.allow form. A colon inside brackets or behind a backslash does not end one.
pub fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut in_brackets, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            ':' if escaped => {
                field.pop();
                field.push(c);
            }
            ':' if !in_brackets => fields.push(std::mem::take(&mut field).trim().to_owned()),
            _ => {
                in_brackets = c == '[' || (in_brackets && c != ']');
                field.push(c);
            }
        }
        escaped = c == '\\';
    }
    fields.push(field.trim().to_owned());
    fields
}

fn tokens(field: &str) -> Vec<&str> {
    field.split(|c: char| c == ',' || c.is_whitespace()).filter(|token| !token.is_empty()).collect()
}

/// `a EXCEPT b EXCEPT c` is `a EXCEPT (b EXCEPT c)`, as hosts_access(5) has it.
fn groups<'a, 'b>(tokens: &'a [&'b str]) -> impl DoubleEndedIterator<Item = &'a [&'b str]> {
    tokens.split(|token| token.eq_ignore_ascii_case("EXCEPT"))
}

fn is_ours(names: &[&str], daemons: &[String]) -> Result<bool, String> {
    let mut ours = false;
    for group in groups(names).rev() {
        let mut listed = false;
        for name in group {
            let plain = name.split_once('@').map_or(*name, |(daemon, _)| daemon);
            let matches = plain.eq_ignore_ascii_case("ALL") || daemons.iter().any(|d| d.eq_ignore_ascii_case(plain));
            if matches && plain.len() != name.len() {
                return Err(format!(
                    "`{}`: write the daemon's name alone, listeners have lists of their own",
                    shown(name)
                ));
            }
            listed |= matches;
        }
        ours = listed && !ours;
    }
    Ok(ours)
}

fn clients(tokens: &[&str]) -> Result<AddressSet, String> {
    let mut set = AddressSet::default();
    for group in groups(tokens).rev() {
        if group.is_empty() {
            return Err(
                "no client is named: write ALL, a network such as 10.0.0.0/8, or a prefix such as 10.1.".to_owned()
            );
        }
        let listed = group.iter().map(|token| pattern(token)).collect::<Result<Vec<_>, _>>()?;
        set = AddressSet::union(&listed).without(&set);
    }
    Ok(set)
}

/// One client pattern of hosts_access(5).
fn pattern(token: &str) -> Result<AddressSet, String> {
    if token.eq_ignore_ascii_case("ALL") {
        return Ok(AddressSet::everyone());
    }
    if let Some(net) = parse_network(token).or_else(|| prefix(token).and_then(|net| parse_network(&net))) {
        return Ok(std::iter::once(net).collect());
    }
    let token_shown = shown(token);
    Err(if ["LOCAL", "KNOWN", "UNKNOWN", "PARANOID"].iter().any(|word| token.eq_ignore_ascii_case(word)) {
        format!("`{token_shown}` depends on host names, which are not looked up: write networks")
    } else if token.starts_with('@') {
        format!("`{token_shown}` is a netgroup, which is not looked up: write networks")
    } else if token.contains('@') {
        format!("`{token_shown}` asks for the client's user, which is not looked up: write the network alone")
    } else if token.starts_with('/') {
        format!("`{token_shown}` is a file of patterns: list it in the configuration as file:{token_shown}")
    } else {
        not_a_network(token)
    })
}

/// `192.168.` as `192.168.0.0/16`.
fn prefix(token: &str) -> Option<String> {
    let octets: Vec<&str> = token.strip_suffix('.')?.split('.').collect();
    let fits = octets.len() <= 3 && octets.iter().all(|octet| octet.parse::<u8>().is_ok());
    fits.then(|| format!("{}{}/{}", token, vec!["0"; 4 - octets.len()].join("."), 8 * octets.len()))
}

/// What to say about a text that is no network. Also for lists in the configuration itself.
pub fn not_a_network(text: &str) -> String {
    let text_shown = shown(text);
    let looks_like_a_name = text.contains(|c: char| c.is_ascii_alphabetic())
        && !text.contains(':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*' | '?'));
    if looks_like_a_name {
        format!("`{text_shown}` is a host name, which is not looked up: write its address or network")
    } else {
        format!("`{text_shown}` is neither an address nor a network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")
    }
}

fn shown(text: &str) -> String {
    let short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 { short + "…" } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn daemons() -> Vec<String> {
        ["gatepost", "pops", "ipop3d", "pop3"].map(str::to_owned).to_vec()
    }

    /// The members among a few addresses that tell the cases apart.
    fn members(text: &str, purpose: Purpose) -> Vec<&'static str> {
        let set = parse(text, &daemons(), purpose).unwrap_or_else(|bad| panic!("{text}: {bad:?}"));
        ["10.0.0.1", "10.1.0.1", "192.168.7.7", "203.0.113.9", "2001:db8::5", "2001:db9::5"]
            .into_iter()
            .filter(|address| set.contains(address.parse().expect("an address")))
            .collect()
    }

    #[test]
    fn a_list_admits_whom_it_names() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("# nobody yet\n\n", &[]),
            ("10.0.0.0/16 # the office\n2001:db8::/32\n", &["10.0.0.1", "2001:db8::5"]),
            ("ipop3d: 10.", &["10.0.0.1", "10.1.0.1"]),
            ("ipop3d: 10. EXCEPT 10.1.", &["10.0.0.1"]),
            ("ipop3d: 10. EXCEPT 10.1. EXCEPT 10.1.0.1", &["10.0.0.1", "10.1.0.1"]),
            ("ALL: 192.168.0.0/255.255.0.0, [2001:db8::]/32", &["192.168.7.7", "2001:db8::5"]),
            ("ALL EXCEPT ipop3d: ALL", &[]),
            ("ALL EXCEPT imapd: 10.0.", &["10.0.0.1"]),
            ("ALL EXCEPT ALL EXCEPT ipop3d: 10.0.", &["10.0.0.1"]),
            ("sshd: .example.com, @admins, LOCAL\nPOPS : 203.0.113.9 : allow", &["203.0.113.9"]),
            ("ipop3d: 10.1. : deny\nipop3d: 10.", &["10.0.0.1"]),
            ("ipop3d: 10.\nipop3d: ALL : deny", &["10.0.0.1", "10.1.0.1"]),
            ("10.1.0.0/16\nipop3d: 10. : deny\nipop3d: 10. 192.168.", &["10.1.0.1", "192.168.7.7"]),
            ("ipop3d: 10.0. \\\n  192.168.\n", &["10.0.0.1", "192.168.7.7"]),
        ];
        for (text, expected) in cases {
            assert_eq!(&members(text, Purpose::Allow), expected, "{text}");
        }
    }

    #[test]
    fn on_a_deny_list_the_word_deny_keeps_its_meaning() {
        let text = "ALL: 10.1. : allow\nALL: 10. : deny\nALL: 192.168.";
        assert_eq!(members(text, Purpose::Deny), ["10.0.0.1", "192.168.7.7"]);
    }

    #[test]
    fn what_cannot_be_applied_is_refused_by_line() {
        let cases = [
            ("mail.example.net", "is a host name"),
            ("10.0.0.0/33", "neither an address nor a network"),
            ("2001:db8::/129", "neither an address nor a network"),
            ("fe80:1:2:3", "neither an address nor a network"),
            ("ALL: .example.net", "is a host name"),
            ("ALL: @campus", "netgroup"),
            ("ALL: LOCAL", "depends on host names"),
            ("ALL: joe@10.0.0.1", "client's user"),
            ("ALL: /etc/trusted", "file:/etc/trusted"),
            ("ALL:", "no client is named"),
            ("ALL: ALL EXCEPT", "no client is named"),
            ("ALL: 2001:db8::1", "stands in brackets"),
            ("ALL: ALL: spawn (echo %h)", "only `allow` or `deny`"),
            ("ipop3d@10.0.0.1: ALL", "the daemon's name alone"),
            ("10.0.0.1, 10.0.0.2", "neither an address nor a network"),
            ("2001:db8::1 2001:db8::2", "neither an address nor a network"),
            ("2001:db8::1,2001:db8::2", "neither an address nor a network"),
            ("2001:db8::/32# the office", "neither an address nor a network"),
            ("2001:db8::1/129 # the office", "neither an address nor a network"),
        ];
        for (line, words) in cases {
            let bad = parse(&format!("# first\n{line}\n"), &daemons(), Purpose::Allow).expect_err(line);
            assert_eq!((bad.len(), bad[0].line), (1, 2), "{line}");
            assert!(bad[0].message.contains(words), "{line}: {}", bad[0].message);
        }
    }

    #[test]
    fn every_bad_line_is_named_up_to_a_bound() {
        let bad = parse(&"x.example\n".repeat(1000), &daemons(), Purpose::Allow).expect_err("bad");
        assert_eq!(bad.len(), MOST_COMPLAINTS);
        assert_eq!(bad.last().map(|bad| bad.line), Some(MOST_COMPLAINTS));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"[ -~\n]{0,80}") {
            let _ = parse(&text, &daemons(), Purpose::Deny);
        }

        #[test]
        fn no_rule_panics(line in r"(ALL|ipop3d|EXCEPT|10\.|::1|\[::1\]|/|@|:|,| |\\|#|\n){0,20}") {
            let _ = parse(&line, &daemons(), Purpose::Allow);
        }
    }
}
