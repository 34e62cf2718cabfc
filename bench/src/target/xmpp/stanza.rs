//! What an XMPP server sends, cut into elements. Only what RFC 6120 lets a server send is taken:
//! elements with attributes and text, no comments, no sections, no declarations but the first.

/// The longest element that is waited for.
const ELEMENT_MAX_BYTES: usize = 1 << 18;

/// A part of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// It begins, or begins anew.
    Begin,
    /// An element with all that is in it.
    Element(&'a [u8]),
    /// It ends.
    End,
}

/// It is nothing that an XMPP server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotXmpp;

/// Cuts the next part off. None: it is not whole yet.
pub(super) fn cut<'a>(rest: &mut &'a [u8]) -> Result<Option<Piece<'a>>, NotXmpp> {
    loop {
        *rest = rest.trim_ascii_start();
        match rest.first() {
            None => return Ok(None),
            Some(b'<') => {}
            Some(_) => return Err(NotXmpp),
        }
        let Some(end) = whole(rest)? else {
            return if rest.len() > ELEMENT_MAX_BYTES { Err(NotXmpp) } else { Ok(None) };
        };
        let (piece, after) = rest.split_at(end);
        *rest = after;
        return Ok(Some(match piece {
            [b'<', b'?', ..] => continue,
            [b'<', b'/', ..] => Piece::End,
            of if is_stream(of) => Piece::Begin,
            of => Piece::Element(of),
        }));
    }
}

/// Where the first part ends, if it is whole.
fn whole(bytes: &[u8]) -> Result<Option<usize>, NotXmpp> {
    let (mut at, mut depth) = (0, 0_u32);
    loop {
        let Some(opens) = bytes[at..].iter().position(|byte| *byte == b'<') else {
            return Ok(None);
        };
        let start = at + opens;
        let Some(end) = tag_end(&bytes[start..]) else { return Ok(None) };
        let tag = &bytes[start..start + end];
        at = start + end;
        match tag {
            [b'<', b'!', ..] => return Err(NotXmpp),
            [b'<', b'?', ..] if depth > 0 => return Err(NotXmpp),
            [b'<', b'?', ..] => return Ok(Some(at)),
            [b'<', b'/', ..] => depth = depth.saturating_sub(1),
            [.., b'/', b'>'] => {}
            of if depth == 0 && is_stream(of) => return Ok(Some(at)),
            _ => depth += 1,
        }
        if depth == 0 {
            return Ok(Some(at));
        }
    }
}

/// The length of the tag that these begin with; a bracket between quotes does not end it.
fn tag_end(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            (None | Some(_), _) => {}
        }
    }
    None
}

fn is_stream(tag: &[u8]) -> bool {
    tag.strip_prefix(b"<stream:stream").is_some_and(|rest| !rest.starts_with(b":"))
}

/// The name of an element.
pub(super) fn name(element: &[u8]) -> &[u8] {
    let inner = element.get(1..).unwrap_or_default();
    let end = inner.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'/' | b'>'));
    &inner[..end.unwrap_or(inner.len())]
}

/// An attribute of an element, as it stands there.
pub(super) fn attribute<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let tag = &element[..tag_end(element)?];
    let mut rest = tag.get(1 + name(element).len()..)?;
    loop {
        rest = rest.trim_ascii_start();
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (rest[..equals].trim_ascii(), rest[equals + 1..].trim_ascii_start());
        let (quote, value) = value.split_first()?;
        let end = value.iter().position(|byte| byte == quote)?;
        if key == wanted {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
}

/// The text of the first element of this name in an element.
pub(super) fn text<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut at = 0;
    loop {
        at += element[at..].iter().position(|byte| *byte == b'<')?;
        let inner = &element[at..];
        let end = tag_end(inner)?;
        if name(inner) == wanted && !inner[..end].ends_with(b"/>") {
            let text = &inner[end..];
            return Some(&text[..text.iter().position(|byte| *byte == b'<')?]);
        }
        at += end;
    }
}

/// Whether these bytes stand somewhere in an element.
pub(super) fn holds(element: &[u8], wanted: &[u8]) -> bool {
    element.windows(wanted.len()).any(|bytes| bytes == wanted)
}

/// For a complaint: the beginning of an element.
pub(super) fn excerpt(element: &[u8]) -> String {
    String::from_utf8_lossy(&element[..element.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &[u8] = b"<?xml version='1.0'?><stream:stream id='7' from='a>b'>\n\
        <stream:features><mechanisms xmlns='x'><mechanism>PLAIN</mechanism></mechanisms><bind/>\
        </stream:features><a h='3'/><message from='u@h/r' type=\"chat\"><body>a &lt; b</body>\
        </message></stream:stream>";

    fn pieces(mut bytes: &[u8]) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        while let Some(piece) = cut(&mut bytes).unwrap() {
            pieces.push(piece);
        }
        assert!(bytes.is_empty(), "all is used");
        pieces
    }

    #[test]
    fn a_stream_is_cut_into_its_elements() {
        let [
            Piece::Begin,
            Piece::Element(features),
            Piece::Element(a),
            Piece::Element(message),
            last,
        ] = pieces(STREAM)[..]
        else {
            panic!("five pieces")
        };
        assert_eq!(
            (name(features), name(a), last),
            (&b"stream:features"[..], &b"a"[..], Piece::End)
        );
        assert_eq!(text(features, b"mechanism"), Some(&b"PLAIN"[..]));
        assert_eq!(attribute(a, b"h"), Some(&b"3"[..]));
        assert_eq!(attribute(message, b"type"), Some(&b"chat"[..]));
        assert_eq!(attribute(message, b"typ"), None);
        assert_eq!(text(message, b"body"), Some(&b"a &lt; b"[..]));
        assert_eq!(text(message, b"bod"), None);
        assert!(holds(features, b"<bind") && !holds(a, b"<bind"));
    }

    #[test]
    fn what_is_not_whole_waits() {
        let message = b"<message><body>a</body></message>";
        for end in 0..message.len() {
            let mut rest = &message[..end];
            assert_eq!(cut(&mut rest), Ok(None), "{end}");
        }
        let mut long = b"<message>".to_vec();
        long.resize(ELEMENT_MAX_BYTES + 1, b'x');
        assert_eq!(cut(&mut long.as_slice()), Err(NotXmpp), "nobody waits for ever");
    }

    #[test]
    fn what_no_server_says_is_refused() {
        for wrong in [&b"HTTP/1.1 400"[..], b"<!-- a -->", b"<a><!-- --></a>", b"<a><?b?></a>"] {
            assert_eq!(cut(&mut &wrong[..]), Err(NotXmpp));
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_cutting_goes_on(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'<'), Just(b'>'), Just(b'/'), Just(b'\''), Just(b'='), Just(b' '),
                    Just(b'?'), Just(b'!'), any::<u8>()],
                0..60,
            )
        ) {
            let mut rest = &bytes[..];
            loop {
                let before = rest.len();
                match cut(&mut rest) {
                    Ok(Some(Piece::Element(element))) => {
                        let _name = name(element);
                        let _attribute = attribute(element, b"a");
                        let _text = text(element, b"a");
                        prop_assert!(rest.len() < before);
                    }
                    Ok(Some(Piece::Begin | Piece::End)) => prop_assert!(rest.len() < before),
                    Ok(None) | Err(NotXmpp) => break,
                }
            }
        }
    }
}
