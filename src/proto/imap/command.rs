//! Commands cut out of the client's bytes, tolerantly and within bounds.
//!
//! A command is a line, or several with literals between them:
//!
//! ```text
//!   a1 LOGIN {3}⏎   joe    {6+}⏎   secret   ⏎
//!   └── line ──┘ literal └ line ┘ literal  line
//! ```
//!
//! A [`Scanner`] leaves a command in the input until it is whole. At each literal it asks: [`Scan::Announced`] is
//! answered with [`Scanner::accept`] or [`Scanner::refuse`], and what is refused is thrown away as it comes, so that
//! no octet of a refused literal is ever taken for a command.

use super::Literal;
use crate::proto::line::{Flaw, MAX_COMMAND, MAX_SASL, check};
use crate::proto::{Mechanism, Secret};
use bytes::{Buf, BytesMut};
use std::fmt;
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

/// The largest literal before login (RFC 7888 section 5 for LITERAL-).
pub(super) const MAX_LITERAL: usize = 4096;
/// The most octets of a command with its literals.
const MAX_WHOLE: usize = 16 * 1024;
/// The most literals in a command: LOGIN has two, and nobody's ID needs more.
const MAX_LITERALS: usize = 8;
/// What stands before the initial response on an AUTHENTICATE line: tag, verb, mechanism and spaces.
const BEFORE_INITIAL: usize = 128;

/// A command's tag, fit to be sent back: 1 to 64 ASTRING-CHARs without `+` (RFC 3501 section 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=64).contains(&bytes.len())
            && bytes.iter().all(|&b| b.is_ascii_graphic() && !b"(){%*\"\\+".contains(&b));
        std::str::from_utf8(bytes).ok().filter(|_| fits).map(|tag| Self(tag.to_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client may want before login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Capability,
    Noop,
    Logout,
    Id,
    StartTls,
    Login,
    Authenticate,
    /// Known, and not before login.
    NeedsLogin,
    /// No command we know, or none at all.
    Unknown,
}

const NEED_LOGIN: [&str; 46] = [
    "APPEND",
    "CANCELUPDATE",
    "CHECK",
    "CLOSE",
    "COMPRESS",
    "COPY",
    "CREATE",
    "DELETE",
    "DELETEACL",
    "ENABLE",
    "ESEARCH",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "GETACL",
    "GETANNOTATION",
    "GETMETADATA",
    "GETQUOTA",
    "GETQUOTAROOT",
    "IDLE",
    "LIST",
    "LISTRIGHTS",
    "LSUB",
    "MOVE",
    "MYRIGHTS",
    "NAMESPACE",
    "NOTIFY",
    "RENAME",
    "REPLACE",
    "SEARCH",
    "SELECT",
    "SETACL",
    "SETANNOTATION",
    "SETMETADATA",
    "SETQUOTA",
    "SORT",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "THREAD",
    "UID",
    "UNAUTHENTICATE",
    "UNSELECT",
    "UNSUBSCRIBE",
    "URLFETCH",
    "XLIST",
];

impl Verb {
    fn parse(bytes: &[u8]) -> Self {
        let is = |name: &&str| bytes.eq_ignore_ascii_case(name.as_bytes());
        let open = [
            ("CAPABILITY", Verb::Capability),
            ("NOOP", Verb::Noop),
            ("LOGOUT", Verb::Logout),
            ("ID", Verb::Id),
            ("STARTTLS", Verb::StartTls),
            ("LOGIN", Verb::Login),
            ("AUTHENTICATE", Verb::Authenticate),
        ];
        match open.iter().find(|(name, _)| is(name)) {
            Some((_, verb)) => *verb,
            None if NEED_LOGIN.iter().any(is) => Verb::NeedsLogin,
            None => Verb::Unknown,
        }
    }
}

/// How a command begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// `None` where nothing stands that could be sent back.
    pub(super) tag: Option<Tag>,
    pub(super) verb: Verb,
    /// Octets up to the end of the verb.
    length: usize,
}

impl Head {
    fn parse(line: &[u8]) -> Self {
        let end = |from: usize| {
            let stop = |b: &u8| matches!(b, b' ' | b'\r' | b'\n');
            line[from..].iter().position(stop).map_or(line.len(), |at| from + at)
        };
        let tag_end = end(0);
        let verb_start = tag_end + line[tag_end..].iter().take_while(|&&b| b == b' ').count();
        let verb_end = end(verb_start);
        Self { tag: Tag::parse(&line[..tag_end]), verb: Verb::parse(&line[verb_start..verb_end]), length: verb_end }
    }
}

/// A whole command, taken out of the input. What stands in it may be a password: it is wiped when dropped.
pub(super) struct Command {
    pub(super) head: Head,
    /// What no command may hold outside its literals.
    pub(super) flaw: Option<Flaw>,
    text: BytesMut,
    literals: Vec<Taken>,
}

/// A literal that was accepted: where it was announced, where it stands.
#[derive(Debug)]
struct Taken {
    announced: usize,
    octets: Range<usize>,
}

impl Command {
    /// Whether nothing but spaces stands behind the verb.
    pub(super) fn is_bare(&self) -> bool {
        self.text[self.head.length..].iter().all(|&b| b == b' ')
    }

    /// What stands behind the verb, as it came.
    pub(super) fn behind_verb(&self) -> &[u8] {
        &self.text[self.head.length..]
    }

    /// The arguments: atoms, quoted strings, literals, with one or more spaces before each. `None` if they are
    /// anything else.
    ///
    /// Two leniencies: an atom may hold any graphic or 8-bit octet (`LOGIN joe p*(%w`, typed by hand and sent by
    /// clients that never heard of atom-specials), and `\` in a quoted string takes any octet after it, as in
    /// Dovecot and Courier.
    pub(super) fn arguments(&self) -> Option<Vec<Secret<Vec<u8>>>> {
        let (mut arguments, mut literals) = (Vec::new(), self.literals.iter());
        let mut at = self.head.length;
        loop {
            let rest = self.text.get(at..)?;
            let spaces = rest.iter().take_while(|&&b| b == b' ').count();
            let rest = &rest[spaces..];
            at += spaces;
            let Some(first) = rest.first() else { return Some(arguments) };
            if spaces == 0 {
                return None;
            }
            let (argument, length) = match first {
                b'"' => quoted(rest)?,
                b'{' => {
                    let literal = literals.next().filter(|literal| literal.announced == at)?;
                    let octets = self.text.get(literal.octets.clone())?;
                    (Secret::from(octets), literal.octets.end - at)
                }
                _ => atom(rest)?,
            };
            arguments.push(argument);
            at += length;
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.text.as_mut().zeroize();
    }
}

/// The string at the front of `text`, and its octets there.
fn quoted(text: &[u8]) -> Option<(Secret<Vec<u8>>, usize)> {
    // As large as it can get, so that no copy of a password is left behind by a growing vector.
    let mut string = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut octets = text.iter().enumerate().skip(1);
    while let Some((at, &octet)) = octets.next() {
        match octet {
            b'"' => return Some((Secret::new(std::mem::take(&mut *string)), at + 1)),
            b'\r' | b'\n' => return None,
            b'\\' => string.push(*octets.next().map(|(_, octet)| octet).filter(|o| !matches!(o, b'\r' | b'\n'))?),
            _ => string.push(octet),
        }
    }
    None
}

fn atom(text: &[u8]) -> Option<(Secret<Vec<u8>>, usize)> {
    let length = text.iter().position(|&b| b == b' ').unwrap_or(text.len());
    let atom = &text[..length];
    atom.iter().all(|&b| b > b' ' && b != 0x7f).then(|| (Secret::from(atom), length))
}

/// What a [`Scanner`] found.
pub(super) enum Scan {
    /// Nothing whole yet.
    More,
    /// A command.
    Command(Command),
    /// A literal is announced: to be accepted or refused before the scanner is asked again.
    Announced(Announced),
    /// A line is past its bound. It is thrown away as it comes.
    TooLong(Head),
    /// What is being thrown away announces more than may be thrown away.
    Endless,
}

/// A literal that a client wants to send.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) head: Head,
    /// The client waits for `+`.
    pub(super) synchronising: bool,
    /// It, or the command with it, would be past the bound.
    pub(super) too_large: bool,
    /// The line holds what no command may hold.
    pub(super) flaw: Option<Flaw>,
}

/// Cuts commands from the input.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Where the current line begins: 0, or behind a literal that may not have come whole.
    line: usize,
    /// Octets known to hold no line end of the current line.
    searched: usize,
    literals: Vec<Taken>,
    flaw: Option<Flaw>,
    announced: Option<(Literal, usize)>,
    refused: Option<Refused>,
}

impl Scanner {
    /// Looks for the next command, or for what has to be decided before it is whole.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Scan {
        if let Some(refused) = &mut self.refused {
            match refused.throw_away(input) {
                Thrown::More => return Scan::More,
                Thrown::All => self.refused = None,
                Thrown::Endless => return Scan::Endless,
            }
        }
        let from = self.searched.max(self.line);
        let Some(searching) = input.get(from..) else { return Scan::More };
        let found = memchr::memchr(b'\n', searching).map(|at| from + at);
        let end = found.unwrap_or(input.len());
        let line = &input[self.line..end];
        let (line, bare_lf) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        if line.len() > self.bound(input) {
            let head = Head::parse(input);
            wipe_front(input, self.line);
            *self = Self { refused: Some(Refused::default()), ..Self::default() };
            return Scan::TooLong(head);
        }
        if found.is_none() {
            self.searched = input.len();
            return Scan::More;
        }
        self.flaw = self.flaw.or(check(line, bare_lf).err());
        let length = line.len();
        match Literal::at_end_of(line) {
            Some(literal) => {
                let literal = Literal { at: self.line + literal.at, ..literal };
                let too_large = literal.size > MAX_LITERAL
                    || self.literals.len() == MAX_LITERALS
                    || end + 1 + literal.size > MAX_WHOLE;
                self.announced = Some((literal, end + 1));
                let head = Head::parse(input);
                Scan::Announced(Announced { head, synchronising: literal.synchronising, too_large, flaw: self.flaw })
            }
            None => {
                let mut text = input.split_to(end + 1);
                text.truncate(self.line + length);
                let scanned = std::mem::take(self);
                Scan::Command(Command {
                    head: Head::parse(&text),
                    flaw: scanned.flaw,
                    text,
                    literals: scanned.literals,
                })
            }
        }
    }

    /// Takes the announced literal as part of the command.
    pub(super) fn accept(&mut self) {
        if let Some((literal, start)) = self.announced.take() {
            let octets = start..start + literal.size;
            self.line = octets.end;
            self.searched = octets.end;
            self.literals.push(Taken { announced: literal.at, octets });
        }
    }

    /// Drops the command under way. The octets of a literal that comes without being asked for are thrown away, and
    /// what follows it to the end of the command.
    pub(super) fn refuse(&mut self, input: &mut BytesMut) {
        if let Some((literal, start)) = self.announced.take() {
            wipe_front(input, start);
            *self = Self::default();
            if !literal.synchronising {
                self.refused = Some(Refused { octets: literal.size, ..Refused::default() });
            }
        }
    }

    /// The most octets of the current line.
    fn bound(&self, input: &[u8]) -> usize {
        if self.line > 0 {
            MAX_COMMAND.min(MAX_WHOLE - self.line)
        } else if input.get(..MAX_COMMAND).is_some_and(|begin| Head::parse(begin).verb == Verb::Authenticate) {
            // By what has come when the smaller bound is reached, so that it is all one how much comes with it.
            MAX_SASL + BEFORE_INITIAL
        } else {
            MAX_COMMAND
        }
    }
}

/// A refused command, thrown away as it comes.
#[derive(Debug, Default)]
struct Refused {
    /// Octets of the current literal still to come.
    octets: usize,
    literals: usize,
    /// The end of the current line as far as it has come: enough to see a literal announced there.
    tail: Zeroizing<Vec<u8>>,
}

enum Thrown {
    More,
    All,
    Endless,
}

impl Refused {
    /// Octets of a line's end that hold every announcement of a literal that could be thrown away.
    const TAIL: usize = 40;

    fn throw_away(&mut self, input: &mut BytesMut) -> Thrown {
        loop {
            let now = self.octets.min(input.len());
            wipe_front(input, now);
            self.octets -= now;
            if self.octets > 0 {
                return Thrown::More;
            }
            let found = memchr::memchr(b'\n', input);
            let part = &input[..found.unwrap_or(input.len())];
            self.tail.extend_from_slice(&part[part.len().saturating_sub(Self::TAIL)..]);
            let surplus = self.tail.len().saturating_sub(Self::TAIL);
            self.tail.drain(..surplus);
            let Some(line_end) = found else {
                let all = input.len();
                wipe_front(input, all);
                return Thrown::More;
            };
            wipe_front(input, line_end + 1);
            let tail = std::mem::take(&mut self.tail);
            let line = tail.strip_suffix(b"\r").unwrap_or(&tail);
            match Literal::at_end_of(line) {
                Some(literal) if !literal.synchronising => {
                    self.literals += 1;
                    if literal.size > MAX_LITERAL || self.literals > MAX_LITERALS {
                        return Thrown::Endless;
                    }
                    self.octets = literal.size;
                }
                // The refusal has been said: it also answers a client that waits for `+`.
                Some(_) => return Thrown::All,
                None if is_endless_number(line) => return Thrown::Endless,
                None => return Thrown::All,
            }
        }
    }
}

/// Whether a cut line's end may be that of an announcement whose `{` was cut off.
fn is_endless_number(line: &[u8]) -> bool {
    let number = line.strip_suffix(b"+}");
    number.is_some_and(|digits| digits.len() + 3 >= Refused::TAIL && digits.iter().all(u8::is_ascii_digit))
}

fn wipe_front(input: &mut BytesMut, octets: usize) {
    let octets = octets.min(input.len());
    input[..octets].zeroize();
    input.advance(octets);
}

/// What an AUTHENTICATE command asks for: the mechanism, and the initial response as it was sent (RFC 4959).
pub(super) fn authenticate(arguments: &[Secret<Vec<u8>>]) -> Option<(Mechanism, Option<&[u8]>)> {
    let (mechanism, initial) = match arguments {
        [mechanism] => (mechanism, None),
        [mechanism, initial] => (mechanism, Some(initial.declassify().as_slice())),
        _ => return None,
    };
    Some((Mechanism::parse(mechanism.declassify())?, initial))
}
