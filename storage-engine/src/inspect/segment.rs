//! One segment as it lies there: its whole records, what it claims, and what lies behind damage.

use crate::header::{HeaderFault, Identity, Opening, read_identity, read_opening};
use crate::layout::{HEADER_BYTES, VERSION, index_of, u32_of, u64_at, u64_of, usize_of};
use crate::position::{SegmentId, StreamId};
use crate::record::{Durable, Form, Found, Mask, Role, parse, plausible};

/// How often the bytes behind damage may be checksummed in search of whole records, so that
/// hostile lengths do not make it endless.
const SEARCH_TURNS: u64 = 64;

/// A version with wide records.
const WIDE_VERSION: u32 = 2;

/// Where a record lies and what its head says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) stream: StreamId,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// Bytes of its body.
    pub(crate) body_bytes: u32,
    pub(crate) seq: u64,
    pub(crate) stamp: u64,
    pub(crate) number: u64,
    pub(crate) kind: u8,
    pub(crate) role: Role,
}

impl Place {
    fn new(found: &Found, offset: u32) -> Self {
        let Found { stream, number, seq, stamp, kind, role, length, body, .. } = *found;
        let body_bytes = length - body;
        Self { stream, offset, length, body_bytes, seq, stamp, number, kind, role }
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// What a segment's bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) fault: Option<HeaderFault>,
    pub(crate) salt: u64,
    pub(crate) version: u32,
    pub(crate) recycled: bool,
    pub(crate) opening: Option<Opening>,
    /// Where whole records end that follow each other from the beginning.
    pub(crate) valid: u64,
    pub(crate) commits: u64,
    /// The records up to there.
    pub(crate) places: Vec<Place>,
    /// Whole records behind.
    pub(crate) islands: Vec<Place>,
    /// The furthest place that any commit names as flushed.
    pub(crate) claim: Durable,
    /// Whether something lies behind the valid end that is not zeros; unknown in a recycled file.
    pub(crate) rest: bool,
}

impl Scan {
    /// What there is to know of a file that cannot be read at all.
    pub(crate) fn nothing(fault: HeaderFault) -> Self {
        Self {
            fault: Some(fault),
            salt: 0,
            version: VERSION,
            recycled: false,
            opening: None,
            valid: 0,
            commits: 0,
            places: Vec::new(),
            islands: Vec::new(),
            claim: Durable::NOTHING,
            rest: false,
        }
    }

    /// Reads a segment's bytes, as far as they may hold records. Without a whole header the salt
    /// may be known from elsewhere.
    pub(crate) fn of(bytes: &[u8], segment: SegmentId, salts: &[u64]) -> Self {
        let identity = read_identity(bytes).and_then(|identity| {
            if identity.segment == segment { Ok(identity) } else { Err(HeaderFault::Bad) }
        });
        let (identity, fault) = match identity {
            Ok(identity) => (identity, None),
            Err(fault @ HeaderFault::Newer(_)) => return Self::nothing(fault),
            Err(HeaderFault::Bad) => match guess_salt(bytes, segment, salts) {
                Some((salt, version)) => {
                    (Identity { segment, salt, version, recycled: true }, Some(HeaderFault::Bad))
                }
                None => return Self::nothing(HeaderFault::Bad),
            },
        };
        let mask = Mask::new(segment, identity.salt, Form::of(identity.version));
        let mut scan = Self {
            fault,
            salt: identity.salt,
            version: identity.version,
            recycled: identity.recycled,
            opening: read_opening(bytes, mask),
            ..Self::nothing(HeaderFault::Bad)
        };
        scan.fault = fault;
        if scan.opening.is_some() {
            scan.take_records(bytes, mask);
        }
        let behind = index_of(scan.valid).max(usize_of(HEADER_BYTES));
        scan.rest = bytes.get(behind..).is_some_and(|rest| rest.iter().any(|&byte| byte != 0));
        if scan.rest {
            scan.search(bytes, behind, mask);
        }
        scan
    }

    fn take_records(&mut self, bytes: &[u8], mask: Mask) {
        let mut at = usize_of(HEADER_BYTES);
        while at < bytes.len() {
            let Some(found) = parse(&bytes[at..], mask.at(u32_of(at))) else { break };
            match found.durable {
                Some(durable) => self.commit(durable),
                None => self.places.push(Place::new(&found, u32_of(at))),
            }
            at += usize_of(found.length);
        }
        self.valid = u64_of(at);
    }

    fn commit(&mut self, durable: Durable) {
        self.claim = self.claim.max(durable);
        self.commits += 1;
    }

    /// Finds whole records behind damage, wherever one begins.
    fn search(&mut self, bytes: &[u8], from: usize, mask: Mask) {
        let mut budget = u64_of(bytes.len()).saturating_mul(SEARCH_TURNS);
        let mut at = from;
        while at < bytes.len() {
            let length = plausible(&bytes[at..], mask.form).unwrap_or(0);
            let affordable = u64_of(length) <= budget || length == mask.form.control_bytes();
            if length == 0 || !affordable {
                at += 1;
                continue;
            }
            budget = budget.saturating_sub(u64_of(length));
            let Some(found) = parse(&bytes[at..], mask.at(u32_of(at))) else {
                at += 1;
                continue;
            };
            match found.durable {
                Some(durable) => self.claim = self.claim.max(durable),
                None => self.islands.push(Place::new(&found, u32_of(at))),
            }
            at += usize_of(found.length);
        }
    }
}

/// The salt and version of a segment whose identity is damaged: its own bytes may still say the
/// one, or those of its neighbours, which have the same; its records show the other.
fn guess_salt(bytes: &[u8], segment: SegmentId, salts: &[u64]) -> Option<(u64, u32)> {
    if bytes.len() < usize_of(HEADER_BYTES) {
        return None;
    }
    let own = u64_at(bytes, 40);
    let first = &bytes[usize_of(HEADER_BYTES)..];
    let begins = |salt: u64, version: u32| {
        parse(first, Mask::new(segment, salt, Form::of(version)).at(HEADER_BYTES)).is_some()
    };
    let all = || core::iter::once(own).chain(salts.iter().copied());
    for version in [VERSION, WIDE_VERSION] {
        if let Some(salt) = all().find(|&salt| begins(salt, version)) {
            return Some((salt, version));
        }
    }
    // The first record is damaged, too.
    let opens = |salt: &u64| read_opening(bytes, Mask::new(segment, *salt, Form::Narrow)).is_some();
    all().find(opens).map(|salt| (salt, VERSION))
}
