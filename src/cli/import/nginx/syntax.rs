//! nginx's syntax: directives that end with `;` or have a block, words, quotes, comments, `include`.

use super::super::ImportError;
use super::super::notes::{self, Notes, Place};
use super::super::reading::{self, DEEPEST, Reading};
use std::path::Path;
use std::sync::Arc;

/// How deep blocks may stand in each other.
const DEEPEST_BLOCK: usize = 32;

/// A directive; one without a block has an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) block: Vec<Directive>,
    pub(super) place: Place,
}

impl Directive {
    /// The first argument, or nothing.
    pub(super) fn first(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// Whether it says `on`.
    pub(super) fn is_on(&self) -> bool {
        self.first() == "on"
    }

    /// As it was written, more or less.
    pub(super) fn text(&self) -> String {
        let mut text = self.name.clone();
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(argument);
        }
        text
    }
}

/// The directives of this name.
pub(super) fn named<'a>(block: &'a [Directive], name: &'a str) -> impl Iterator<Item = &'a Directive> {
    block.iter().filter(move |directive| directive.name == name)
}

/// Reads a file and all that it includes.
pub(super) fn load(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Vec<Directive>, ImportError> {
    let text = reading.text(file)?;
    let parsed = parse(&text, &notes::shown(file))?;
    Ok(include(parsed, &reading::folder(file), reading, notes, 0))
}

/// Puts included files in the place of their `include`. A relative one begins at the main file's folder, for all of them. What
/// the web server includes is nothing to us.
fn include(
    block: Vec<Directive>,
    folder: &Path,
    reading: &mut Reading,
    notes: &mut Notes,
    depth: usize,
) -> Vec<Directive> {
    let mut whole = Vec::new();
    for mut directive in block {
        if directive.name == "http" {
            directive.block.clear();
        }
        if directive.name != "include" {
            directive.block = include(directive.block, folder, reading, notes, depth);
            whole.push(directive);
            continue;
        }
        if depth == DEEPEST {
            notes.left(&directive.place, &directive.text(), "files include each other too deep: this one was not read");
            continue;
        }
        for file in reading::included(folder, directive.first()) {
            let read = reading.text(&file).map_err(ImportError::from);
            match read.and_then(|text| parse(&text, &notes::shown(&file))) {
                Ok(parsed) => whole.extend(include(parsed, folder, reading, notes, depth + 1)),
                Err(error) => notes.left(
                    &directive.place,
                    &directive.text(),
                    format_args!("was not read: {error}: run the import where the file is"),
                ),
            }
        }
    }
    whole
}

/// Reads the text of one file.
pub(super) fn parse(text: &str, file: &Arc<str>) -> Result<Vec<Directive>, ImportError> {
    let mut parser = Parser { words: Words { text, at: 0, line: 1 }, file };
    parser.block(0)
}

struct Parser<'a> {
    words: Words<'a>,
    file: &'a Arc<str>,
}

impl Parser<'_> {
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, ImportError> {
        let mut directives = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut line = self.words.line;
        loop {
            let token = self.words.next().map_err(|what| self.wrong(what))?;
            if words.is_empty() {
                line = self.words.line;
            }
            let block = match token {
                Token::Word(word) => {
                    words.push(word);
                    continue;
                }
                Token::Open if words.last().is_some_and(|word| word.ends_with("_by_lua_block")) => {
                    self.words.skip_block();
                    Vec::new()
                }
                Token::Open if depth == DEEPEST_BLOCK => return Err(self.wrong("blocks stand in each other too deep")),
                Token::Open if !words.is_empty() => self.block(depth + 1)?,
                Token::Semicolon if !words.is_empty() => Vec::new(),
                Token::Close if words.is_empty() && depth > 0 => return Ok(directives),
                Token::End if words.is_empty() && depth == 0 => return Ok(directives),
                Token::End if words.is_empty() => {
                    return Err(self.wrong("the file ends inside a block: a `}` is missing"));
                }
                Token::Close if words.is_empty() => return Err(self.wrong("a `}` that closes nothing")),
                Token::End | Token::Close => return Err(self.wrong("a directive ends without its `;`")),
                Token::Open | Token::Semicolon => return Err(self.wrong("a directive without a name")),
            };
            let mut words = std::mem::take(&mut words).into_iter();
            let name = words.next().unwrap_or_default();
            directives.push(Directive { name, arguments: words.collect(), block, place: Place::new(self.file, line) });
        }
    }

    fn wrong(&self, what: &str) -> ImportError {
        ImportError::Syntax { place: Place::new(self.file, self.words.line), what: what.to_owned() }
    }
}

enum Token {
    Word(String),
    Open,
    Close,
    Semicolon,
    End,
}

struct Words<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Token, &'static str> {
        self.skip_blank();
        let Some(c) = self.step() else { return Ok(Token::End) };
        match c {
            ';' => Ok(Token::Semicolon),
            '{' => Ok(Token::Open),
            '}' => Ok(Token::Close),
            '"' | '\'' => self.quoted(c),
            first => Ok(Token::Word(self.bare(first))),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn step(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.step();
                }
            } else if c.is_whitespace() {
                self.step();
            } else {
                break;
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, &'static str> {
        let mut word = String::new();
        loop {
            match self.step().ok_or("a quote is not closed")? {
                '\\' => self.escaped(&mut word),
                c if c == quote => return Ok(Token::Word(word)),
                c => word.push(c),
            }
        }
    }

    fn bare(&mut self, first: char) -> String {
        let mut word = String::new();
        let mut next = Some(first);
        while let Some(c) = next {
            match c {
                '\\' => self.escaped(&mut word),
                c => word.push(c),
            }
            // `${name}` is part of the word.
            let in_variable = c == '$' && self.peek() == Some('{');
            let ends = |c: char| c.is_whitespace() || matches!(c, ';' | '{');
            next = match self.peek() {
                Some(c) if in_variable || !ends(c) => self.step(),
                _ => None,
            };
        }
        word
    }

    /// What stands behind a backslash; nginx knows these and leaves others as they are, with the backslash.
    fn escaped(&mut self, word: &mut String) {
        match self.step() {
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some(c) => word.extend(['\\', c]),
            None => word.push('\\'),
        }
    }

    /// A block in another language, whose braces are only counted.
    fn skip_block(&mut self) {
        let mut open = 1;
        while open > 0 {
            match self.step() {
                Some('{') => open += 1,
                Some('}') => open -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<String, String> {
        fn show(block: &[Directive]) -> String {
            let one = |d: &Directive| {
                let block = if d.block.is_empty() { String::new() } else { format!(" {{{}}}", show(&d.block)) };
                format!(
                    "{} {:?}{block}",
                    d.place.to_string().replace("f:", ""),
                    [&[d.name.clone()][..], &d.arguments].concat()
                )
            };
            block.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        parse(text, &"f".into()).map(|block| show(&block)).map_err(|error| error.to_string())
    }

    #[test]
    fn directives_words_and_blocks() {
        for (text, expected) in [
            ("a b;", r#"1 ["a", "b"]"#),
            ("# x;\na \"b c\" 'd\\'e' f\\ng; # y\n", r#"2 ["a", "b c", "d'e", "f\ng"]"#),
            ("m {\n s { l 1; }\n}", r#"1 ["m"] {2 ["s"] {2 ["l", "1"]}}"#),
            ("a ${b}c d#e;", r#"1 ["a", "${b}c", "d#e"]"#),
            ("a_by_lua_block { if x then { y } end; } b;", r#"1 ["a_by_lua_block"] 1 ["b"]"#),
            ("", ""),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, words) in [
            ("a b", "f:1: a directive ends without its `;`"),
            ("m {\n", "f:2: the file ends inside a block"),
            ("}", "f:1: a `}` that closes nothing"),
            ("\n;", "f:2: a directive without a name"),
            ("a \"b;\n", "f:2: a quote is not closed"),
        ] {
            assert!(parsed(text).expect_err(text).starts_with(words), "{text}: {:?}", parsed(text));
        }
        assert!(parsed(&"a {".repeat(1_000)).expect_err("too deep").contains("too deep"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"([a-z$#;{}"'\\ \n]|\PC){0,40}"#) {
            let _ = parse(&text, &"f".into());
        }
    }
}
