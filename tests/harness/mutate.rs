//! The mutator: small changes to known inputs, words of the format, and pieces of one input inside another.

/// Makes inputs from a corpus, the same ones for the same seed.
#[derive(Debug)]
pub struct Mutator<'a> {
    state: u64,
    corpus: Vec<Vec<u8>>,
    dictionary: &'a [&'a str],
}

impl<'a> Mutator<'a> {
    /// Mutations of `corpus`, with words of `dictionary` in them.
    #[must_use]
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>, dictionary: &'a [&'a str]) -> Self {
        Self { state: seed, corpus, dictionary }
    }

    /// The next input: a corpus entry after one to eight changes.
    pub fn mutate(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        let mut input = self.corpus[at].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(9) {
            0 => self.replace(input, at),
            1 => input.insert(at, self.byte()),
            2 => {
                let length = self.below(16) + 1;
                input.drain(at..(at + length).min(input.len()));
            }
            3 => {
                let end = (at + self.below(64)).min(input.len());
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 | 5 => {
                let word = self.word();
                input.splice(at..at, word);
            }
            6 => self.splice(input, at),
            7 => {
                let (byte, count) = (self.byte(), self.below(200));
                input.splice(at..at, vec![byte; count]);
            }
            _ => input.truncate(at),
        }
    }

    fn replace(&mut self, input: &mut [u8], at: usize) {
        let byte = self.byte();
        if let Some(place) = input.get_mut(at) {
            *place = byte;
        }
    }

    /// A piece of another corpus entry.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.below(self.corpus.len());
        let (start, length) = (self.below(self.corpus[other].len() + 1), self.below(200));
        let end = (start + length).min(self.corpus[other].len());
        let piece = self.corpus[other][start..end].to_vec();
        input.splice(at..at, piece);
    }

    fn word(&mut self) -> Vec<u8> {
        if self.dictionary.is_empty() {
            return vec![self.byte()];
        }
        let at = self.below(self.dictionary.len());
        self.dictionary[at].as_bytes().to_vec()
    }

    /// Often a byte with a meaning somewhere, sometimes any.
    fn byte(&mut self) -> u8 {
        const SPECIAL: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"'{}[]():,.;-+*&!%/\\?#=|<>0159aAzZ_~";
        let random = self.random();
        if random & 3 == 0 {
            random.to_le_bytes()[1]
        } else {
            SPECIAL[usize::from(random.to_le_bytes()[2]) % SPECIAL.len()]
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.random() % bound).unwrap_or(0)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A name for an input (FNV-1a).
#[must_use]
pub fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::Mutator;

    #[test]
    fn one_seed_makes_one_stream() {
        let corpus = vec![b"abc".to_vec(), Vec::new()];
        let stream = |seed| {
            let mut mutator = Mutator::new(seed, corpus.clone(), &["word"]);
            (0..1000).map(|_| mutator.mutate()).collect::<Vec<_>>()
        };
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
    }
}
