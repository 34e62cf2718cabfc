"""What a server says to a frame of a device for its fields alone, written from PROTOCOL.md.

`judge` takes the meaning of a frame as the vectors write it and gives "taken", "ignored",
"unimplemented" or the code of an error.
"""

INVALID = "invalid_request"
DIRECT, GROUP, CHANNEL = 1, 2, 3
NOTICES = {"delivered", "read", "activity", "typing", "watch_presence", "watch_channel"}
NOT_SERVED = {
    "set_push_token",
    "set_quiet_hours",
    "publish_keys",
    "fetch_keys",
    "create_upload",
    "create_download",
}


class Refused(Exception):
    """The code."""


def judge(frame):
    request_id = frame.get("request_id", 0)
    bodies = [name for name in frame if name != "request_id"]
    if not bodies:
        return "unimplemented" if request_id else "ignored"
    (body,) = bodies
    if request_id == 0 and body not in NOTICES:
        return INVALID
    if body in NOT_SERVED:
        return "unimplemented"
    try:
        RULES[body](frame[body])
    except Refused as refused:
        return str(refused)
    return "taken"


def must(condition, code=INVALID):
    if not condition:
        raise Refused(code)


def number(message, field):
    return int(message.get(field, 0))


def size(message, field):
    return len(message.get(field, "")) // 2


def control(text):
    return any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text)


def text(message, field, least, most):
    value = message.get(field, "")
    must(least <= len(value.encode()) <= most and not control(value))


def a_user(value):
    must(1 <= len(value.encode()) <= 64 and not control(value))


def users(message, field, least, most):
    values = message.get(field, [])
    must(least <= len(values) <= most and len(set(values)) == len(values))
    for value in values:
        a_user(value)


def conversation(message, *kinds, field="conversation"):
    must(size(message, field) == 16)
    must(not kinds or int(message[field], 16) & 3 in kinds)


def target(message):
    """The kind of the conversation meant."""
    must(("conversation" in message) != ("user" in message))
    if "user" in message:
        a_user(message["user"])
        return DIRECT
    conversation(message)
    return int(message["conversation"], 16) & 3


def body(message):
    must(size(message, "body") <= 65_536, "too_large")


def token(value):
    must(len(value.encode()) <= 4096, "token_too_long")
    must(value != "", "token_malformed")


def hello(message):
    must(("token" in message) != ("ticket" in message))
    if "token" in message:
        token(message["token"])
    must(size(message, "ticket") <= 512, "ticket_invalid")
    must(size(message, "device") in (0, 16))
    must(number(message, "connection_number") >= 1)
    must(len(message.get("client", "").encode()) <= 128)
    # An enum is a name when it is known.
    must(not isinstance(message.get("role", ""), int))
    must(not isinstance(message.get("activity", ""), int))


def send(message):
    kind = target(message)
    must(number(message, "client_message_id") != 0 and number(message, "client_sequence") != 0)
    must(number(message, "seen_uncounted") <= number(message, "seen"))
    contents = ["body", "edit", "delete", "reaction", "forward", "group_change", "to_devices"]
    named = [name for name in contents if name in message]
    must(len(named) == 1)
    content = message[named[0]]
    if named[0] in ("edit", "delete", "reaction", "forward"):
        must(number(content, "seq") >= 1)
    match named[0]:
        case "body":
            body(message)
        case "edit":
            body(content)
        case "reaction":
            text(content, "reaction", 0, 32)
        case "forward":
            conversation(content)
            body(content)
        case "group_change":
            group_change(content, kind)
        case "to_devices":
            must(kind == DIRECT)
            to_devices(content, message.get("device_versions", []))


def group_change(change, kind):
    must(kind in (GROUP, CHANNEL) and len(change) == 1)
    ((name, value),) = change.items()
    must(kind == GROUP or name not in ("add", "remove"))
    if name == "rename":
        text(change, name, 1, 128)
    elif name == "picture":
        text(change, name, 0, 256)
    elif name in ("leave", "dissolve"):
        must(value is True)
    else:
        users(value, "users", 1, 1 if name == "transfer" else 1023)


def to_devices(content, versions):
    ciphertexts = content.get("ciphertexts", [])
    must(1 <= len(ciphertexts) <= 20)
    for one in ciphertexts:
        a_user(one.get("user", ""))
        must(size(one, "device") == 16)
        body(one)
    must(len({(one["user"], one["device"]) for one in ciphertexts}) == len(ciphertexts))
    users({"users": [one.get("user", "") for one in versions]}, "users", 1, 2)


def history(message):
    target(message)
    must(1 <= message.get("limit", 50) <= 100)
    places = ("before", "after", "before_time_ms", "after_time_ms")
    must(sum(place in message for place in places) <= 1)


def marks(message):
    must(len(message.get("marks", [])) <= 256)
    for mark in message.get("marks", []):
        conversation(mark)
        must(number(mark, "uncounted") <= number(mark, "seq"))


def sign_out(message):
    must(("device" in message) != message.get("all_others", False))
    must(size(message, "device") in (0, 16))


def rename_device(message):
    must(size(message, "device") == 16)
    text(message, "name", 0, 64)


def list_blocks(message):
    if "after" in message:
        a_user(message["after"])
    must(message.get("limit", 0) <= 100)


def list_user_devices(message):
    users(message, "users", 1, 2)
    conversation(message, DIRECT)


def set_conversation(message):
    conversation(message)
    must(message.get("pinned", 0) <= 1000)


def delete_for_me(message):
    conversation(message)
    seqs = message.get("seqs", [])
    must(1 <= len(seqs) <= 100 and all(int(seq) for seq in seqs))


def create_group(message):
    must(size(message, "nonce") == 16)
    text(message, "name", 1, 128)
    text(message, "picture", 0, 256)
    users(message, "members", 0, 0 if message.get("channel") else 1023)


def list_members(message):
    conversation(message, GROUP, CHANNEL)
    must(message.get("limit", 0) <= 500)


def receipt_details(message):
    conversation(message, GROUP)
    must(number(message, "seq") >= 1)


def presence(message):
    users(message, "users", 1, 100)
    if "conversation" in message:
        conversation(message, GROUP)


RULES = {
    "hello": hello,
    "refresh": lambda m: token(m.get("token", "")),
    "send": send,
    "sync": lambda m: must(m.get("limit", 0) <= 500),
    "history": history,
    "delivered": marks,
    "read": marks,
    "activity": lambda m: must(not isinstance(m.get("state", ""), int)),
    "typing": lambda m: conversation(m, DIRECT, GROUP),
    "list_devices": lambda m: None,
    "rename_device": rename_device,
    "sign_out": sign_out,
    "set_privacy": lambda m: must(not isinstance(m.get("presence", ""), int)),
    "block": lambda m: a_user(m.get("user", "")),
    "list_blocks": list_blocks,
    "list_user_devices": list_user_devices,
    "list_conversations": lambda m: must(m.get("limit", 0) <= 500),
    "set_conversation": set_conversation,
    "delete_for_me": delete_for_me,
    "accept_request": lambda m: conversation(m, DIRECT, GROUP),
    "join_channel": lambda m: conversation(m, CHANNEL),
    "create_group": create_group,
    "describe_conversation": lambda m: conversation(m),
    "list_members": list_members,
    "receipt_details": receipt_details,
    "query_presence": presence,
    "watch_presence": presence,
    "watch_channel": lambda m: conversation(m, CHANNEL),
}
