//! How the network cuts a stream never matters.

use crate::vectors;
use roost_protocol::frame::FrameReader;
use roost_protocol::limits::FRAME_MAX_BYTES;

/// What a reader gives for a stream that arrives in these chunks.
fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        reader.push(chunk);
        while let Some(frame) = reader.next_frame(FRAME_MAX_BYTES).expect("a valid stream") {
            frames.push(frame.to_vec());
        }
    }
    assert_eq!(reader.pending_bytes(), 0);
    frames
}

fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
    let vectors = vectors::frames();
    let contents = vectors.iter().map(|vector| {
        // A length of one byte is below 128; the vectors need at most two.
        let length = if vector.frame[0] < 0x80 { 1 } else { 2 };
        vector.frame[length..].to_vec()
    });
    (vectors.iter().flat_map(|vector| vector.frame.clone()).collect(), contents.collect())
}

#[test]
fn a_stream_of_all_vectors_cut_in_two_at_every_byte_gives_the_same_frames() {
    let (stream, expected) = stream();
    assert!(read([stream.as_slice()]) == expected, "in one piece");
    for at in 0..=stream.len() {
        let (first, second) = stream.split_at(at);
        assert!(read([first, second]) == expected, "cut at {at}");
    }
}

#[test]
fn a_stream_of_all_vectors_in_chunks_of_every_size_gives_the_same_frames() {
    let (stream, expected) = stream();
    for size in 1..=stream.len() {
        assert!(read(stream.chunks(size)) == expected, "chunks of {size}");
    }
}

#[test]
fn every_vector_cut_in_three_at_every_pair_of_bytes_is_itself() {
    for vector in vectors::frames() {
        let whole = read([vector.frame.as_slice()]);
        assert_eq!(whole.len(), 1);
        for first in 0..=vector.frame.len() {
            for second in first..=vector.frame.len() {
                let (start, rest) = vector.frame.split_at(first);
                let (middle, end) = rest.split_at(second - first);
                assert!(read([start, middle, end]) == whole, "{}: {first} {second}", vector.name);
            }
        }
    }
}
