//! The target of a request: which form it has, where its parts are, and what a host may be.

use super::head::Method;
use super::refusal::Refusal;
use super::syntax::decimal;

/// Where the parts of a target are. Places count from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Of an absolute target.
    pub(super) authority: Option<(usize, usize)>,
    /// Start of path and query: what goes on in origin-form. Equals the length if there is none.
    pub(super) path: usize,
    /// End of the path, where the query starts.
    pub(super) query: usize,
}

impl Target {
    /// Cuts `target`, which holds no space and no control but tab. UTF-8 passes, as it does in
    /// nginx, Node and hyper: browsers percent-encode it, scripts do not. Other bytes do not, since
    /// hyper refuses them.
    pub(super) fn cut(target: &[u8], method: Method) -> Result<Self, Refusal> {
        match memchr::memchr2(b'\t', b'#', target) {
            Some(at) if target[at] == b'#' => return Err(Refusal::TargetFragment),
            Some(_) => return Err(Refusal::TargetInvalid),
            None if std::str::from_utf8(target).is_err() => return Err(Refusal::TargetInvalid),
            None => {}
        }
        match target {
            [b'/', ..] => Ok(Self { authority: None, path: 0, query: query_of(target, 0) }),
            b"*" if method == Method::Options => Ok(Self { authority: None, path: 0, query: 1 }),
            _ => Self::cut_absolute(target),
        }
    }

    fn cut_absolute(target: &[u8]) -> Result<Self, Refusal> {
        let Some(scheme) = target.windows(3).position(|three| three == b"://") else {
            return Err(Refusal::TargetForm);
        };
        let name = &target[..scheme];
        if !name.eq_ignore_ascii_case(b"http") && !name.eq_ignore_ascii_case(b"https") {
            return Err(Refusal::TargetAuthority);
        }
        let start = scheme + 3;
        let length = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?'));
        let end = length.map_or(target.len(), |length| start + length);
        if start == end || !is_host(&target[start..end]) {
            return Err(Refusal::TargetAuthority);
        }
        Ok(Self { authority: Some((start, end)), path: end, query: query_of(target, end) })
    }
}

fn query_of(target: &[u8], from: usize) -> usize {
    memchr::memchr(b'?', &target[from..]).map_or(target.len(), |offset| from + offset)
}

/// Whether `host` is `name[:port]` (RFC 9112 §3.2). It may be empty, as a target without authority
/// demands. A comma, which the grammar allows, is refused: it is how two Host fields look once
/// somebody has joined them.
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some(close) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let inside = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if close == 0 || !rest[..close].iter().all(inside) {
                return false;
            }
            (&[][..], &rest[close + 1..])
        }
        _ => host.split_at(memchr::memchr(b':', host).unwrap_or(host.len())),
    };
    let is_port = match port {
        [] | b":" => true,
        [b':', digits @ ..] => decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
        _ => false,
    };
    is_port && name.iter().all(|byte| is_name_byte(*byte))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'')
        || matches!(byte, b'(' | b')' | b'*' | b'+' | b';' | b'=')
}
