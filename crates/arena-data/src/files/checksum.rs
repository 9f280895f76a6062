//! CRC-64 with the polynomial of ECMA-182, reflected, as Go's `crc64.ECMA` computes it.

/// A running checksum.
pub(super) struct Crc64(u64);

impl Default for Crc64 {
    fn default() -> Self {
        Self(!0)
    }
}

impl Crc64 {
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        let mut value = 0_u64;
        while index < 256 {
            let mut crc = value;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    (crc >> 1) ^ 0xc96c_5795_d787_0f42
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
            value += 1;
        }
        table
    };

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let [low, ..] = self.0.to_le_bytes();
            self.0 = Self::TABLE[usize::from(low ^ byte)] ^ (self.0 >> 8);
        }
    }

    /// As archives hold it.
    pub(super) fn value(&self) -> i64 {
        (!self.0).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        let mut crc = Crc64::default();
        crc.update(b"123456789");
        assert_eq!(crc.value().cast_unsigned(), 0x995d_c9bb_df19_39fa);
    }
}
