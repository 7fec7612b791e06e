//! Whose keys they are: a caller's, at a host. The proxy writes them so, and operators find them so.

/// The caller as a principal of `onceflight::http`. A host's name has no case, and port 80 needn't be said.
/// Neither part can have a line end, so where the one ends and the other begins is certain.
pub fn principal(host: &[u8], caller: &[u8]) -> Vec<u8> {
    let host = host.to_ascii_lowercase();
    [host.strip_suffix(b":80").unwrap_or(&host), caller].join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::principal;

    #[test]
    fn names_of_one_host_are_the_same_and_of_others_arent() {
        let ada = principal(b"shop.example", b"ada");
        for same in ["Shop.Example", "shop.example:80"] {
            assert_eq!(principal(same.as_bytes(), b"ada"), ada);
        }
        for other in ["shop.example:8080", "shop.example:8", "hop.example", "", "shop.exampleada"] {
            assert_ne!(principal(other.as_bytes(), b"ada"), ada);
            assert_ne!(principal(other.as_bytes(), b""), ada);
        }
    }
}
