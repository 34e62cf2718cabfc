//! `roost.proto` read as text, and an encoder driven by it: a second opinion on what prost
//! generates. It reads what the schema uses and stops at anything else.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A field of a message.
#[derive(Debug)]
struct Field {
    name: String,
    kind: String,
    number: u32,
    repeated: bool,
    /// A zero is written too: `optional`, or a member of a oneof.
    explicit: bool,
    oneof: Option<String>,
}

/// The messages and enums of the schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// Fields by number.
    messages: BTreeMap<String, Vec<Field>>,
    enums: BTreeMap<String, BTreeMap<String, u32>>,
}

/// What of a schema was used: `Message.field` and `Enum.VALUE`.
pub(crate) type Used = BTreeSet<String>;

impl Schema {
    /// Reads the schema of this crate.
    pub(crate) fn read() -> Self {
        let mut schema = Self::default();
        let mut path: Vec<(String, String)> = Vec::new();
        for line in include_str!("../../proto/roost.proto").lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split([' ', ';', '=']).filter(|w| !w.is_empty()).collect();
            match words.as_slice() {
                [] | ["syntax" | "package", ..] => {}
                ["}"] => drop(path.pop().expect("braces match")),
                ["message", name, "{}"] => schema.add_message(name),
                ["message", name, "{"] => {
                    schema.add_message(name);
                    path.push(("message".to_owned(), (*name).to_owned()));
                }
                [what @ ("enum" | "oneof"), name, "{"] => {
                    path.push(((*what).to_owned(), (*name).to_owned()));
                }
                field => schema.add_field(&path, field),
            }
        }
        schema
    }

    /// Everything there is to use.
    pub(crate) fn everything(&self) -> Used {
        let fields = self
            .messages
            .iter()
            .flat_map(|(name, fields)| fields.iter().map(move |f| format!("{name}.{}", f.name)));
        let values = self
            .enums
            .iter()
            .flat_map(|(name, values)| values.keys().map(move |v| format!("{name}.{v}")));
        fields.chain(values).collect()
    }

    /// Encodes a message from its fields as JSON, and notes what it used.
    pub(crate) fn encode(&self, message: &str, json: &Value, used: &mut Used) -> Vec<u8> {
        let object = json.as_object().expect("a message is an object");
        let fields = &self.messages[message];
        for name in object.keys() {
            assert!(fields.iter().any(|f| f.name == *name), "{message} has no field {name}");
        }
        check_oneofs(message, fields, object);
        let mut out = Vec::new();
        for field in fields {
            let Some(value) = object.get(&field.name) else { continue };
            used.insert(format!("{message}.{}", field.name));
            if field.repeated {
                let values = value.as_array().expect("a repeated field is an array");
                assert!(!values.is_empty(), "{message}.{}: leave out what is empty", field.name);
                self.write_repeated(field, values, used, &mut out);
            } else {
                let encoded = self.scalar(&field.kind, value, used);
                let silent = match self.wire_type(&field.kind) {
                    2 => encoded.is_empty() && !self.is_message(&field.kind),
                    _ => encoded.iter().all(|byte| *byte == 0),
                };
                assert!(
                    field.explicit || !silent,
                    "{message}.{}: leave out what is 0, false or empty",
                    field.name
                );
                self.write_field(field, &encoded, &mut out);
            }
        }
        out
    }

    /// The repeated fields that can be reached from a message: the numbers of the fields on the
    /// way, and whether its elements are packed.
    pub(crate) fn repeated(&self, message: &str) -> Vec<(Vec<u32>, bool)> {
        let mut found = Vec::new();
        for field in &self.messages[message] {
            if field.repeated {
                found.push((vec![field.number], self.wire_type(&field.kind) != 2));
            }
            if self.is_message(&field.kind) {
                let inside = self.repeated(&field.kind);
                found.extend(
                    inside.into_iter().map(|(path, packed)| {
                        ([&[field.number], path.as_slice()].concat(), packed)
                    }),
                );
            }
        }
        found
    }

    /// A message with fields drawn at random: counts and lengths are about where bounds are. `draw`
    /// gives a number below another.
    pub(crate) fn random(&self, message: &str, draw: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let fields = &self.messages[message];
        let bodies: Vec<&Field> = fields.iter().filter(|f| f.oneof.is_some()).collect();
        let chosen = if bodies.is_empty() { 0 } else { bodies[draw(bodies.len())].number };
        let mut out = Vec::new();
        for field in fields {
            if if field.oneof.is_some() { field.number == chosen } else { draw(5) != 0 } {
                let count = if field.repeated {
                    pick(&[0, 1, 1, 1, 2, 2, 3, 20, 21, 101], draw)
                } else {
                    1
                };
                for _ in 0..count {
                    let encoded = self.random_value(&field.kind, draw);
                    self.write_field(field, &encoded, &mut out);
                }
            }
        }
        out
    }

    fn random_value(&self, kind: &str, draw: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut out = Vec::new();
        match kind {
            "string" => {
                let wrong = [0, 1, 2, 32, 33, 64, 65, 128, 129, 257];
                let length = if draw(3) == 0 { pick(&wrong, draw) } else { 3 };
                out.extend((0..length).map(|_| pick(b"abcdefghijklmnopqrstuvwxyz", draw)));
                if draw(40) == 0 {
                    out.push(b'\n');
                }
            }
            "bytes" => {
                let length = if draw(5) == 0 { pick(&[0, 1, 15, 17], draw) } else { 16 };
                out.resize(length, 0xd0);
                // The kind of an id, if it is one.
                out.pop().into_iter().for_each(|_| out.push(pick(&[0, 1, 2, 3], draw)));
            }
            "fixed64" => out.extend(pick(&[0_u64, 1, 2, 3], draw).to_le_bytes()),
            _ if self.is_message(kind) => out = self.random(kind, draw),
            _ => {
                let value = pick(&[0_u64, 1, 1, 2, 2, 100, 101, 500, 501, 1000, 1001], draw);
                varint(if draw(20) == 0 { u64::MAX } else { value }, &mut out);
            }
        }
        out
    }

    fn add_message(&mut self, name: &str) {
        assert!(self.messages.insert(name.to_owned(), Vec::new()).is_none(), "{name} twice");
    }

    fn add_field(&mut self, path: &[(String, String)], words: &[&str]) {
        let (inside, name) = path.last().expect("fields are inside something");
        if inside == "enum" {
            let [value, number] = words else { unreachable!("not an enum value: {words:?}") };
            let number = number.parse().expect("a number");
            self.enums.entry(name.clone()).or_default().insert((*value).to_owned(), number);
            return;
        }
        let (label, rest) = match words {
            [label @ ("repeated" | "optional"), rest @ ..] => (*label, rest),
            rest => ("", rest),
        };
        let [kind, field, number] = rest else { unreachable!("not a field: {words:?}") };
        let oneof = (inside == "oneof").then(|| name.clone());
        let (_, message) = path.iter().rfind(|(what, _)| what == "message").expect("in a message");
        let fields = self.messages.get_mut(message).expect("added before its fields");
        fields.push(Field {
            name: (*field).to_owned(),
            kind: (*kind).to_owned(),
            number: number.parse().expect("a number"),
            repeated: label == "repeated",
            explicit: label == "optional" || oneof.is_some(),
            oneof,
        });
        fields.sort_by_key(|f| f.number);
    }

    fn is_message(&self, kind: &str) -> bool {
        self.messages.contains_key(kind)
    }

    fn wire_type(&self, kind: &str) -> u32 {
        match kind {
            "fixed64" => 1,
            "string" | "bytes" => 2,
            _ if self.is_message(kind) => 2,
            _ => 0,
        }
    }

    fn write_repeated(&self, field: &Field, values: &[Value], used: &mut Used, out: &mut Vec<u8>) {
        let encoded = values.iter().map(|value| self.scalar(&field.kind, value, used));
        if self.wire_type(&field.kind) != 2 {
            let packed: Vec<u8> = encoded.flatten().collect();
            varint(u64::from(field.number << 3 | 2), out);
            varint(packed.len() as u64, out);
            out.extend(packed);
        } else {
            for one in encoded {
                self.write_field(field, &one, out);
            }
        }
    }

    fn write_field(&self, field: &Field, encoded: &[u8], out: &mut Vec<u8>) {
        let wire_type = self.wire_type(&field.kind);
        varint(u64::from(field.number << 3 | wire_type), out);
        if wire_type == 2 {
            varint(encoded.len() as u64, out);
        }
        out.extend(encoded);
    }

    fn scalar(&self, kind: &str, value: &Value, used: &mut Used) -> Vec<u8> {
        let mut out = Vec::new();
        match kind {
            "bool" => out.push(u8::from(value.as_bool().expect("a bool"))),
            "uint32" => {
                let number = value.as_u64().expect("a number");
                varint(u64::from(u32::try_from(number).expect("32 bits")), &mut out);
            }
            "sint32" => {
                let number = value.as_i64().expect("a number");
                varint(u64::try_from((number << 1) ^ (number >> 63)).expect("folded"), &mut out);
            }
            "uint64" => varint(decimal(value), &mut out),
            "fixed64" => out.extend(decimal(value).to_le_bytes()),
            "string" => out.extend(value.as_str().expect("a text").bytes()),
            "bytes" => out.extend(unhex(value.as_str().expect("bytes as hex"))),
            _ if self.is_message(kind) => out = self.encode(kind, value, used),
            // An enum: a number is a value that the schema does not know.
            _ => varint(value.as_u64().unwrap_or_else(|| self.value(kind, value, used)), &mut out),
        }
        out
    }

    fn value(&self, kind: &str, name: &Value, used: &mut Used) -> u64 {
        let name = name.as_str().expect("the name of a value");
        used.insert(format!("{kind}.{name}"));
        u64::from(self.enums[kind][name])
    }
}

fn pick<T: Copy>(from: &[T], draw: &mut impl FnMut(usize) -> usize) -> T {
    from[draw(from.len())]
}

fn check_oneofs(message: &str, fields: &[Field], object: &Map<String, Value>) {
    let mut seen = BTreeSet::new();
    for field in fields.iter().filter(|f| object.contains_key(&f.name)) {
        if let Some(oneof) = &field.oneof {
            assert!(seen.insert(oneof), "{message}.{oneof} is given twice");
        }
    }
}

fn decimal(value: &Value) -> u64 {
    value.as_str().expect("64 bits are a decimal text").parse().expect("a decimal")
}

pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of lower-case hex.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "whole bytes: {text}");
    let bytes: Vec<u8> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect();
    assert_eq!(hex(&bytes), text, "lower case");
    bytes
}
