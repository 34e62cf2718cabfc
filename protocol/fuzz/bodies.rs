//! What the fuzz targets do with a piece of input; `tests/it/hostile.rs` runs the same.

use roost_protocol::frame::{self, Cut, FrameReader};
use roost_protocol::{limits, request};

/// Cuts a stream in one piece and in pieces whose sizes the input draws; both must agree, and
/// the reader must keep no more than the bytes it was given and has not handed out.
pub(crate) fn frame(input: &[u8]) {
    let limit = 1024;
    let (whole, whole_failed) = cut_all(input, limit);
    let mut reader = FrameReader::new();
    let (mut pieces, mut failed, mut given, mut taken) = (Vec::new(), false, 0, 0);
    let mut rest = input;
    while !rest.is_empty() && !failed {
        let size = usize::from(rest[0] % 7) + 1;
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        reader.push(chunk);
        given += chunk.len();
        loop {
            match reader.next_frame(limit) {
                Ok(Some(frame)) => {
                    taken += frame.len() + roost_protocol::varint::length(length(frame));
                    pieces.push(frame.to_vec());
                }
                Ok(None) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert_eq!(reader.pending_bytes(), given - taken);
        assert!(failed || reader.pending_bytes() < limit + 5, "half a frame is below the limit");
    }
    assert_eq!((pieces, failed), (whole, whole_failed));
}

/// Decodes the content of a frame, and asks the same of what it means.
pub(crate) fn request(input: &[u8]) {
    let Ok(decoded) = request::decode(input) else { return };
    assert_eq!(request::decode(input), Ok(decoded.clone()), "decoding has no state");
    match decoded.body {
        Ok(request::Request::Send(send)) => {
            assert!(send.body.len() <= limits::BODY_MAX_BYTES);
            assert!(send.client_message_id.0 != 0 && send.client_sequence.0 != 0);
            assert!(send.seen_uncounted <= send.seen.0 && decoded.request_id != 0);
        }
        Ok(request::Request::Sync { limit, .. }) => {
            assert!((1..=limits::SYNC_PAGE_MAX).contains(&limit));
        }
        Ok(request::Request::History(history)) => {
            assert!((1..=limits::HISTORY_PAGE_MAX).contains(&history.limit));
        }
        Ok(request::Request::Delivered(marks) | request::Request::Read(marks)) => {
            assert!(marks.len() <= limits::MARKS_MAX);
            assert!(marks.iter().all(|mark| mark.uncounted <= mark.seq.0));
        }
        Ok(request::Request::Hello(hello)) => {
            assert!(hello.connection_number.0 != 0);
            assert!(hello.client.len() <= limits::CLIENT_NAME_MAX_BYTES);
        }
        Ok(request::Request::Refresh { token }) => {
            assert!((1..=limits::TOKEN_MAX_BYTES).contains(&token.len()));
        }
        Ok(request::Request::Activity(_) | request::Request::IgnoredNotice) => {}
        Err(refusal) => assert!(!refusal.text.is_empty()),
    }
}

fn cut_all(mut input: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    loop {
        let consumed = match frame::cut(input, limit) {
            Ok(Cut::Frame { content, consumed }) => {
                assert!(!content.is_empty() && content.len() <= limit);
                frames.push(content.to_vec());
                consumed
            }
            Ok(Cut::Heartbeat) => {
                frames.push(Vec::new());
                1
            }
            Ok(Cut::Incomplete { needed }) => {
                assert!(needed > input.len());
                return (frames, false);
            }
            Err(_) => return (frames, true),
        };
        input = &input[consumed..];
    }
}

fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).expect("below the limit")
}
