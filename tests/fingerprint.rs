//! Fingerprints and request keys: the same bytes for the same thing, for ever, and other bytes for
//! anything else.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;
use std::process::Command;

use onceflight::{Fingerprint, Fingerprinter, RequestKey};
use siphasher::sip128::{Hasher128, SipHasher24};

/// Made by vectors/reference.py, which shares no code with the library.
const VECTORS: &str = include_str!("vectors/fingerprint.txt");

const SECRET: [u8; 16] = *b"sixteen of bytes";

// ---- the format is the one that stores hold ----

#[test]
fn siphash_gives_its_authors_vectors() {
    let rows = vectors("siphash");
    assert_eq!(rows.len(), 64);
    // The first one as published, so that not even the file has to be believed.
    assert_eq!(hex("a3817f04ba25a8e66df67214c7550293"), rows[0][2]);
    for row in rows {
        let [key, message, hash] = &row[..] else { panic!("{row:?}") };
        let mut hasher = SipHasher24::new_with_key(&sixteen(key));
        hasher.write(message);
        let words = hasher.finish128();
        assert_eq!([words.h1.to_le_bytes(), words.h2.to_le_bytes()].concat(), *hash);
    }
}

#[test]
fn fields_give_the_vectors() {
    let rows = vectors("fields");
    assert!(rows.len() >= 40);
    for row in rows {
        let [secret, _frame, fingerprint, fields @ ..] = &row[..] else { panic!("{row:?}") };
        let (secret, expected) = (sixteen(secret), Fingerprint::from(sixteen(fingerprint)));
        assert_eq!(Fingerprint::keyed(&secret, fields), expected);
        if secret == *b"onceflight fixed" {
            assert_eq!(Fingerprint::of(fields), expected);
        }
    }
}

#[test]
fn requests_give_the_vectors() {
    let rows = vectors("request");
    assert!(rows.len() >= 30);
    for row in rows {
        let [secret, frame, key, method, url, body, lines @ ..] = &row[..] else {
            panic!("{row:?}")
        };
        let mut request = RequestKey::new(method, url);
        request.body(body);
        for line in lines {
            request.header_line(line).unwrap();
        }
        assert_eq!(request.to_bytes(), *frame);
        assert_eq!(request.finish_with(&sixteen(secret)), Fingerprint::from(sixteen(key)));
    }
}

// ---- no two lists of fields are one ----

#[test]
fn a_moved_boundary_is_another_fingerprint() {
    assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["a", "bc"]));
    assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["abc"]));
    assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["c", "ab"]));
}

#[test]
fn an_empty_field_is_not_no_field() {
    let distinct: HashSet<_> = (0..10).map(|count| Fingerprint::of(vec![""; count])).collect();
    assert_eq!(distinct.len(), 10);
    assert_ne!(Fingerprint::of(["a"]), Fingerprint::of(["a", ""]));
    assert_ne!(Fingerprint::of(["", "a"]), Fingerprint::of(["a", ""]));
}

#[test]
fn a_number_and_a_length_are_not_mixed_up() {
    // Every list of up to three fields made of up to two atoms, and the atoms look like the
    // frame's own numbers. Distinct hashes mean distinct frames.
    let atoms: [&[u8]; 4] = [b"\0", b"\x01", &[0; 8], &[1, 0, 0, 0, 0, 0, 0, 0]];
    let mut fields: Vec<Vec<u8>> = vec![Vec::new()];
    for first in atoms {
        fields.push(first.to_vec());
        fields.extend(atoms.map(|second| [first, second].concat()));
    }
    // A short atom beside a long one is the same bytes in either order, if both are zero.
    let fields: HashSet<Vec<u8>> = fields.into_iter().collect();

    let mut lists: Vec<Vec<&[u8]>> = vec![Vec::new()];
    let mut longest = lists.clone();
    for _ in 0..3 {
        longest = longest
            .iter()
            .flat_map(|list| fields.iter().map(move |field| [&list[..], &[field]].concat()))
            .collect();
        lists.extend_from_slice(&longest);
    }
    let distinct: HashSet<_> = lists.iter().map(Fingerprint::of).collect();
    assert!(lists.len() > 5_000);
    assert_eq!(distinct.len(), lists.len());
}

#[test]
fn every_way_to_split_a_string_is_another_fingerprint() {
    let text = b"\0\0\0\0\0\0\0\x01\0\0\0\0";
    let cuts = 1 << (text.len() - 1);
    let distinct: HashSet<_> = (0..cuts).map(|cuts| Fingerprint::of(split(text, cuts))).collect();
    assert_eq!(distinct.len(), cuts);
}

#[test]
fn the_secret_matters() {
    let fields = ["POST", "/payments"];
    let public = Fingerprint::of(fields);
    assert_eq!(public, Fingerprint::keyed(&Fingerprint::PUBLIC_KEY, fields));
    for bit in 0..128 {
        let mut secret = Fingerprint::PUBLIC_KEY;
        secret[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(public, Fingerprint::keyed(&secret, fields), "bit {bit} is not used");
    }
}

#[test]
fn streaming_gives_the_same_and_may_go_on() {
    let mut stream = Fingerprinter::keyed(&SECRET);
    assert_eq!(stream.finish(), Fingerprint::keyed(&SECRET, [b""; 0]));
    stream.field("a").field(vec![0; 1000]);
    let fork = stream.clone();
    assert_eq!(stream.finish(), stream.finish());
    stream.field("b");
    assert_eq!(fork.finish(), Fingerprint::keyed(&SECRET, [&b"a"[..], &[0; 1000]]));
    assert_eq!(stream.finish(), Fingerprint::keyed(&SECRET, [&b"a"[..], &[0; 1000], b"b"]));
    assert_eq!(Fingerprinter::default().field("a").finish(), Fingerprint::of(["a"]));
}

#[test]
fn it_prints_as_hexadecimal() {
    let fingerprint = Fingerprint::from(sixteen(&hex("000102030405060708090a0b0c0d0eff")));
    assert_eq!(fingerprint.to_string(), "000102030405060708090a0b0c0d0eff");
    assert_eq!(format!("{fingerprint:?}"), "Fingerprint(000102030405060708090a0b0c0d0eff)");
    assert_eq!(fingerprint.as_bytes()[15], 0xff);
    assert_eq!(fingerprint.as_ref(), fingerprint.as_bytes());
}

// ---- the same request ----

#[test]
fn names_have_no_case_and_values_no_blanks_around_them() {
    let plain = keyed(&["accept:text/html"]);
    assert_eq!(plain, keyed(&["Accept: text/html"]));
    assert_eq!(plain, keyed(&["ACCEPT:\t text/html \t"]));
    assert_ne!(plain, keyed(&["accept: Text/html"]));
    assert_ne!(plain, keyed(&["accept: text / html"]));
    assert_ne!(plain, keyed(&["accept: text/html\u{a0}"]));
    assert_ne!(plain, keyed(&["accept: text/html\u{c}"]));
    // Only ASCII has case here: HTTP knows no other.
    let name = |name| RequestKey::new("GET", "/").header(name, "").to_bytes();
    assert_ne!(name("É"), name("é"));
}

#[test]
fn order_counts_within_a_name_alone() {
    assert_eq!(keyed(&["a: 1", "b: 2", "a: 3"]), keyed(&["b: 2", "A: 1", "a: 3"]));
    assert_ne!(keyed(&["a: 1", "a: 3"]), keyed(&["a: 3", "a: 1"]));
    assert_ne!(keyed(&["a: 1", "a: 3"]), keyed(&["a: 1, 3"]));
    assert_ne!(keyed(&["a: 1", "a: 1"]), keyed(&["a: 1"]));
}

#[test]
fn no_body_is_an_empty_body() {
    let request = RequestKey::new("GET", "/");
    assert_eq!(request.finish(), request.clone().body("").finish());
}

#[test]
fn names_lines_and_pairs_agree() {
    let mut pairs = RequestKey::new("GET", "/");
    pairs.header("X-A", " 1 ").header("x-b", b"\xff".as_slice());
    let mut lines = RequestKey::new("GET", "/");
    lines.header_line("x-a:1").unwrap().header_line(b"X-B: \xff").unwrap();
    assert_eq!(pairs.to_bytes(), lines.to_bytes());
}

// ---- another request ----

#[test]
fn every_part_counts() {
    let base = || RequestKey::new("GET", "/a?b=c");
    let keys = [
        base().to_bytes(),
        RequestKey::new("HEAD", "/a?b=c").to_bytes(),
        RequestKey::new("get", "/a?b=c").to_bytes(),
        RequestKey::new("GET", "/a?b=d").to_bytes(),
        RequestKey::new("GET", "/A?b=c").to_bytes(),
        RequestKey::new("GET", "/%61?b=c").to_bytes(),
        RequestKey::new("GET", "/a/?b=c").to_bytes(),
        RequestKey::new("GET", "/a?b=c&").to_bytes(),
        RequestKey::new("GET", "/a?b=c#d").to_bytes(),
        RequestKey::new("GET/", "a?b=c").to_bytes(),
        base().header("a", "").to_bytes(),
        base().header("", "a").to_bytes(),
        base().header("a", "b").to_bytes(),
        base().body("a").to_bytes(),
        base().body("a: b").to_bytes(),
        base().header("a", "b").body("a: b").to_bytes(),
    ];
    let distinct: HashSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn a_name_ends_where_its_value_begins() {
    assert_ne!(keyed(&["x-a: bc"]), keyed(&["x-ab: c"]));
    assert_ne!(keyed(&["a: b", "c: d"]), keyed(&["a: bcd"]));
}

#[test]
fn a_header_is_never_taken_for_the_body() {
    let as_header = RequestKey::new("POST", "/").header("name", "value").to_bytes();
    let as_body = RequestKey::new("POST", "/").body("namevalue").to_bytes();
    let framed = [&4_u64.to_le_bytes()[..], b"name", &5_u64.to_le_bytes(), b"value"].concat();
    let as_forged_body = RequestKey::new("POST", "/").body(&framed).to_bytes();
    assert_eq!(HashSet::from([as_header, as_body, as_forged_body]).len(), 3);
}

#[test]
fn a_request_is_not_a_list_of_fields() {
    let request = RequestKey::new("GET", "/").finish_with(&SECRET);
    assert_ne!(request, Fingerprint::keyed(&SECRET, ["GET", "/", ""]));
}

#[test]
fn the_frame_is_the_same_exactly_if_the_request_is() {
    let texts = ["", "a", "A", " a", "aa"];
    let headers: Vec<(&str, &str)> =
        texts.iter().flat_map(|name| texts.map(|value| (*name, value))).collect();
    let mut lists: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    lists.extend(headers.iter().map(|header| vec![*header]));
    lists.extend(headers.iter().flat_map(|a| headers.iter().map(|b| vec![*a, *b])));

    let mut frame_of = HashMap::new();
    let mut request_of = HashMap::new();
    for (method, url, list, body) in lists.iter().flat_map(|list| {
        let parts = [("", "", ""), ("", "", "a"), ("", "a", ""), ("a", "", ""), ("a", "aa", "a")];
        parts.map(|(method, url, body)| (method, url, list, body))
    }) {
        let mut request = RequestKey::new(method, url);
        request.body(body);
        for (name, value) in list {
            request.header(*name, *value);
        }
        // What the request means, told without bytes: for every name its values in order.
        let mut meaning: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, value) in list {
            let name = name.to_ascii_lowercase();
            match meaning.iter_mut().find(|(other, _)| *other == name) {
                Some((_, values)) => values.push(value.trim()),
                None => meaning.push((name, vec![value.trim()])),
            }
        }
        meaning.sort();
        let meaning = (method, url, meaning, body);
        let frame = request.to_bytes();
        assert_eq!(*frame_of.entry(meaning.clone()).or_insert(frame.clone()), frame);
        assert_eq!(*request_of.entry(frame).or_insert(meaning.clone()), meaning);
    }
    // 4 names and 4 values that differ: 16 headers, and of two the order counts within a name.
    assert_eq!(frame_of.len(), 5 * (1 + 16 + 4 * 16 + 6 * 16));
}

#[test]
fn what_is_no_header_line_is_refused_and_adds_nothing() {
    let bad = ["", "a", ":", ": a", "a : b", " a: b", "a\tb: c", "é: a", "a: b\r\n", "a: b\n c"];
    for line in bad.into_iter().chain(["a: \0", "a\0: b", "a(b): c", ":authority: a"]) {
        let mut request = RequestKey::new("GET", "/");
        assert!(request.header_line(line).is_none(), "{line:?}");
        assert_eq!(request.to_bytes(), RequestKey::new("GET", "/").to_bytes());
    }
    for line in ["a:", "a: b: c", "a: b\tc", "!#$%&'*+-.^_`|~09azAZ: x"] {
        assert!(RequestKey::new("GET", "/").header_line(line).is_some(), "{line:?}");
    }
}

// ---- secrets ----

#[test]
fn every_process_draws_its_own_secret_once() {
    const NAME: &str = "every_process_draws_its_own_secret_once";
    const CHILD: &str = "ONCEFLIGHT_TEST_PRINT_KEY";

    let key = RequestKey::new("GET", "/").finish();
    if std::env::var_os(CHILD).is_some() {
        println!("key={key}");
        return;
    }
    assert_eq!(key, RequestKey::new("GET", "/").finish());

    let key_of_child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let at = text.find("key=").expect("the child prints its key") + 4;
        text[at..at + 32].to_owned()
    };
    let keys = HashSet::from([key.to_string(), key_of_child(), key_of_child()]);
    assert_eq!(keys.len(), 3);
}

#[test]
fn debug_tells_no_secret() {
    let mut request = RequestKey::new("GET", "/?token=hush");
    request.header("authorization", "hush").body("hush");
    let told = format!("{:?} {request:?}", Fingerprinter::keyed(b"hushhushhushhush").field("hush"));
    assert_eq!(
        told,
        "Fingerprinter { fields: 1, .. } RequestKey { method: \"GET\", headers: 1, .. }"
    );
}

// ---- helpers ----

/// The key of a request with these header lines.
fn keyed(lines: &[&str]) -> Fingerprint {
    let mut request = RequestKey::new("GET", "/");
    for line in lines {
        request.header_line(*line).unwrap();
    }
    request.finish_with(&SECRET)
}

/// `text` cut after every byte whose bit in `cuts` is set.
fn split(text: &[u8], cuts: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in 1..text.len() {
        if cuts >> (end - 1) & 1 == 1 {
            pieces.push(&text[start..end]);
            start = end;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// The rows of one kind, each word of them as bytes.
fn vectors(kind: &str) -> Vec<Vec<Vec<u8>>> {
    let rows = VECTORS.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
    rows.map(|row| row.split(' ').map(hex).collect()).collect()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits = if digits == "-" { "" } else { digits };
    assert!(digits.len().is_multiple_of(2));
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn sixteen(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().unwrap()
}
