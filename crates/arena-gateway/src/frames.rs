//! Follows the frames of a WebSocket's one direction without keeping them, to
//! know where a frame of our own (a ping, a close) may go in between.

/// A ping without content, as a server sends it.
pub(crate) const PING: [u8; 2] = [0x89, 0x00];
/// A close that says "going away", as a server sends it.
pub(crate) const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xE9];

const HEAD_MAX: usize = 14;

/// Where in a stream of frames we are.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; HEAD_MAX],
    have: usize,
    payload_left: u64,
}

impl Frames {
    /// Takes note of bytes that pass.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let here = u64::try_from(bytes.len())
                    .unwrap_or(u64::MAX)
                    .min(self.payload_left);
                self.payload_left -= here;
                bytes = &bytes[usize::try_from(here).unwrap_or(bytes.len())..];
                continue;
            }
            self.head[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.head_length() {
                self.payload_left = self.payload_length();
                self.have = 0;
            }
        }
    }

    /// Returns whether a frame ended here, so that another may begin.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.payload_left == 0
    }

    fn head_length(&self) -> usize {
        let extended = match self.head[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let big_endian = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        match self.head[1] & 0x7F {
            126 => big_endian(&self.head[2..4]),
            127 => big_endian(&self.head[2..10]),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(7, length + if masked { 4 } else { 0 }));
        bytes
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            for masked in [false, true] {
                let bytes = frame(length, masked);
                for piece in [1, 3, bytes.len()] {
                    let mut frames = Frames::default();
                    let ends: Vec<bool> = bytes
                        .chunks(piece)
                        .map(|chunk| {
                            frames.pass(chunk);
                            frames.is_between()
                        })
                        .collect();
                    let between = ends.iter().filter(|end| **end).count();
                    assert_eq!(
                        (between, ends.last()),
                        (1, Some(&true)),
                        "{length} {masked} {piece}"
                    );
                }
            }
        }
    }
}
