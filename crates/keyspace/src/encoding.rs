//! Keys are tuples; their encoding keeps the order of the tuples.
//!
//! | part | bytes |
//! |---|---|
//! | unsigned integer | big-endian, fixed width |
//! | string, bytes | the bytes with `00` written as `00 ff`, then the terminator `00 01` |
//! | stamp | 10 bytes, big-endian |
//!
//! The terminator sorts below every continuation, so `("a", ...) < ("ab", ...)`, and no encoded string is a prefix of
//! another one: a prefix of parts is a prefix of bytes and of nothing else.

use crate::Stamp;
use bytes::Bytes;

/// A stored key does not have the shape its table declares.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored key is damaged: {0}")]
pub struct Corrupt(pub &'static str);

/// One component of a key.
pub trait KeyPart: Sized {
    /// Appends the encoding of `self`.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads one part.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not an encoding of this part.
    fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt>;
}

/// The bytes of a key not read yet.
#[derive(Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// Reads `bytes` from the start.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all bytes are read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Corrupt("too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn take_escaped(&mut self) -> Result<Vec<u8>, Corrupt> {
        let mut out = Vec::new();
        loop {
            let [byte] = self.take::<1>()?;
            if byte != 0 {
                out.push(byte);
                continue;
            }
            match self.take::<1>()? {
                [0xff] => out.push(0),
                [0x01] => return Ok(out),
                _ => return Err(Corrupt("bad escape")),
            }
        }
    }
}

macro_rules! integer_parts {
    ($($integer:ty),*) => {$(
        impl KeyPart for $integer {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
                Ok(Self::from_be_bytes(reader.take()?))
            }
        }
    )*};
}
integer_parts!(u8, u16, u32, u64);

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

impl KeyPart for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_escaped(self.as_bytes(), out);
    }
    fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        Self::from_utf8(reader.take_escaped()?).map_err(|_| Corrupt("not UTF-8"))
    }
}

impl KeyPart for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        write_escaped(self, out);
    }
    fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        Ok(reader.take_escaped()?.into())
    }
}

impl KeyPart for Stamp {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
    fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        Ok(Self::from_bytes(reader.take()?))
    }
}

/// The parts of a key (or its first few: a prefix).
pub trait KeyTuple: Sized {
    /// Appends the encoding of all parts.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads all parts.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not an encoding of this tuple.
    fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt>;
}

macro_rules! tuples {
    ($(($($part:ident $index:tt),*))*) => {$(
        impl<$($part: KeyPart),*> KeyTuple for ($($part,)*) {
            fn write(&self, out: &mut Vec<u8>) {
                $(self.$index.write(out);)*
                let _ = out;
            }
            fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
                let _ = &reader;
                Ok(($($part::read(reader)?,)*))
            }
        }
    )*};
}
tuples! { () (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) (A 0, B 1, C 2, D 3, E 4) }
