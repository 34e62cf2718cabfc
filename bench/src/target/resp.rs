//! RESP, what Redis speaks: commands written, replies cut from bytes without a copy.

use super::topics::{number, put_number};

/// One piece of a reply. Compound values are told by how many pieces follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// `+OK`.
    Simple(&'a [u8]),
    /// `-ERR`.
    Error(&'a [u8]),
    /// `:7`.
    Number(u64),
    /// `$5`, or nothing.
    Bulk(Option<&'a [u8]>),
    /// `*2`, or nothing.
    Array(usize),
    /// `>3`: not an answer.
    Push(usize),
    /// `%2`: twice as many pieces follow.
    Map(usize),
    /// Anything else on one line: RESP3 has null, booleans and doubles.
    Other,
}

/// Why bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotResp;

/// Cuts the next piece off. None: it is not whole yet.
pub(super) fn cut<'a>(rest: &mut &'a [u8]) -> Result<Option<Piece<'a>>, NotResp> {
    let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let (kind, line) = rest[..end].split_first().ok_or(NotResp)?;
    let after = &rest[end + 2..];
    let count = || {
        if line.first() == Some(&b'-') {
            return Ok(None);
        }
        let count = number(line).ok_or(NotResp)?;
        usize::try_from(count).map(Some).map_err(|_| NotResp)
    };
    let piece = match kind {
        b'+' => Piece::Simple(line),
        b'-' => Piece::Error(line),
        b':' => Piece::Number(number(line.strip_prefix(b"-").unwrap_or(line)).ok_or(NotResp)?),
        b'$' => {
            let Some(length) = count()? else {
                *rest = after;
                return Ok(Some(Piece::Bulk(None)));
            };
            let Some((bytes, end)) = after.split_at_checked(length) else { return Ok(None) };
            let Some((newline, next)) = end.split_at_checked(2) else { return Ok(None) };
            if newline != b"\r\n" {
                return Err(NotResp);
            }
            *rest = next;
            return Ok(Some(Piece::Bulk(Some(bytes))));
        }
        b'*' => Piece::Array(count()?.unwrap_or(0)),
        b'>' => Piece::Push(count()?.unwrap_or(0)),
        b'%' => Piece::Map(count()?.unwrap_or(0)),
        b'_' | b'#' | b',' | b'(' => Piece::Other,
        _ => return Err(NotResp),
    };
    *rest = after;
    Ok(Some(piece))
}

/// Cuts so many values off, whatever they hold. None: they are not whole yet.
pub(super) fn skip(rest: &mut &[u8], values: usize) -> Result<Option<()>, NotResp> {
    let mut left = values;
    while left > 0 {
        let Some(piece) = cut(rest)? else { return Ok(None) };
        left -= 1;
        left += match piece {
            Piece::Array(count) | Piece::Push(count) => count,
            Piece::Map(count) => count.saturating_mul(2),
            Piece::Simple(_)
            | Piece::Error(_)
            | Piece::Number(_)
            | Piece::Bulk(_)
            | Piece::Other => 0,
        };
    }
    Ok(Some(()))
}

/// Appends a command.
pub(super) fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.push(b'*');
    put_number(words.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    for word in words {
        out.push(b'$');
        put_number(word.len() as u64, out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        command(&[b"PUBLISH", b"a.s1", b"x\r\ny"], &mut out);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$4\r\na.s1\r\n$4\r\nx\r\ny\r\n");
    }

    #[test]
    fn pieces_are_cut_only_when_they_are_whole() {
        let whole = b">3\r\n$7\r\nmessage\r\n:-4\r\n*-1\r\n$-1\r\n+OK\r\n-ERR no\r\n_\r\n";
        let mut rest = &whole[..];
        let mut pieces = Vec::new();
        while let Some(piece) = cut(&mut rest).unwrap() {
            pieces.push(piece);
        }
        let expected = [
            Piece::Push(3),
            Piece::Bulk(Some(b"message")),
            Piece::Number(4),
            Piece::Array(0),
            Piece::Bulk(None),
            Piece::Simple(b"OK"),
            Piece::Error(b"ERR no"),
            Piece::Other,
        ];
        assert_eq!(pieces, expected);
        for half in ["$7\r\nmess", "$7\r\nmessage\r", "$7\r", ":1"] {
            assert_eq!(cut(&mut half.as_bytes()), Ok(None), "{half}");
        }
        for wrong in ["?1\r\n", "$x\r\n", "$1\r\nabc", "\r\n"] {
            assert_eq!(cut(&mut wrong.as_bytes()), Err(NotResp), "{wrong}");
        }
    }

    #[test]
    fn whole_values_are_skipped() {
        let mut rest = &b"%1\r\n$1\r\na\r\n*2\r\n:1\r\n%1\r\n:2\r\n:3\r\n+END\r\n"[..];
        assert_eq!(skip(&mut rest, 1), Ok(Some(())));
        assert_eq!(rest, b"+END\r\n");
        assert_eq!(skip(&mut &b"*2\r\n:1\r\n"[..], 1), Ok(None));
    }
}
