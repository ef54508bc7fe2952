//! A Rust file as the rules see it: its code without comments and strings, its functions, imports.

/// A Rust source file of this repository.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments, strings and characters as spaces: the same lines, of the same length.
    pub(crate) code: String,
}

/// A function with a body. Lines count from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: mask(text) }
    }

    /// Whether the file's name says that only tests are built from it.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/').rev();
        let name = parts.next().unwrap_or_default();
        matches!(name, "tests.rs" | "testing.rs")
            || name.ends_with("_tests.rs")
            || parts.any(|dir| matches!(dir, "tests" | "benches" | "examples"))
    }

    /// The code that is shipped: nothing of a test file, and of others what stands above the inline
    /// module of tests, which is the last thing in a file.
    pub(crate) fn shipped(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let tests = self.code.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
            let rest = &self.code[at + "#[cfg(test)]\n".len()..];
            rest.find(['{', ';']).is_some_and(|end| rest.as_bytes()[end] == b'{')
        });
        &self.code[..tests.map_or(self.code.len(), |(at, _)| at)]
    }

    /// The functions of [`Self::shipped`].
    pub(crate) fn functions(&self) -> Vec<Function> {
        let code = self.shipped();
        words(code)
            .filter(|(_, word)| *word == "fn")
            .filter_map(|(at, _)| function_at(code, at))
            .collect()
    }
}

/// The words of `text` (letters, digits, underscores) with their places in bytes.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// The line of `text`, from 1, in which byte `at` stands.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The top modules that `code` names after `crate::`, alone or in braces.
pub(crate) fn crate_imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        if !rest.starts_with('{') {
            found.extend(words(rest).next().map(|(_, word)| (at, word)));
            continue;
        }
        let mut depth = 0_usize;
        let mut starts = false;
        for (offset, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ if is_word(c) && depth == 1 && starts => {
                    found.extend(words(&rest[offset..]).next().map(|(_, word)| (at, word)));
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
            // A name stands at the start of the list and after each comma of it.
            starts = depth == 1 && (matches!(c, '{' | ',') || starts && c.is_whitespace());
        }
    }
    found
}

/// The function whose `fn` is at `at`; none for a pointer type or a signature without a body.
fn function_at(code: &str, at: usize) -> Option<Function> {
    let name: String = code[at + 2..].trim_start().chars().take_while(|c| is_word(*c)).collect();
    if name.is_empty() {
        return None;
    }
    let mut depth = 0_usize;
    let mut in_body = false;
    for (offset, c) in code[at..].char_indices() {
        match c {
            ';' if depth == 0 => return None,
            '{' if depth == 0 => {
                in_body = true;
                depth += 1;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if in_body && depth == 0 {
            let first_line = line_of(code, at);
            let lines = line_of(code, at + offset) - first_line + 1;
            return Some(Function { name, first_line, lines });
        }
    }
    None
}

/// Turns comments, strings and characters into spaces.
fn mask(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, 1),
            'r' | 'b' | 'c' if !is_word(before) => prefixed(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            before = c;
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[length..];
            before = ' ';
        }
    }
    code
}

/// The length of the block comment, comments within it included, that `rest` starts with.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the string whose opening quote is the last of `opening` bytes.
fn quoted(rest: &str, opening: usize) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(opening) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a string or byte literal with a prefix (`b"`, `r#"`, `b'`); 0 if there is none.
fn prefixed(rest: &str) -> usize {
    let prefix = rest.bytes().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = rest[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let raw = rest[..prefix].contains('r');
    match rest.as_bytes().get(prefix + hashes) {
        Some(b'"') if raw => {
            let open = prefix + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
        }
        Some(b'"') if hashes == 0 && prefix == 1 => quoted(rest, 2),
        Some(b'\'') if hashes == 0 && prefix == 1 => match character(&rest[1..]) {
            0 => 0,
            length => length + 1,
        },
        _ => 0,
    }
}

/// The length of the character literal that `rest` starts with; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        // An escape may be of any length, but holds no quote besides an escaped one.
        Some((_, '\\')) => {
            let from = 3;
            rest.get(from..).and_then(|tail| tail.find('\'')).map_or(0, |at| from + at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}
