//! Bytes that are nearly requests, made from a seed: the same for the same seed, always.

/// One of several, mostly the first.
type Pieces = &'static [&'static str];

const METHODS: Pieces =
    &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "TRACE", "G\0T", "FOO"];
const TARGETS: Pieces = &[
    "/",
    "/a?b=c",
    "/%41/../b",
    "//b//",
    "http://a/x",
    "http://a",
    "http://a?q",
    "HTTP://A/",
    "*",
    "/a;b",
    "/\"<>{}|^`\\",
    "/\u{e4}",
    "/a b",
    "/a\tb",
    "/#f",
    "a",
    "?q",
    "http://b/",
    "/%0d%0aX:y",
];
const VERSIONS: Pieces = &[
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "http/1.1",
    "HTTP/1.1 ",
    "HTTP/0.9",
    "HTTP/11",
    "HTTP/2.0",
];
const HOSTS: Pieces = &[
    "Host: a",
    "host:a",
    "HOST:  a  ",
    "Host: a:80",
    "Host:",
    "Host: a\r\nHost: a",
    "X: y",
    "Host : a",
    "Host: a, b",
];
/// Stands where none of the others does.
const HONEST: &str = "X-B: c";
const FIELDS: Pieces = &[
    "X-A: b",
    "x-a:c",
    "X-A:",
    "X-A: \u{e4}\u{fc}",
    "X-A: a\tb",
    "X_A: b",
    "X-A: 1\r\n 2",
    "X-A: 1\n2",
    "X-A: 1\r2",
    "X-A: \0",
    "X-A : b",
    "X-A",
    ": b",
    "Connection: close",
    "Connection: keep-alive, X-A",
    "Connection: content-length",
    "Connection: Transfer-Encoding",
    "Keep-Alive: 5",
    "TE: trailers",
    "Trailer: X-T",
    "Expect: 100-continue",
    "Expect: more",
    "Upgrade: websocket",
    "Cookie: a=b\r\nCookie: c=d",
    "X-Forwarded-For: 1.2.3.4",
    "X_Forwarded_For: 1.2.3.4",
    "Content_Length: 3",
    "Forwarded: for=1.2.3.4",
    "Via: 1.1 a",
    "X-A: b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a",
];
/// Fields that may stand where a body of five bytes follows.
const LENGTHS: Pieces = &[
    "Content-Length: 5",
    "content-length:5",
    "CONTENT-LENGTH:\t5\t",
    "Content-Length: 05",
    "Content-Length: 4",
    "Content-Length: 6",
    "Content-Length: 0",
    "Content-Length: 50",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: 5, 5",
    "Content-Length: 5 5",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 0x5",
    "Content-Length:",
    "Content-Length: 5;",
    "Content-Length: 5.0",
    "Content-Length : 5",
    "Content-Length: 18446744073709551621",
    "Content-Length: \u{b}5",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
];
/// The same where chunks follow.
const CODINGS: Pieces = &[
    "Transfer-Encoding: chunked",
    "transfer-encoding:chunked",
    "Transfer-Encoding:\tCHUNKED ",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding:",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "X: y\nTransfer-Encoding: chunked",
];
const CHUNKS: Pieces = &[
    "5\r\nhello\r\n",
    "005\r\nhello\r\n",
    "a\r\n0123456789\r\n",
    "A\r\n0123456789\r\n",
    "5;a=b\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "5;a=\"b\r\n\"\r\nhello\r\n",
    "5;\nhello\r\n",
    "5\nhello\r\n",
    "5\r\nhello\n",
    "5\r\nhello",
    "4\r\nhello\r\n",
    "6\r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    " 5\r\nhello\r\n",
    "\r\nhello\r\n",
    "5\rhello\r\n",
    "-1\r\n",
    "5_0\r\nhello\r\n",
    "10000000000000005\r\nhello\r\n",
    "5;\0\r\nhello\r\n",
    "5\t;a\r\nhello\r\n",
];
const LAST_CHUNKS: Pieces = &[
    "0\r\n\r\n",
    "000\r\n\r\n",
    "0;a\r\n\r\n",
    "0\r\nX-T: 1\r\n\r\n",
    "0\r\nContent-Length: 9\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\n\n",
    "0\r\n\n",
    "0\n\r\n",
    "\r\n",
    "0\r\nX\r\n\r\n",
    "0\r\nX-T : 1\r\n\r\n",
    "0 \r\n\r\n",
    "0\r\r\n\r\n",
    "",
];
const LINE_ENDS: Pieces = &["\r\n", "\n", "\r", "\r\r\n", " \r\n", "\r\n\r\n", "\n\r\n"];
/// Bytes that parsers have disagreed on.
const ODD: &[u8] = b"\r\n\0\t :;,\x0b\x0c\x7f\x80\xff\"0aZ_-+/?#%";

/// The bytes of a seed: one to three requests, bent.
pub(crate) fn input(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        bytes.extend(request(&mut random));
    }
    if random.below(3) == 0 {
        for _ in 0..=random.below(2) {
            bend(&mut bytes, &mut random);
        }
    }
    bytes
}

fn request(random: &mut Random) -> Vec<u8> {
    let start = [METHODS, TARGETS, VERSIONS].map(|pieces| random.pick(pieces));
    let mut lines = vec![start.join(" "), random.pick(HOSTS).to_owned()];
    for _ in 0..random.below(3) {
        lines.push(if random.below(4) == 0 { random.any(FIELDS) } else { HONEST }.to_owned());
    }
    let body = match random.below(4) {
        0 => String::new(),
        1 => {
            lines.push(random.pick(LENGTHS).to_owned());
            "hello".to_owned()
        }
        _ => {
            lines.push(random.pick(CODINGS).to_owned());
            let chunks: String = (0..random.below(3)).map(|_| random.pick(CHUNKS)).collect();
            chunks + random.pick(LAST_CHUNKS)
        }
    };
    // Where the framing stands among the fields must not matter.
    let at = 1 + random.below(lines.len() - 1);
    lines[1..].rotate_left(at - 1);
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push_str(if random.below(100) == 0 { random.any(LINE_ENDS) } else { "\r\n" });
    }
    latin1(&(text + "\r\n" + &body))
}

/// Each character below 256 as one byte, so that bytes that are no UTF-8 can be written here.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(it).expect("the pieces are Latin-1")).collect()
}

/// One small change anywhere.
fn bend(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let odd = ODD[random.below(ODD.len())];
    match random.below(5) {
        0 => bytes[at] = odd,
        1 => bytes.insert(at, odd),
        2 => drop(bytes.remove(at)),
        3 => bytes[at] ^= 1 << random.below(8),
        _ => {
            let until = bytes.len().min(at + 1 + random.below(20));
            let part = bytes[at..until].to_vec();
            drop(bytes.splice(at..at, part));
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): every seed gives a sequence of its own.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a usize is a u64");
        usize::try_from(self.next() % bound).expect("it is below a usize")
    }

    fn any(&mut self, pieces: Pieces) -> &'static str {
        pieces[self.below(pieces.len())]
    }

    /// Mostly one of the first two, which are honest: most parts of most inputs should be.
    fn pick(&mut self, pieces: Pieces) -> &'static str {
        if self.below(12) == 0 { self.any(pieces) } else { pieces[self.below(2)] }
    }
}
