//! The rules of this repository that no lint knows. Each check gives what it minds, with the
//! file and what to do instead, and has a small test of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const LINE_COLUMNS_MAX: usize = 100;

/// Modules of the standard library that reach outside, or depend on what runs beside.
const OUTSIDE: &[&str] =
    &["env", "fs", "io", "net", "os", "process", "thread", "sync", "time", "arch", "backtrace"];
/// Crates that do.
const OUTSIDE_CRATES: &[&str] = &[
    "axum",
    "clap",
    "crossbeam_utils",
    "getrandom",
    "io_uring",
    "libc",
    "memmap2",
    "mio",
    "roost_event_loop",
    "rtrb",
    "rustix",
    "signal_hook",
    "socket2",
    "tokio",
    "tracing",
];
/// Where nothing of the outside belongs, except in the second.
const PURE: &[(&str, &[&str])] = &[
    ("gateway/src/shard/", &[]),
    // Keys of tickets are shared by all shards of a process, and replaced.
    ("gateway/detached-tls/src/", &["gateway/detached-tls/src/tickets.rs"]),
    ("protocol/src/", &[]),
    ("protocol/client/src/", &["protocol/client/src/blocking.rs"]),
    ("storage-engine/src/", &["storage-engine/src/disk/"]),
    ("kernel-tuning/src/settings/", &[]),
    ("kernel-tuning/src/check.rs", &[]),
    ("kernel-tuning/src/plan.rs", &[]),
    ("kernel-tuning/src/cost.rs", &[]),
];
/// Imports that are harmless where they stand. This list only shrinks.
const HARMLESS: &[(&str, &str)] = &[
    // Data that is shared and never written: a count, not a lock.
    ("gateway/src/shard/", "sync::Arc"),
    ("storage-engine/src/", "sync::Arc"),
    ("gateway/detached-tls/src/", "sync::Arc"),
    // Addresses are numbers: whose a connection is.
    ("gateway/src/shard/", "net::IpAddr"),
    ("gateway/src/shard/", "net::Ipv4Addr"),
    ("gateway/src/shard/", "net::Ipv6Addr"),
];

/// A file of the repository, its path from the top.
#[derive(Debug, Clone)]
struct Source {
    path: String,
    text: String,
}

/// What is minded, a line each.
type Complaints = Vec<String>;

// ---- reading ----

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every path of the repository that could be in it, folders included.
fn paths() -> BTreeSet<String> {
    let (top, mut found) = (top(), BTreeSet::new());
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // What cargo builds into says so; a module may be called the same.
            let is_built = name == "target" && path.join("CACHEDIR.TAG").exists();
            if is_built || [".git", "roost-data", "venv"].contains(&name) {
                continue;
            }
            found.insert(path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

fn read(path: &str) -> Source {
    let text = fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    Source { path: path.to_owned(), text }
}

fn sources(extension: &str) -> Vec<Source> {
    let ending = format!(".{extension}");
    paths().iter().filter(|path| path.ends_with(&ending)).map(|path| read(path)).collect()
}

/// Runs a check over files and asserts that nothing is minded.
#[track_caller]
fn nothing_is_minded(files: &[Source], check: impl Fn(&Source) -> Complaints) {
    assert!(!files.is_empty(), "there is nothing to check");
    let all: Complaints = files.iter().flat_map(check).collect();
    assert!(all.is_empty(), "{} complaints:\n{}", all.len(), all.join("\n"));
}

// ---- imports ----

/// The text without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let is_test = |line: &str| line.trim_end() == "#[cfg(test)]";
    let lines = text.lines().take_while(|line| !is_test(line));
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path below a root as it is used: `fs::{self, File}` below `std` gives `fs::self` and
/// `fs::File`.
fn paths_below(code: &str, root: &str) -> BTreeSet<String> {
    let start = format!("{root}::");
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins = |at: &usize| !code[..*at].ends_with(|c: char| is_name(c) || c == ':');
    let places = code.match_indices(&start).map(|(at, _)| at).filter(begins);
    places.flat_map(|at| expand(&code[at + start.len()..])).collect()
}

/// The paths at the start of a text, with their groups in braces multiplied out.
fn expand(text: &str) -> Vec<String> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return members(group).into_iter().flat_map(expand).collect();
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest).into_iter().map(|path| format!("{name}::{path}")).collect(),
        None => vec![name.to_owned()],
    }
}

/// What stands between the commas of a group whose brace is open.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0_u32, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[from..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|member| !member.trim().is_empty());
    found
}

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|(folder, but)| {
        path.starts_with(folder) && !but.iter().any(|but| path.starts_with(but))
    })
}

fn imports(source: &Source) -> Complaints {
    if !is_pure(&source.path) {
        return Complaints::new();
    }
    let code = code(&source.text);
    let harmless = |import: &String| {
        HARMLESS.iter().any(|(place, path)| {
            let below = import.strip_prefix(path);
            source.path.starts_with(place)
                && below.is_some_and(|b| b.is_empty() || b.starts_with("::"))
        })
    };
    let outside = |import: &String| OUTSIDE.iter().any(|o| import.split("::").next() == Some(*o));
    let mut found: Complaints = paths_below(&code, "std")
        .into_iter()
        .filter(|import| outside(import) && !harmless(import))
        .map(|import| format!("{}: std::{import}: return it as an output instead", source.path))
        .collect();
    let crates = OUTSIDE_CRATES.iter().filter(|name| !paths_below(&code, name).is_empty());
    found.extend(crates.map(|name| format!("{}: {name}: belongs into a driver", source.path)));
    found
}

#[test]
fn the_pure_parts_import_nothing_of_the_outside() {
    nothing_is_minded(&sources("rs"), imports);
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let minded = |path: &str, text: &str| {
        imports(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    };
    let shard = "gateway/src/shard/edge/queue.rs";
    assert_eq!(minded(shard, "use std::fs;"), 1);
    assert_eq!(minded(shard, "use std::{fmt, net::{UdpSocket, TcpStream}, io};"), 3);
    assert_eq!(minded(shard, "use std::net::{IpAddr, TcpStream};"), 1);
    assert_eq!(minded(shard, "let now = std::time::Instant::now();"), 1);
    assert_eq!(minded(shard, "use std::sync::{Arc, Mutex};"), 1);
    assert_eq!(minded(shard, "use tokio::net;\nuse my_tokio::net;"), 1);
    assert_eq!(minded(shard, "use std::fmt; // std::fs\n#[cfg(test)]\nuse std::fs;"), 0);
    assert_eq!(minded("gateway/src/driver/worker.rs", "use std::fs;"), 0);
    assert_eq!(minded("storage-engine/src/disk/files.rs", "use std::fs;"), 0);
    assert_eq!(minded("storage-engine/src/store/mod.rs", "use std::sync::Arc;"), 0);
    assert_eq!(minded("storage-engine/src/store/mod.rs", "use std::sync::Mutex;"), 1);
    assert_eq!(minded("protocol/client/src/blocking.rs", "use std::net;"), 0);
}

// ---- size ----

fn size(source: &Source) -> Complaints {
    let path = &source.path;
    let long = |(at, line): (usize, &str)| {
        let columns = line.chars().count();
        let text = format!("{path}:{}: {columns} columns, {LINE_COLUMNS_MAX} fit", at + 1);
        (columns > LINE_COLUMNS_MAX).then_some(text)
    };
    let mut found: Complaints = source.text.lines().enumerate().filter_map(long).collect();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{path}: {lines} lines, split it by its nouns at {FILE_LINES_MAX}"));
    }
    found
}

#[test]
fn files_and_lines_are_short() {
    nothing_is_minded(&sources("rs"), size);
}

#[test]
fn long_lines_and_files_are_counted() {
    let minded = |text: String| size(&Source { path: "a.rs".to_owned(), text }).len();
    assert_eq!(minded("é".repeat(100)), 0);
    assert_eq!(minded("x".repeat(101)), 1);
    assert_eq!(minded("\n".repeat(800)), 0);
    assert_eq!(minded("\n".repeat(801)), 1);
}

// ---- statements that say nothing ----

/// A `matches!` whose result nobody takes: it begins a statement and a semicolon ends it.
fn bare_matches(source: &Source) -> Complaints {
    let (mut found, mut before, mut at) = (Complaints::new(), ';', 0);
    for (number, line) in source.text.lines().enumerate() {
        let begins = line.trim_start().starts_with("matches!(");
        if begins && [';', '{', '}'].contains(&before) && ends_as_statement(&source.text[at..]) {
            let place = format!("{}:{}", source.path, number + 1);
            found.push(format!("{place}: it asserts nothing: write assert!(matches!(…))"));
        }
        let code = line.split("//").next().unwrap_or_default().trim_end();
        before = code.chars().next_back().unwrap_or(before);
        at += line.len() + 1;
    }
    found
}

fn ends_as_statement(text: &str) -> bool {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return text[at + 1..].trim_start().starts_with(';'),
            ')' => depth -= 1,
            _ => {}
        }
    }
    false
}

#[test]
fn no_statement_only_matches() {
    nothing_is_minded(&sources("rs"), bare_matches);
}

#[test]
fn a_bare_statement_is_told_from_a_value() {
    let minded =
        |text: &str| bare_matches(&Source { path: "a.rs".to_owned(), text: text.to_owned() }).len();
    assert_eq!(minded("let a = 1;\n  matches!(a, Some(1));\n"), 1);
    assert_eq!(minded("fn f() {\n    matches!(\n        a,\n        Some(_)\n    );\n}\n"), 1);
    assert_eq!(minded("fn f() -> bool {\n    matches!(a, Some(_))\n}\n"), 0);
    assert_eq!(minded("assert!(\n    matches!(a, Some(_))\n);\n"), 0);
    assert_eq!(minded("let b =\n    matches!(a, Some(_));\n"), 0);
}

// ---- what is compiled when ----

fn conditions(source: &Source) -> Complaints {
    let Source { path, text } = source;
    let mut found = Complaints::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        let place = format!("{path}:{}", at + 1);
        if line.starts_with(concat!("#[cfg", "(feature")) && path.starts_with("gateway/") {
            found.push(format!("{place}: the shipped binary has no features"));
        }
        if line != "#[cfg(test)]" {
            continue;
        }
        while lines.peek().is_some_and(|(_, line)| line.trim().starts_with("#[")) {
            lines.next();
        }
        if !lines.peek().is_some_and(|(_, line)| line.trim().starts_with("mod tests")) {
            found.push(format!("{place}: put what only tests use into mod tests"));
        }
    }
    found
}

#[test]
fn only_tests_are_compiled_for_tests() {
    nothing_is_minded(&sources("rs"), conditions);
}

#[test]
fn conditions_elsewhere_are_seen() {
    let minded = |text: &str| {
        conditions(&Source { path: "gateway/src/a.rs".to_owned(), text: text.to_owned() }).len()
    };
    assert_eq!(minded("#[cfg(test)]\nmod tests {\n}\n"), 0);
    assert_eq!(minded("#[cfg(test)]\n#[expect(dead_code)]\nmod tests {\n}\n"), 0);
    assert_eq!(minded("#[cfg(test)]\nfn helper() {}\n"), 1);
    assert_eq!(minded("    #[cfg(test)]\n    pub(crate) fn helper() {}\n"), 1);
    assert_eq!(minded(concat!("#[cfg", "(feature = \"a\")]\nmod a;\n")), 1);
}

// ---- files that nobody compiles ----

/// The files in which the module of this file may be declared; none for the root of a crate.
fn parents(path: &str) -> Option<(String, Vec<String>)> {
    let (folder, file) = path.rsplit_once('/')?;
    let stem = file.strip_suffix(".rs")?;
    let is_root = ["lib", "main", "build"].contains(&stem)
        || ["bin", "fuzz", "fuzz_targets", "examples", "benches", "tests"]
            .contains(&folder.rsplit('/').next()?);
    if is_root {
        return None;
    }
    let (folder, name) = if stem == "mod" { folder.rsplit_once('/')? } else { (folder, stem) };
    let candidates = ["mod.rs", "lib.rs", "main.rs"].map(|file| format!("{folder}/{file}"));
    Some((name.to_owned(), candidates.to_vec()))
}

/// Each file of a folder of tests is a crate's root, so any of them may.
fn may_declare(path: &str, candidates: &[String]) -> bool {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let of_tests = folder(&candidates[0]).filter(|folder| folder.ends_with("/tests"));
    candidates.iter().any(|candidate| candidate == path)
        || (of_tests.is_some() && folder(path) == of_tests)
}

fn declares(text: &str, name: &str) -> bool {
    let ending = format!("mod {name};");
    text.lines().any(|line| {
        let line = line.split("//").next().unwrap_or_default().trim();
        line == ending || line.ends_with(&format!(" {ending}"))
    })
}

#[test]
fn every_source_file_is_compiled() {
    let all = sources("rs");
    nothing_is_minded(&all, |source| {
        let Some((name, candidates)) = parents(&source.path) else { return Complaints::new() };
        let is_parent = |file: &&Source| may_declare(&file.path, &candidates);
        if all.iter().filter(is_parent).any(|parent| declares(&parent.text, &name)) {
            return Complaints::new();
        }
        vec![format!("{}: no file says mod {name}: say it, or remove the file", source.path)]
    });
}

#[test]
fn a_module_is_declared_above_it() {
    let (name, candidates) = parents("a/src/b/c.rs").unwrap();
    assert_eq!((name.as_str(), candidates[0].as_str()), ("c", "a/src/b/mod.rs"));
    let (name, candidates) = parents("a/src/b/mod.rs").unwrap();
    assert_eq!((name.as_str(), candidates[1].as_str()), ("b", "a/src/lib.rs"));
    assert_eq!(parents("a/src/lib.rs"), None);
    let (_, candidates) = parents("a/tests/shared/mod.rs").unwrap();
    assert!(may_declare("a/tests/one.rs", &candidates));
    assert!(!may_declare("a/tests/it/one.rs", &candidates));
    assert_eq!(parents("a/src/bin/tool.rs"), None);
    assert!(declares("pub(crate) mod c;\n", "c") && declares("mod c; // the sea\n", "c"));
    assert!(!declares("// mod c;\nmod cc;\n", "c"));
}

// ---- pages that tell the truth ----

/// What stands in backticks, outside of blocks of code.
fn in_backticks(text: &str) -> Vec<&str> {
    let outside = text.split("\n```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Whether somebody who reads this expects a file or folder of the repository.
fn names_a_path(text: &str, all: &BTreeSet<String>) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.chars().all(is_plain) || text.starts_with(['/', '.']) {
        return false;
    }
    let is_source = [".rs", ".md", ".proto", ".py"].iter().any(|end| text.ends_with(end));
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    let is_below = ["src", "tests"].contains(&first) || all.contains(first);
    text != first && is_below && !rest.starts_with("target") || is_source
}

fn pages(source: &Source, all: &BTreeSet<String>) -> Complaints {
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        let ending = format!("/{path}");
        all.contains(path) || all.iter().any(|known| known.ends_with(&ending))
    };
    in_backticks(&source.text)
        .into_iter()
        .filter(|text| names_a_path(text, all) && !exists(text))
        .map(|text| format!("{}: `{text}` is not there: name what is", source.path))
        .collect()
}

#[test]
fn pages_name_only_what_exists() {
    let all = paths();
    let mut named: Vec<Source> = all
        .iter()
        .filter(|path| path.ends_with(".md") && !path.contains('/'))
        .map(|path| read(path))
        .collect();
    let guides = ["protocol/PROTOCOL.md", "storage-engine/FORMAT.md", "kernel-tuning/README.md"];
    named.extend(guides.map(read));
    nothing_is_minded(&named, |source| pages(source, &all));
}

#[test]
fn a_path_in_a_page_is_known_as_one() {
    let all = BTreeSet::from(["a", "a/src", "a/src/b.rs", "a/src/c"].map(str::to_owned));
    let minded =
        |text: &str| pages(&Source { path: "a.md".to_owned(), text: text.to_owned() }, &all).len();
    assert_eq!(minded("`a/src/b.rs`, `src/b.rs`, `b.rs`, `a/src/`, `src/c`"), 0);
    assert_eq!(minded("`a/b.rs` and `c.rs`, `src/d` and `other.rs`"), 4);
    assert_eq!(minded("`roost/1`, `/metrics`, `./roost-data`, `Send`, `request_id`, `00`"), 0);
    assert_eq!(minded("a\n```\n`gone.rs`\n```\nb `gone.rs`"), 1);
}

// ---- dependencies ----

fn dependencies(source: &Source) -> Complaints {
    let mut found = Complaints::new();
    let mut is_inside = false;
    for (at, line) in source.text.lines().enumerate() {
        if line.starts_with('[') {
            is_inside = line.trim() == "[workspace.dependencies]";
        } else if is_inside && line.contains('=') && !line.starts_with('#') {
            let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason.trim());
            if reason.is_empty() {
                let place = format!("{}:{}", source.path, at + 1);
                found.push(format!("{place}: end the line with # and why it is needed"));
            }
        }
    }
    found
}

#[test]
fn every_dependency_has_a_reason() {
    nothing_is_minded(&[read("Cargo.toml")], dependencies);
}

#[test]
fn a_dependency_without_a_reason_is_seen() {
    let text = "[workspace.dependencies]\n# Ours.\na = \"1\" # a reason\nb = \"1\"\nc = \"1\" # \n\
                [profile.dev]\nd = 1\n";
    let source = Source { path: "Cargo.toml".to_owned(), text: text.to_owned() };
    assert_eq!(dependencies(&source).len(), 2);
}

// ---- lists that must be complete ----

/// The names of an enum's variants.
fn variants<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("pub enum {name} {{\n");
    let (_, body) = text.split_once(&start).unwrap_or_default();
    let (body, _) = body.split_once("\n}").unwrap_or_default();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.filter_map(|line| line.split([',', ' ', '(', '{']).next()).collect()
}

#[test]
fn every_report_becomes_a_log_line() {
    let report = read("gateway/src/shard/report.rs");
    let log = code(&read("gateway/src/driver/log.rs").text);
    let all = variants(&report.text, "Report");
    assert!(all.len() > 5, "{all:?}");
    for name in all {
        assert!(paths_below(&log, "Report").contains(name), "log.rs does not handle {name}");
    }
}

#[test]
fn every_error_code_is_in_the_protocol_page() {
    let page = read("protocol/PROTOCOL.md").text;
    let schema = read("protocol/proto/roost.proto").text;
    let codes = schema.lines().filter_map(|line| {
        let (name, number) = line.trim().strip_prefix("ERROR_")?.split_once(" = ")?;
        Some((name.to_ascii_lowercase(), number.split(';').next()?.to_owned()))
    });
    let codes: Vec<(String, String)> = codes.filter(|(_, number)| number != "0").collect();
    assert!(codes.len() > 30, "{codes:?}");
    for (name, number) in codes {
        let row = format!("| `{name}` | {number} |");
        assert!(page.contains(&row), "PROTOCOL.md has no row {row}");
    }
}

#[test]
fn every_vector_file_is_in_the_protocol_page() {
    let page = read("protocol/PROTOCOL.md").text;
    let files: Vec<String> =
        paths().into_iter().filter(|path| path.starts_with("protocol/vectors/")).collect();
    assert!(!files.is_empty());
    for file in files {
        assert!(page.contains(&format!("`{file}`")), "PROTOCOL.md does not name {file}");
    }
}

#[test]
fn variants_are_found_in_their_enum_only() {
    let text = "pub enum Other {\n    No,\n}\n/// A.\npub enum Report {\n    /// Doc.\n    \
                One,\n    Two {\n        /// Field.\n        field: u8,\n    },\n    \
                Three(u8),\n}\npub enum Last {\n    No,\n}\n";
    assert_eq!(variants(text, "Report"), ["One", "Two", "Three"]);
}

// ---- left for later ----

fn left_for_later(source: &Source) -> Complaints {
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
    let lines = source.text.lines().enumerate();
    let marked = lines.filter(|(_, line)| {
        let is_word = |word: &str| marks.contains(&word);
        line.split(|c: char| !c.is_ascii_alphanumeric()).any(is_word)
    });
    marked.map(|(at, _)| format!("{}:{}: do it or open an issue", source.path, at + 1)).collect()
}

#[test]
fn nothing_is_left_for_later() {
    let files = [sources("rs"), sources("md"), sources("toml"), sources("proto")].concat();
    nothing_is_minded(&files, left_for_later);
}

#[test]
fn marks_of_unfinished_work_are_seen() {
    let minded = |text: &str| {
        left_for_later(&Source { path: "a.rs".to_owned(), text: text.to_owned() }).len()
    };
    assert_eq!(minded(concat!("// FIX", "ME: later\nlet a = 1; // TO", "DO\n")), 2);
    assert_eq!(minded("let mastodon = 1;\n"), 0);
}
