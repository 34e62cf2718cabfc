"""Checks protocol/vectors with stock protobuf tools and nothing of Roost's own code.

The framing, keys and message ids below, and the bounds in rules.py, were written from PROTOCOL.md
alone; the messages are what stock protoc generates from proto/roost.proto. Run it in a virtual
environment:

    pip install -r protocol/tests/python/requirements.txt
    python protocol/tests/python/check_vectors.py
"""

import hashlib
import importlib
import json
import pathlib
import sys
import tempfile

from google.protobuf.descriptor import FieldDescriptor as Kind
from google.protobuf.message import DecodeError
from grpc_tools import protoc

import rules

PROTOCOL = pathlib.Path(__file__).resolve().parents[2]
FRAME_MAX_BYTES = 256 * 1024
MESSAGE_ID_EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class Refused(Exception):
    """The stream cannot go on."""


def read_length(data):
    """The number at the start of data and the bytes it takes; None when bytes are missing."""
    value = 0
    for index, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if (byte == 0 and index > 0) or value >= 1 << 32:
                raise Refused("malformed_frame")
            return value, index + 1
    if len(data) >= 5:
        raise Refused("malformed_frame")
    return None


def write_length(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Cuts chunks into frames; an empty frame is a heartbeat."""

    def __init__(self, limit):
        self.limit = limit
        self.waiting = b""

    def push(self, chunk):
        self.waiting += chunk
        frames = []
        while (length := read_length(self.waiting)) is not None:
            value, taken = length
            if value > self.limit:
                raise Refused("frame_too_large")
            if len(self.waiting) < taken + value:
                break
            frames.append(self.waiting[taken : taken + value])
            self.waiting = self.waiting[taken + value :]
        return frames


def generated():
    """The module that stock protoc makes of the schema."""
    source = PROTOCOL / "proto"
    with tempfile.TemporaryDirectory() as folder:
        code = protoc.main(["protoc", f"-I{source}", f"--python_out={folder}", "roost.proto"])
        if code != 0:
            raise SystemExit("protoc refuses proto/roost.proto")
        sys.path.insert(0, folder)
        return importlib.import_module("roost_pb2")


def meaning(message):
    """The set fields of a message as the vectors write them."""
    result = {}
    for field, value in message.ListFields():
        repeated = getattr(field, "is_repeated", False)
        if callable(repeated):
            repeated = repeated()
        result[field.name] = (
            [scalar(field, one) for one in value] if repeated else scalar(field, value)
        )
    return result


def scalar(field, value):
    if field.type == Kind.TYPE_MESSAGE:
        return meaning(value)
    if field.type == Kind.TYPE_BYTES:
        return value.hex()
    if field.type in (Kind.TYPE_UINT64, Kind.TYPE_FIXED64):
        return str(value)
    if field.type == Kind.TYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value


def build(message, fields):
    """Sets the fields of a message from what the vectors write: the way back."""
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, list):
            target = getattr(message, name)
            for one in value:
                if field.type == Kind.TYPE_MESSAGE:
                    build(target.add(), one)
                else:
                    target.append(from_json(field, one))
        elif field.type == Kind.TYPE_MESSAGE:
            getattr(message, name).SetInParent()
            build(getattr(message, name), value)
        else:
            setattr(message, name, from_json(field, value))
    return message


def from_json(field, value):
    if field.type == Kind.TYPE_BYTES:
        return bytes.fromhex(value)
    if field.type in (Kind.TYPE_UINT64, Kind.TYPE_FIXED64):
        return int(value)
    if field.type == Kind.TYPE_ENUM and isinstance(value, str):
        return field.enum_type.values_by_name[value].number
    return value


def check_frames(messages):
    types = {"client": messages.ClientFrame, "server": messages.ServerFrame}
    vectors = load("frames.json")["frames"]
    for vector in vectors:
        check_frame(types[vector["direction"]], vector)
        if vector["direction"] == "client" and vector["message"] is not None:
            verdict = rules.judge(vector["message"])
            (body, *_) = [name for name in vector["message"] if name != "request_id"] or [None]
            if body in rules.NOT_SERVED:
                expected = "unimplemented"
            elif body is None:
                expected = "unimplemented" if "request_id" in vector["message"] else "ignored"
            else:
                # One shows the fields, of which a request may have one.
                expected = "invalid_request" if vector["name"] == "history_by_time" else "taken"
            equal(verdict, expected, vector["name"])
    return len(vectors)


def check_refusals(messages):
    vectors = load("refusals.json")["refusals"]
    codes = {code.removeprefix("ERROR_").lower() for code in messages.ErrorCode.keys()}
    for vector in vectors:
        check_frame(messages.ClientFrame, vector)
        equal(vector["code"] in codes, True, vector["name"])
        equal(rules.judge(vector["message"]), vector["code"], vector["name"])
    return len(vectors)


def check_frame(kind, vector):
    name, data = vector["name"], bytes.fromhex(vector["frame"])
    reader = Reader(FRAME_MAX_BYTES)
    (content,) = reader.push(data)
    equal(reader.waiting, b"", name)
    if vector["message"] is None:
        equal(content, b"", name)
        return
    message = kind()
    try:
        equal(message.ParseFromString(content), len(content), name)
    except DecodeError as error:
        raise SystemExit(f"{name}: {error}") from error
    equal(meaning(message), vector["message"], name)
    if vector.get("canonical", True):
        for same in (message, build(kind(), vector["message"])):
            encoded = same.SerializeToString(deterministic=True)
            equal((write_length(len(encoded)) + encoded).hex(), data.hex(), name)


def check_framing():
    file = load("framing.json")
    for vector in file["lengths"]:
        try:
            read = read_length(bytes.fromhex(vector["bytes"]))
            result = "incomplete" if read is None else read
        except Refused:
            result = "invalid"
        equal(result, vector.get("error") or (vector["value"], vector["takes"]), vector)
        if "value" in vector:
            written = write_length(vector["value"]).hex()
            equal(written, vector["bytes"][: 2 * vector["takes"]], vector)
    for vector in file["streams"]:
        reader, frames, error = Reader(vector["frame_max_bytes"]), [], None
        try:
            for chunk in vector["chunks"]:
                # Byte by byte, so that what comes before a mistake is not lost with it.
                for byte in bytes.fromhex(chunk):
                    frames += reader.push(bytes([byte]))
        except Refused as refused:
            error = str(refused)
        equal([frame.hex() for frame in frames], vector["frames"], vector["name"])
        equal(error, vector.get("error"), vector["name"])
        if error is None:
            equal(len(reader.waiting), vector["pending"], vector["name"])
    return len(file["lengths"]) + len(file["streams"])


def derive(kind, *parts):
    start = int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:16], "big")
    return (start & ~3 | kind).to_bytes(16, "big")


def check_keys():
    file = load("keys.json")
    kinds = ["user", "direct", "group", "channel"]

    def check(vector, key, name):
        equal(key.hex(), vector[name], vector)
        equal(kinds[key[15] & 3], vector["kind"], vector)
        equal(int.from_bytes(key[:2], "big") >> 6, vector["partition"], vector)

    for vector in file["users"]:
        user = derive(0, vector["tenant"].encode(), b"\0", vector["user"].encode())
        check(vector, user, "key")
    for vector in file["direct"]:
        users = sorted(bytes.fromhex(vector[name]) for name in ("one", "other"))
        check(vector, derive(1, b"direct", *users), "id")
    for vector in file["groups"]:
        parts = (bytes.fromhex(vector[name]) for name in ("creator", "nonce"))
        check(vector, derive(3 if vector["channel"] else 2, b"group", *parts), "id")
    for vector in file["devices"]:
        equal(derive(0, b"device", vector["name"].encode()).hex(), vector["id"], vector)
    for vector in file["partitions"]:
        check(vector, bytes.fromhex(vector["key"]), "key")
    for vector in file["invalid_users"]:
        user = vector["user"]
        control = any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in user)
        equal(control or not 1 <= len(user.encode()) <= 64, True, vector)
    return sum(len(vectors) for vectors in file.values() if isinstance(vectors, list))


def check_message_ids():
    vectors = load("message_ids.json")["message_ids"]
    for vector in vectors:
        number = int(vector["message_id"])
        equal(str((number >> 22) + MESSAGE_ID_EPOCH_MS), vector["wall_ms"], vector)
        equal(number >> 12 & 0x3FF, vector["generator"], vector)
        equal(number & 0xFFF, vector["sequence"], vector)
        equal(number < 1 << 63, True, vector)
    return len(vectors)


def check_prefaces():
    vectors = load("preface.json")["prefaces"]
    for vector in vectors:
        data = bytes.fromhex(vector["bytes"])
        if data[:3] != b"ROO"[: len(data)]:
            result = "bad_preface"
        elif len(data) < 4:
            result = "incomplete"
        else:
            result = "valid" if data[3] == 1 else "unsupported_version"
        equal(result, vector["result"], vector)
    return len(vectors)


def load(name):
    return json.loads((PROTOCOL / "vectors" / name).read_text(encoding="utf-8"))


def equal(found, expected, what):
    if found != expected:
        raise SystemExit(f"{what}:\n  found    {found}\n  expected {expected}")


def main():
    messages = generated()
    counts = {
        "frames": check_frames(messages),
        "refusals": check_refusals(messages),
        "framing": check_framing(),
        "keys": check_keys(),
        "message ids": check_message_ids(),
        "prefaces": check_prefaces(),
    }
    print("all as they should be:", ", ".join(f"{n} {what}" for what, n in counts.items()))


if __name__ == "__main__":
    main()
