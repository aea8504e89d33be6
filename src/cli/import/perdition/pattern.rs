//! Regular expressions of a popmap.re, as patterns with `*`.
//!
//! Of the extended POSIX kind only what people write there: anchors, literals, `.*`, `[^@]*`, groups, and one set of
//! characters, of which each becomes a pattern of its own. A dot alone is meant as a dot.

/// The most patterns that one expression becomes.
const MOST: usize = 64;

/// Parts a line at the colon behind the expression; one in brackets or behind a backslash is part of it.
pub(super) fn split(line: &str) -> Option<(&str, &str)> {
    let (mut in_set, mut escaped) = (0, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_set += 1,
            ']' if in_set > 0 => in_set -= 1,
            ':' if in_set == 0 => {
                return Some((line[..at].trim(), line[at + 1..].trim()))
                    .filter(|(e, v)| !e.is_empty() && !v.is_empty());
            }
            _ => {}
        }
    }
    None
}

/// Whether the expression's first group is what stands before the @.
pub(super) fn begins_with_local(expression: &str) -> bool {
    ["(.*)@", "(.+)@", "([^@]*)@", "([^@]+)@"].iter().any(|group| expression.trim_start_matches('^').starts_with(group))
}

/// The patterns that together say what the expression says; `None` where they cannot.
pub(super) fn globs(expression: &str) -> Option<Vec<String>> {
    let mut rest = expression;
    let mut globs = vec![String::new()];
    match rest.strip_prefix('^') {
        Some(anchored) => rest = anchored,
        None => push(&mut globs, '*'),
    }
    let open_end = match rest.strip_suffix('$').filter(|rest| !rest.ends_with('\\')) {
        Some(anchored) => {
            rest = anchored;
            false
        }
        None => true,
    };
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '(' | ')' => {}
            '.' if rest.starts_with(['*', '+']) => {
                rest = &rest[1..];
                push(&mut globs, '*');
            }
            '[' => {
                let end = rest.find(']')?;
                let (set, behind) = (&rest[..end], &rest[end + 1..]);
                rest = behind;
                match behind.chars().next() {
                    Some('*' | '+') if set == "^@" => {
                        rest = &behind[1..];
                        push(&mut globs, '*');
                    }
                    Some('*' | '+' | '?' | '{') => return None,
                    _ => globs = one_of(&globs, set)?,
                }
            }
            '\\' => {
                let c = rest.chars().next()?;
                rest = &rest[c.len_utf8()..];
                literal(&mut globs, c)?;
            }
            '|' | '*' | '+' | '?' | '{' | '}' | '^' | '$' => return None,
            c => literal(&mut globs, c)?,
        }
        // What repeats a group or a letter was not looked at.
        if rest.starts_with(['*', '+', '?', '{']) {
            return None;
        }
    }
    if open_end {
        push(&mut globs, '*');
    }
    Some(globs)
}

fn push(globs: &mut [String], c: char) {
    for glob in globs {
        if c != '*' || !glob.ends_with('*') {
            glob.push(c);
        }
    }
}

fn literal(globs: &mut [String], c: char) -> Option<()> {
    if matches!(c, '*' | '?' | '[' | ']') || c.is_whitespace() {
        return None;
    }
    push(globs, c);
    Some(())
}

/// Each pattern with each letter of a set such as `a-kx`.
fn one_of(globs: &[String], set: &str) -> Option<Vec<String>> {
    let mut letters = Vec::new();
    let mut rest = set.chars().peekable();
    if set.starts_with(['^', '[']) || set.is_empty() || set.contains("[:") {
        return None;
    }
    while let Some(c) = rest.next() {
        let last = match rest.next_if_eq(&'-') {
            Some(_) => rest.next()?,
            None => c,
        };
        if !c.is_ascii_alphanumeric() && c != last {
            return None;
        }
        letters.extend(c..=last);
        if letters.len() > MOST {
            return None;
        }
    }
    // Names are compared in lower case.
    letters.iter_mut().for_each(char::make_ascii_lowercase);
    letters.sort_unstable();
    letters.dedup();
    if letters.len() * globs.len() > MOST || letters.iter().any(|letter| matches!(letter, '*' | '?' | '[' | ']')) {
        return None;
    }
    Some(globs.iter().flat_map(|glob| letters.iter().map(move |letter| format!("{glob}{letter}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_becomes_patterns() {
        for (expression, expected) in [
            ("^(.*)@example\\.com$", Some("*@example.com")),
            ("(.*)@example.com", Some("*@example.com*")),
            ("^[a-c]", Some("a* b* c*")),
            ("^[A-Ca-c]", Some("a* b* c*")),
            ("^joe$", Some("joe")),
            (".*", Some("*")),
            ("^[^@]+@shell\\.example\\.net$", Some("*@shell.example.net")),
            ("^[^a-k]", None),
            ("^(a|b)$", None),
            ("^a?b$", None),
            ("^a{3}", None),
            ("^(ab)*$", None),
            ("^[[:alpha:]]", None),
            ("^a\\*b", None),
        ] {
            assert_eq!(globs(expression).map(|globs| globs.join(" ")).as_deref(), expected, "{expression}");
        }
        assert_eq!(split("^[[:alpha:]]x\\:: a:110"), Some(("^[[:alpha:]]x\\:", "a:110")));
        assert_eq!(split("nothing"), None);
        assert!(begins_with_local("^(.*)@x") && !begins_with_local("^x(.*)"));
    }

    proptest! {
        #[test]
        fn no_expression_panics(text in r"([a-c^$.*+?|\[\](){}\\@:-]|\PC){0,20}") {
            let _ = (globs(&text), split(&text));
        }
    }
}
