//! What was asked for, as the result repeats it.

use crate::args::{MixedArgs, Scenario as Wanted, StormArgs, TiesArgs};
use crate::scenario::load::Pace;
use crate::scenario::mix::MixFile;
use crate::scenario::rooms::ACKNOWLEDGE_EVERY_MS;
use serde_json::{Map, Value, json};

/// The settings of a run.
pub(super) fn of(wanted: &Wanted) -> Map<String, Value> {
    let common = wanted.common();
    let mut settings = json!({
        "spawn": common.spawn,
        "server_args": common.server_args,
        "seconds": wanted.seconds(),
        "warmup": common.warmup,
        "rounds": common.rounds,
        "connect_rate": common.connect_rate,
        "connections": wanted.connections(),
        "tls": format!("{:?}", common.tls).to_lowercase(),
    });
    if let Some(program) = &common.server_program {
        settings["server_program"] = json!(program);
    }
    if let Some(seconds) = common.heartbeat {
        settings["heartbeat_seconds"] = json!(seconds);
    }
    if !common.target.is_roost() {
        settings["target"] = json!(common.target.label());
    }
    if let Some(load) = wanted.load() {
        settings["body_bytes"] = json!(load.body_bytes);
        settings["acknowledged_every_ms"] = json!(ACKNOWLEDGE_EVERY_MS);
        match load.pace(wanted.default_rate()) {
            Pace::Rate(rate) => settings["rate"] = json!(rate),
            Pace::Window(window) => settings["window"] = json!(window),
        }
    }
    match wanted {
        Wanted::Pairs(args) => settings["pairs"] = json!(args.pairs),
        Wanted::Fanout(args) => {
            settings["subscribers"] = json!(args.subscribers);
        }
        Wanted::Hot(_) => {}
        Wanted::Slow(args) => {
            settings["subscribers"] = json!(args.subscribers);
            settings["stalled_percent"] = json!(args.stalled);
            settings["stall_seconds"] = json!(args.stall);
        }
        Wanted::Mixed(args) => settings["mix"] = mix(args),
        Wanted::Soak(args) => {
            settings["mix"] = mix(&args.mixed);
            settings["leak_mib_per_hour"] = json!(args.leak);
        }
        Wanted::Storm(args) => storm(&mut settings, args),
        Wanted::Capacity(args) => {
            settings["of"] = json!(format!("{:?}", args.of).to_lowercase());
            settings["pairs"] = json!(args.pairs);
            settings["body_bytes"] = json!(args.body_bytes);
            settings["goal_ms"] = json!(args.goal_ms);
        }
        Wanted::Idle(args) => {
            settings["ties"] = ties(&args.ties);
            settings["rate"] = json!(args.rate);
            if args.restart {
                settings["restart"] = json!(true);
            }
            settings["peers"] = json!(format!("{:?}", args.peers).to_lowercase());
        }
        Wanted::Catchup(args) => {
            settings["users"] = json!(args.users);
            settings["ties"] = ties(&args.ties);
            settings["fresh"] = json!(args.fresh);
            settings["over_seconds"] = json!(args.over);
            settings["handshakes_at_once"] = json!(args.at_once);
            settings["restart"] = json!(args.restart);
        }
    }
    settings.as_object().cloned().unwrap_or_default()
}

fn storm(settings: &mut Value, args: &StormArgs) {
    settings["away_seconds"] = json!(args.away);
    settings["handshakes_at_once"] = json!(args.at_once);
    settings["peers"] = json!(format!("{:?}", args.peers).to_lowercase());
    settings["talkers"] = json!(args.talkers);
    settings["rate"] = json!(args.rate);
}

/// The whole mix, so that a result says what was done without its file.
fn mix(args: &MixedArgs) -> Value {
    let mix = MixFile::of(args.mix.as_deref());
    mix.ok().and_then(|mix| serde_json::to_value(mix).ok()).unwrap_or_default()
}

fn ties(args: &TiesArgs) -> Value {
    json!({
        "conversations": args.conversations,
        "groups": args.groups,
        "group_size": args.group_size,
    })
}
