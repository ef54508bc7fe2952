//! What came back on a connection, and whether two backends read a request alike.

use serde::Deserialize;

/// Fields that tell nothing: one is drawn at random, one is ours and long.
const LEFT_OUT: &[&str] = &["x-request-id", "x-pad"];

/// The methods of both RFC 9110 and Node, whose parser takes no other by name alone.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// One final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A worker's.
    Understood { number: u64, request: Request },
    /// Our own with its reason code, or the refusal of a worker, which has none.
    Refused { status: u16, code: Option<String> },
}

/// A request as a worker read it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Request {
    method: String,
    target: String,
    /// With names in lower case, sorted.
    fields: Vec<(String, String)>,
    body: String,
}

#[derive(Deserialize)]
struct Told {
    number: u64,
    #[serde(flatten)]
    request: Request,
}

/// Takes all that a connection gave apart. Interim answers are left out.
///
/// No line within an answer begins as a status line does: workers escape what they tell.
pub(crate) fn read(bytes: &[u8]) -> Vec<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let mut answers: Vec<Answer> = Vec::new();
    let mut is_interim = true;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            let status = rest.get(..3).and_then(|it| it.parse().ok());
            let status = status.unwrap_or_else(|| panic!("status line {line:?} in {text}"));
            is_interim = status < 200;
            if !is_interim {
                answers.push(Answer::Refused { status, code: None });
            }
            continue;
        }
        let Some(last) = answers.last_mut().filter(|_| !is_interim) else {
            continue;
        };
        if let Some(json) = line.strip_prefix("understood: ") {
            *last = understood(json);
        } else if let (Answer::Refused { code, .. }, Some(told)) = (last, code(line)) {
            *code = Some(told.to_owned());
        }
    }
    answers
}

/// Whether both are the same, but for the numbers and what only one of them knows.
pub(crate) fn are_alike(node: &[Answer], rust: &[Answer]) -> bool {
    let pairs = || node.iter().zip(rust);
    // A worker's refusal may end the connection: to HTTP/1.0 it has no other end.
    let may_end = pairs().any(|(node, rust)| is_explained(node, rust));
    (node.len() == rust.len() || may_end)
        && pairs().all(|(node, rust)| is_explained(node, rust) || is_same(node, rust))
}

fn is_same(node: &Answer, rust: &Answer) -> bool {
    match (node, rust) {
        (Answer::Understood { request, .. }, Answer::Understood { request: other, .. }) => {
            request == other
        }
        // Without a code it is the workers who refuse: we forwarded what is no request.
        (Answer::Refused { code, .. }, _) | (_, Answer::Refused { code, .. }) => {
            code.is_some() && node == rust
        }
    }
}

/// Whether one worker took what the other refused for a reason of its own.
fn is_explained(node: &Answer, rust: &Answer) -> bool {
    const REFUSED: &Answer = &Answer::Refused { status: 400, code: None };
    match (node, rust) {
        (_, Answer::Understood { request, .. }) if node == REFUSED => {
            !METHODS.contains(&request.method.as_str())
        }
        (Answer::Understood { request, .. }, _) if rust == REFUSED => {
            !request.target.bytes().all(is_of_uri)
        }
        (Answer::Understood { .. } | Answer::Refused { .. }, _) => false,
    }
}

/// Whether RFC 3986 has it; hyper refuses targets with some of the others.
fn is_of_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

fn understood(json: &str) -> Answer {
    let told: Told = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let Told { number, mut request } = told;
    request.fields.retain(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    request.fields.sort();
    Answer::Understood { number, request }
}

/// The reason code in our `Proxy-Status`, which answers to HEAD have as well.
fn code(line: &str) -> Option<&str> {
    line.split_once("; details=\"")?.1.strip_suffix('"')
}
