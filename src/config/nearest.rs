//! The known name that a mistyped one most likely means.

/// The nearest of `known`, if one is near enough: a third of its letters may differ, case and `-` for `_` do not count.
pub(super) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = folded(typed);
    // A long text is no mistyped name, and comparing costs the product of the lengths.
    if typed.len() > 64 {
        return None;
    }
    let (distance, name) =
        known.into_iter().map(|name| (distance(&typed, &folded(name)), name)).min_by_key(|(d, _)| *d)?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(name)
}

fn folded(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let known = ["hostname", "listeners", "backends", "auth_per_ip", "ban"];
        let cases = [
            ("hostnam", Some("hostname")),
            ("Hostname", Some("hostname")),
            ("hsotname", Some("hostname")),
            ("listener", Some("listeners")),
            ("auth-per-ip", Some("auth_per_ip")),
            ("bna", Some("ban")),
            ("colour", None),
            ("", None),
        ];
        for (typed, meant) in cases {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }
}
