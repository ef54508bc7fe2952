//! The characters that each part of a head may hold, and how lists are cut (RFC 9110 §5.6).

use std::time::Duration;

/// Whether `byte` may stand in a token: a method or a field name.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What a byte is in a token: the two are asked for in one look at every byte of every field name.
pub(super) static TOKEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if is_token_byte(byte as u8) {
            table[byte] = if byte as u8 == b'_' { IN_TOKEN | UNDERSCORE } else { IN_TOKEN };
        }
        byte += 1;
    }
    table
};

/// In [`TOKEN`]: may stand in a token.
pub(super) const IN_TOKEN: u8 = 1;
/// In [`TOKEN`]: is `_`.
pub(super) const UNDERSCORE: u8 = 2;

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)] != 0)
}

/// Whether `byte` is a control, tab excepted, or DEL: no part of a head may hold it.
pub(super) fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

/// The place of the first control in `bytes` at or after `from`; see [`is_control`].
///
/// Every byte of every head passes here: eight are looked at in one step.
pub(super) fn find_control(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(eight) = bytes[at..].first_chunk::<8>() {
        match first_suspect(u64::from_le_bytes(*eight)) {
            None => at += 8,
            Some(offset) if bytes[at + offset] == b'\t' => at += offset + 1,
            Some(offset) => return Some(at + offset),
        }
    }
    bytes[at..].iter().position(|byte| is_control(*byte)).map(|offset| at + offset)
}

/// The first byte of `word`, lowest first, that is below a space or is DEL.
///
/// Subtracting borrows into a byte's high bit where the byte is smaller; the borrow spoils bytes
/// above that one, never below, so the lowest hit is exact.
fn first_suspect(word: u64) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let not_delete = word ^ (ONES * 0x7f);
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let is_delete = not_delete.wrapping_sub(ONES) & !not_delete;
    let found = (below_space | is_delete) & HIGHS;
    (found != 0).then_some((found.trailing_zeros() / 8) as usize)
}

/// `bytes` without the spaces and tabs around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma-separated list, trimmed, empty ones left out.
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// The number that `digits` writes in decimal: digits only, at most 2^63 − 1, which every reader's
/// integer holds.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number <= i64::MAX as u64).then_some(number)
}

/// Appends `duration` in milliseconds, with one decimal place. Not by way of a float: formatting
/// two of them took a twentieth of all that is done for a request.
pub(super) fn push_milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let tenths = (duration.as_micros() + 50) / 100;
    let tenths = u64::try_from(tenths).unwrap_or(u64::MAX);
    push_decimal(out, tenths / 10);
    out.extend_from_slice(&[b'.', b'0' + (tenths % 10) as u8]);
}

/// Appends `number` in decimal.
pub(super) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
