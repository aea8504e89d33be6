//! What was seen, for a person and for a program.

use super::finding::{Finding, Grade};
use super::judge::worst;
use super::look::Seen;
use super::versions::Answer;
use crate::cli::remote::Target;
use crate::proto::Capabilities;
use crate::proto::line::printable;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Where a line is broken, in characters.
const WIDTH: usize = 100;
/// The most octets of a text: a server may list 128 capabilities of 512.
const MAX_TEXT: usize = 72 * 1024;
/// Where the facts begin, and the words of the findings.
const FACTS: usize = 15;
const WORDS: usize = 8;

/// What was seen of one server, as a person reads it: the facts in a column, then the findings, the worst first.
pub(super) fn for_people(target: &Target, seen: &Seen, findings: &[Finding], colour: bool) -> String {
    let mut text = target.to_string();
    if let Some(address) = seen.address {
        let _ = write!(text, " at {address}");
    }
    text.push('\n');
    for (name, value) in facts(seen) {
        text.push_str(&wrapped(&format!("  {name}"), FACTS, &value));
    }
    text.push('\n');
    for finding in findings {
        let grade = finding.grade.as_str();
        let lines = wrapped(&format!("  {grade}"), WORDS, &finding.text);
        // After the lines are broken: colour has no width.
        text.push_str(&lines.replacen(grade, &painted(finding.grade, colour), 1));
    }
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let _ = writeln!(text, "\n  {} bad, {} to look at, {} ok", count(Grade::Bad), count(Grade::Warn), count(Grade::Ok));
    text
}

fn facts(seen: &Seen) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let list = |capabilities: &Capabilities| {
        if capabilities.lines.is_empty() { "(no list)".to_owned() } else { capabilities.lines.join(", ") }
    };
    if let Some(greeting) = &seen.greeting {
        facts.push(("greeting", greeting.clone()));
    }
    if let Some(before) = &seen.before {
        facts.push(("before TLS", list(before)));
    }
    if let Some(tls) = &seen.tls {
        let group = tls.group.map(|group| format!(", {group}")).unwrap_or_default();
        facts.push(("TLS", format!("{}, {}{group}", tls.version, tls.cipher)));
    }
    if let Some(Ok(presented)) = &seen.presented {
        let names: Vec<String> = presented.names.iter().map(ToString::to_string).collect();
        facts.push(("certificate", if names.is_empty() { "for no name".to_owned() } else { names.join(", ") }));
        if let Some(leaf) = presented.chain.first() {
            facts.push(("valid", format!("{} to {}", day(leaf.not_before), day(leaf.not_after))));
            facts.push(("key", format!("{}, signed by {}", leaf.key, leaf.signature)));
        }
        let chain: Vec<_> = presented.chain.iter().map(|link| link.subject.clone()).collect();
        let end = presented.chain.last().map(|link| link.issuer.clone());
        facts.push(("chain", chain.into_iter().chain(end).collect::<Vec<_>>().join(" < ")));
    }
    if let Some(after) = &seen.after {
        facts.push((if seen.before.is_some() { "under TLS" } else { "capabilities" }, list(after)));
    }
    facts
}

/// A line, broken between words, its further lines as far in as the first one's text. A server's words, and what stands in
/// its certificate, do nothing to a terminal.
fn wrapped(first: &str, indent: usize, text: &str) -> String {
    let text = printable(text.as_bytes(), MAX_TEXT);
    let mut lines = format!("{first:<indent$}");
    let mut width = lines.chars().count();
    for (place, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if place > 0 && width + 1 + length > WIDTH {
            let _ = write!(lines, "\n{:indent$}", "");
            width = indent;
        } else if place > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines.push('\n');
    lines
}

fn painted(grade: Grade, colour: bool) -> String {
    let paint = match grade {
        _ if !colour => return grade.as_str().to_owned(),
        Grade::Ok => 32,
        Grade::Warn => 33,
        Grade::Bad => 31,
    };
    format!("\x1b[{paint}m{}\x1b[0m", grade.as_str())
}

/// The same for a program: one object. Times are RFC 3339; what is not known is null.
pub(super) fn for_programs(target: &Target, seen: &Seen, findings: &[Finding]) -> Value {
    let lines = |capabilities: &Option<Capabilities>| capabilities.as_ref().map(|known| known.lines.clone());
    let versions = |wanted: Answer| {
        let named = seen.versions.iter().filter(move |(_, answer)| *answer == wanted);
        named.map(|(version, _)| version.as_str()).collect::<Vec<_>>()
    };
    let tls = seen.tls.as_ref().map(|facts| {
        let mut accepted = versions(Answer::Taken);
        accepted.extend((facts.version == "1.3").then_some("1.3"));
        json!({
            "version": facts.version, "cipher": facts.cipher, "group": facts.group,
            "accepted": accepted, "refused": versions(Answer::Refused),
        })
    });
    let certificate = seen.presented.as_ref().and_then(|presented| presented.as_ref().ok()).map(|presented| {
        let chain: Vec<Value> = presented
            .chain
            .iter()
            .map(|link| {
                json!({
                    "subject": link.subject, "issuer": link.issuer, "not_before": moment(link.not_before),
                    "not_after": moment(link.not_after), "key": link.key, "signature": link.signature,
                })
            })
            .collect();
        json!({
            "names": presented.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "name_matches": presented.covers, "trusted": presented.trust.is_ok(), "chain": chain,
        })
    });
    json!({
        "url": target.to_string(),
        "address": seen.address.map(|address| address.to_string()),
        "greeting": seen.greeting,
        "capabilities_before_tls": lines(&seen.before),
        "capabilities": lines(&seen.after),
        "tls": tls,
        "certificate": certificate,
        "grade": worst(findings),
        "findings": findings,
    })
}

fn day(time: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]");
    OffsetDateTime::from(time).format(format).unwrap_or_else(|_| "?".to_owned())
}

fn moment(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remote::Fault;

    fn shown(colour: bool) -> String {
        let target: Target = "imaps://mail.example.net".parse().expect("a server");
        let seen = Seen { fault: Some(Fault::Closed), greeting: Some("* OK hello".to_owned()), ..Seen::default() };
        let findings = [
            Finding::bad("broken_off", "bad ".repeat(40).trim_end()),
            Finding::warn("tls13", "look"),
            Finding::ok("old_tls", "fine"),
        ];
        for_people(&target, &seen, &findings, colour)
    }

    #[test]
    fn a_person_sees_columns_and_no_line_too_long() {
        let text = shown(false);
        assert!(
            text.starts_with("imaps://mail.example.net:993\n  greeting     * OK hello\n\n  bad   bad bad"),
            "{text}"
        );
        assert!(text.contains("\n        bad"), "the second line stands below the first: {text}");
        assert!(text.contains("\n  warn  look\n  ok    fine\n\n  1 bad, 1 to look at, 1 ok\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(wrapped("  chain", 9, "CN=\x1b]0;evil\x07\n"), "  chain  CN=\\u{1b}]0;evil\\u{7}\\u{a}\n");
    }

    #[test]
    fn colour_changes_the_grades_alone() {
        let text = shown(true);
        assert!(text.contains("  \x1b[31mbad\x1b[0m   bad bad"), "{text:?}");
        let plain =
            ["\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"].iter().fold(text, |text, code| text.replace(code, ""));
        assert_eq!(plain, shown(false));
    }

    #[test]
    fn a_program_gets_null_for_what_is_not_known() {
        let target: Target = "smtp://mail.example.net".parse().expect("a server");
        let json = for_programs(&target, &Seen::default(), &[]);
        assert_eq!(json["url"], "smtp://mail.example.net:25");
        for field in ["address", "greeting", "capabilities_before_tls", "capabilities", "tls", "certificate"] {
            assert!(json.get(field).is_some_and(Value::is_null), "{field}");
        }
        assert_eq!((&json["grade"], &json["findings"]), (&json!("ok"), &json!([])));
    }
}
