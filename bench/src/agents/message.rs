//! What controller and agents say to each other: one value of JSON on a line.

use crate::latency::histogram;
use crate::report::rounds::Found;
use crate::result::Round;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

/// Changes when a message changes its meaning.
pub(super) const VERSION: u32 = 1;
/// Longest line: tokens of some millions of devices.
const LINE_MAX_BYTES: u64 = 4 << 30;

/// What an agent is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) version: u32,
    /// A command line of its own.
    pub(super) command: Vec<String>,
    pub(super) server: SocketAddr,
    pub(super) users: Vec<String>,
    pub(super) tokens: Vec<String>,
    pub(super) connection_number: u64,
}

/// What an agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// Its devices are connected and wait.
    Ready,
    /// What it found.
    Found(Box<Part>),
    /// Why there is nothing.
    Failed(String),
}

/// What the controller says after the order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// All are ready: begin.
    Go,
}

/// What one agent found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) round: Round,
    /// By stage, as HdrHistogram's V2 encoding in base64.
    histograms: BTreeMap<String, String>,
}

impl Part {
    pub(super) fn of(found: Found) -> io::Result<Self> {
        let mut histograms = BTreeMap::new();
        for (name, times) in &found.histograms {
            histograms.insert(name.clone(), encode(times)?);
        }
        Ok(Self { round: found.round, histograms })
    }

    /// The histograms again.
    pub(super) fn histograms(&self) -> io::Result<BTreeMap<String, Histogram<u64>>> {
        self.histograms.iter().map(|(name, text)| Ok((name.clone(), decode(text)?))).collect()
    }
}

fn encode(times: &Histogram<u64>) -> io::Result<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(times, &mut bytes).map_err(io::Error::other)?;
    Ok(STANDARD.encode(bytes))
}

/// Into a histogram with our bounds, so that it can be added to ours.
fn decode(text: &str) -> io::Result<Histogram<u64>> {
    let bytes = STANDARD.decode(text).map_err(io::Error::other)?;
    let read: Histogram<u64> =
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(io::Error::other)?;
    let mut ours = histogram();
    ours.add(&read).map_err(io::Error::other)?;
    Ok(ours)
}

pub(super) fn say(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// The next line; an error when the other side is gone.
pub(super) fn hear<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = String::new();
    if io::Read::take(from, LINE_MAX_BYTES).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_comes_back_whole() {
        let mut times = histogram();
        for us in [1, 500, 123_456, 9_999_999] {
            times.saturating_record(us);
        }
        let mut found = Found::default();
        found.round.figures.lost = Some(3);
        found.histograms.insert("sent".to_owned(), times.clone());
        let mut line = Vec::new();
        say(&mut line, &Reply::Found(Box::new(Part::of(found).unwrap()))).unwrap();
        let Reply::Found(part) = hear(&mut line.as_slice()).unwrap() else { panic!("a part") };
        assert_eq!(part.round.figures.lost, Some(3));
        assert_eq!(part.histograms().unwrap()["sent"], times);
        assert!(decode("7").is_err() && decode("zz").is_err());
    }

    #[test]
    fn an_end_is_an_error() {
        assert!(hear::<Word>(&mut b"".as_slice()).is_err());
        assert!(hear::<Word>(&mut b"{}\n".as_slice()).is_err());
    }
}
