//! How a door reads its bytes: settings first, then what the peer says.

/// The octets before the text: four that choose settings, four that choose where the text is cut and how it is answered.
pub const HEADER: usize = 8;

/// Stands between two segments: the peer waits here for what it is told. No protocol has it in a command.
pub const PAUSE: u8 = 0xfe;

/// An input by its parts.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What a door makes of them is its own affair.
    pub settings: [u8; 4],
    /// For the cuts, and for the answers of whoever is at the other end.
    pub seed: u32,
    /// What the peer says.
    pub text: &'a [u8],
}

impl<'a> Input<'a> {
    /// `None` for too few bytes.
    pub fn read(data: &'a [u8]) -> Option<Self> {
        let ([a, b, c, d, seed @ ..], text) = data.split_first_chunk::<HEADER>()?;
        Some(Self { settings: [*a, *b, *c, *d], seed: u32::from_le_bytes(*seed), text })
    }

    /// What is said at a time.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.text.split(|&byte| byte == PAUSE)
    }

    /// The cuts that must not make a difference.
    pub fn cuts(&self) -> [Cuts; 2] {
        [Cuts::Seeded(self.seed), Cuts::Bytes]
    }
}

/// How a segment arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuts {
    /// In one piece.
    Whole,
    /// In pieces of any size.
    Seeded(u32),
    /// Byte by byte.
    Bytes,
}

impl Cuts {
    /// The pieces of a segment, none of them empty.
    pub fn pieces(self, mut segment: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut dice = Dice::new(match self {
            Cuts::Seeded(seed) => seed,
            Cuts::Whole | Cuts::Bytes => 0,
        });
        std::iter::from_fn(move || {
            let width = match self {
                Cuts::Whole => segment.len(),
                Cuts::Bytes => 1,
                Cuts::Seeded(_) => match dice.below(8) {
                    0..4 => 1 + dice.below(3),
                    4..6 => 1 + dice.below(40),
                    6 => 1 + dice.below(700),
                    _ => 1 + dice.below(9000),
                },
            };
            let (piece, rest) = segment.split_at(width.min(segment.len()));
            segment = rest;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

/// Numbers that look random and follow from a seed alone (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }

    /// One of a list.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
