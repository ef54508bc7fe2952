//! Sizes: a whole number and its unit, 1024-based, as in `64KiB`.
//!
//! Stricter than the usual crates on purpose: they take `64K` for 64,000 bytes, and a size that is
//! read otherwise than it was meant is found in production.

use std::fmt;

/// A number of bytes that is shown as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

/// From the largest, so that the first that divides a size shows it best.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// Reads `512B`, `64KiB`, `1MiB` or `2GiB`; a space before the unit is allowed. The error says
    /// what is wrong, beginning with the quoted text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let no_size = || format!("{text:?} is not a size such as \"64KiB\" or \"1MiB\"");
        if number.is_empty() {
            return Err(no_size());
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(match meant(unit) {
                Some(meant) => format!("{text:?} has no binary unit; write \"{number}{meant}\""),
                None if unit.is_empty() => {
                    format!("{text:?} has no unit; write \"{number}KiB\" or \"{number}B\"")
                }
                None => no_size(),
            });
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
        bytes.map(Self).ok_or_else(no_size)
    }
}

/// The unit that `64K`, `64kb` or `64KB` stands for here.
fn meant(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "b" => Some("B"),
        "k" | "kb" | "ki" | "kib" => Some("KiB"),
        "m" | "mb" | "mi" | "mib" => Some("MiB"),
        "g" | "gb" | "gi" | "gib" => Some("GiB"),
        _ => None,
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_in_their_largest_whole_unit() {
        for (text, bytes, shown) in [
            ("512B", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            ("1024 KiB", 1 << 20, "1MiB"),
            ("1025B", 1025, "1025B"),
            ("2GiB", 2 << 30, "2GiB"),
            ("0B", 0, "0B"),
        ] {
            let size = Size::parse(text).expect("a size");
            assert_eq!((size, size.to_string().as_str()), (Size(bytes), shown));
        }
    }

    #[test]
    fn sizes_without_a_binary_unit_are_refused_with_one() {
        for (text, message) in [
            ("64", "\"64\" has no unit; write \"64KiB\" or \"64B\""),
            ("64K", "\"64K\" has no binary unit; write \"64KiB\""),
            ("1mb", "\"1mb\" has no binary unit; write \"1MiB\""),
            ("KiB", "\"KiB\" is not a size such as \"64KiB\" or \"1MiB\""),
            ("-1B", "\"-1B\" is not a size such as \"64KiB\" or \"1MiB\""),
            ("1.5MiB", "\"1.5MiB\" is not a size such as \"64KiB\" or \"1MiB\""),
            ("", "\"\" is not a size such as \"64KiB\" or \"1MiB\""),
            (
                "99999999999999999999B",
                "\"99999999999999999999B\" is not a size such as \"64KiB\" or \"1MiB\"",
            ),
            ("17179869184GiB", "\"17179869184GiB\" is not a size such as \"64KiB\" or \"1MiB\""),
        ] {
            assert_eq!(Size::parse(text), Err(message.to_owned()), "{text}");
        }
    }
}
