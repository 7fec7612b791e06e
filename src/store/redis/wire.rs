//! What goes over a connection with every lead, without the crate's detours: commands whose words are there, which it
//! would copy twice, and replies that are a number, for which its parser clears 8 KiB. Anything else is the crate's.

/// A command, as it is sent.
pub(super) fn pack<'a>(words: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let (count, bytes) =
        words.clone().fold((0, 0), |(count, bytes), word| (count + 1, bytes + word.len()));
    // A length, its marks and the ends of lines: seldom more.
    let mut packed = Vec::with_capacity(bytes + (count + 1) * 10);
    push_head(&mut packed, b'*', count);
    for word in words {
        push_head(&mut packed, b'$', word.len());
        packed.extend_from_slice(word);
        packed.extend_from_slice(b"\r\n");
    }
    packed
}

fn push_head(packed: &mut Vec<u8>, mark: u8, mut number: usize) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b"0123456789"[number % 10];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    packed.push(mark);
    packed.extend_from_slice(&digits[first..]);
    packed.extend_from_slice(b"\r\n");
}

/// The number that a reply is, if it is one and all of it is there.
pub(super) fn number(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_packed_as_the_crate_packs_it() {
        let long = [b'x'; 12_345];
        for words in [&[&b"PING"[..]][..], &[b"SET", b"", b"\r\n\0\xff", b"123456789 ", &long]] {
            let mut command = redis::Cmd::new();
            command.arg(words);
            assert_eq!(pack(words.iter().copied()), command.get_packed_command());
        }
    }

    #[test]
    fn a_number_is_one_whole_line() {
        assert_eq!(number(b":0\r\n"), Some(0));
        assert_eq!(number(b":-9223372036854775808\r\n"), Some(i64::MIN));
        let others = [
            "",
            ":",
            ":1",
            ":1\r",
            ":\r\n",
            "1\r\n",
            "+1\r\n",
            ":1\r\n:2\r\n",
            ":1 \r\n",
            ":9223372036854775808\r\n",
        ];
        for other in others {
            assert_eq!(number(other.as_bytes()), None, "{other:?}");
        }
    }
}
