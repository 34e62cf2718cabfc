//! Frames of a machine that was recorded: two looks, in a tree that stands for `/`.

use super::super::sample::Sample;
use super::*;
use crate::root::Root;
use expect_test::{Expect, expect, expect_file};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyEventState;
use std::fs;

/// What `/proc` showed: a server with 400,000 connections, in a storm at the second look.
const FIRST: [(&str, &str); 12] = [
    ("net/sockstat", "sockets: used 400120\nTCP: inuse 400010 orphan 7 tw 1200 alloc 1 mem 900\n"),
    (
        "net/netstat",
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPMemoryPressures TCPAbortOnMemory \
         TCPBacklogDrop TCPTimeWaitOverflow TCPReqQFullDrop\nTcpExt: 0 10 10 0 0 0 0 0\n",
    ),
    ("net/snmp", "Tcp: EstabResets OutSegs RetransSegs\nTcp: 5 100000 40\n"),
    ("net/softnet_stat", "00000100 00000000 0\n00000100 00000000 0\n"),
    ("stat", "cpu 0\ncpu0 100 0 100 800 0 0 0 0 0 0\ncpu1 100 0 100 800 0 0 0 0 0 0\n"),
    ("meminfo", "MemTotal: 8000000 kB\nMemFree: 4000000 kB\nActive(file): 100000 kB\n"),
    ("sys/fs/file-nr", "401000\t0\t420000\n"),
    ("sys/fs/file-max", "420000\n"),
    ("sys/net/ipv4/tcp_mem", "90000\t120000\t180000\n"),
    ("sys/net/ipv4/tcp_max_orphans", "32768\n"),
    ("sys/net/ipv4/tcp_max_tw_buckets", "32768\n"),
    ("slabinfo", "TCP 400010 400010 2368 13 8 : tunables 0 0 0 : slabdata 30770 30770 0\n"),
];
const SECOND: [(&str, &str); 6] = [
    ("slabinfo", "TCP 404010 404010 2368 13 8 : tunables 0 0 0 : slabdata 31078 31078 0\n"),
    ("net/sockstat", "sockets: used 404120\nTCP: inuse 404010 orphan 7 tw 1200 alloc 1 mem 900\n"),
    (
        "net/netstat",
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPMemoryPressures TCPAbortOnMemory \
         TCPBacklogDrop TCPTimeWaitOverflow TCPReqQFullDrop\nTcpExt: 0 310 310 0 0 0 0 0\n",
    ),
    ("net/snmp", "Tcp: EstabResets OutSegs RetransSegs\nTcp: 5 140000 40\n"),
    ("stat", "cpu 0\ncpu0 110 0 110 810 0 0 70 0 0 0\ncpu1 110 0 110 880 0 0 0 0 0 0\n"),
    ("sys/fs/file-nr", "405000\t0\t420000\n"),
];

/// The two looks, two seconds apart, and a third one that is as the second.
fn recorded() -> Vec<View> {
    let folder = tempfile::tempdir().unwrap();
    let write = |files: &[(&str, &str)]| {
        for (path, text) in files {
            let path = folder.path().join("proc").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    };
    let root = Root::new(folder.path());
    write(&FIRST);
    let first = Sample::read(&root, None, 1_000);
    write(&SECOND);
    let second = Sample::read(&root, None, 3_000);
    let third = Sample { at_ms: 5_000, ..second.clone() };
    vec![
        View::between(&first, &first),
        View::between(&first, &second),
        View::between(&second, &third),
    ]
}

/// What is on the screen, line by line.
fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let lines = buffer.content().chunks(width.max(1)).map(|line| {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// Which lines are red.
fn red(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(buffer.area.width));
    let red = lines.filter(|line| line[0].fg == Color::Red);
    red.map(|line| line.iter().take(34).map(|cell| cell.symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn frame(view: &View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, 0)).unwrap();
    terminal
}

#[track_caller]
fn shows(terminal: &Terminal<TestBackend>, expected: &Expect) {
    expected.assert_eq(&text(terminal));
}

#[test]
fn bars_end_at_their_limit() {
    assert_eq!(bar(None), "");
    assert_eq!(bar(Some(500)).matches('█').count(), 10);
    assert_eq!(bar(Some(9_999)).chars().count(), BAR);
}

#[test]
fn a_wide_terminal_shows_all() {
    let terminal = frame(&recorded()[1], 120, 26);
    expect_file!["wide.txt"].assert_eq(&text(&terminal));
    assert_eq!(red(&terminal), ["open files", "accept queue overflows", "connects dropped"]);
}

#[test]
fn the_usual_terminal_leaves_out_what_it_can() {
    shows(
        &frame(&recorded()[1], 80, 24),
        &expect![[r#"
                                               now         used    a second  left
            memory in use                      3.7 GiB     48.7 %  -         831,787
            open files                         405,000     96.4 %  -         15,000
            memory of buffers (tcp_mem)        3.5 MiB     0.7 %   -         -
            orphans                            7           0.0 %   -         -
            in TIME_WAIT                       1,200       3.6 %   -         -
            slabs of sockets                   971.1 MiB   -       4.8 MiB   -
            softirq of the busiest core        70.0 %      70.0 %  -         -
            accept queue overflows             310         -       150       -
            connects dropped                   310         -       150       -
            handshakes dropped                 0           -       0         -
            cookies sent                       0           -       0         -
            times memory was saved             0           -       0         -
            refused for memory (ENOBUFS)       0           -       0         -
            dropped behind a busy socket       0           -       0         -
            TIME_WAIT overflows                0           -       0         -
            segments sent again                40          -       0         -
            segments sent                      140,000     -       20,000    -
            connections reset                  5           -       0         -
            packets dropped for want of room   0           -       0         -


            404,010 sockets of TCP; about 15,000 more connections, then open files
            q ends it, space looks now
        "#]],
    );
}

#[test]
fn a_small_terminal_shows_what_fits() {
    shows(
        &frame(&recorded()[1], 60, 6),
        &expect![[r#"
                                           now         used
        memory in use                      3.7 GiB     48.7 %
        open files                         405,000     96.4 %
        memory of buffers (tcp_mem)        3.5 MiB     0.7 %
        404,010 sockets of TCP; about 15,000 more connections, then
        q ends it, space looks now, arrows scroll: 16 rows more
    "#]],
    );
    for (width, height) in [(1, 1), (3, 2), (200, 1), (1, 200), (0, 0)] {
        frame(&recorded()[1], width, height);
    }
}

#[test]
fn keys_and_sizes_mean_something() {
    let key = |code, modifiers, kind| {
        meaning(&Event::Key(KeyEvent { code, modifiers, kind, state: KeyEventState::NONE }))
    };
    let press = |code| key(code, KeyModifiers::NONE, KeyEventKind::Press);
    assert_eq!(press(KeyCode::Char('q')), Some(Next::Leave));
    assert_eq!(press(KeyCode::Esc), Some(Next::Leave));
    assert_eq!(press(KeyCode::Char(' ')), Some(Next::Look));
    assert_eq!(press(KeyCode::PageUp), Some(Next::Scroll(-10)));
    assert_eq!(press(KeyCode::Char('c')), None, "only with Ctrl");
    let control = |kind| key(KeyCode::Char('c'), KeyModifiers::CONTROL, kind);
    assert_eq!(control(KeyEventKind::Press), Some(Next::Leave));
    assert_eq!(control(KeyEventKind::Release), None);
    assert_eq!(press(KeyCode::Char('x')), None);
    assert_eq!(meaning(&Event::Resize(10, 4)), Some(Next::Draw));
    assert_eq!(meaning(&Event::FocusLost), None);
}

#[test]
fn it_looks_scrolls_and_leaves_as_it_is_told() {
    let views = recorded();
    let mut terminal = Terminal::new(TestBackend::new(80, 10)).unwrap();
    let script = [
        Next::Look,
        Next::Scroll(10),
        Next::Scroll(100),
        Next::Draw,
        Next::Scroll(-100),
        Next::Leave,
    ];
    let mut steps = script.into_iter();
    let mut looked = 0;
    let ended = show(
        &mut terminal,
        &mut || {
            looked += 1;
            views[looked - 1].clone()
        },
        &mut || Ok(steps.next().unwrap()),
    );
    assert!(ended.is_ok() && steps.next().is_none());
    assert_eq!(looked, 2, "the first one, and one that was asked for");
    assert!(text(&terminal).contains("memory in use"), "at the top again");
    // As far down as there is anything, on a terminal that became smaller meanwhile.
    let mut steps = [Next::Scroll(300), Next::Leave].into_iter();
    let mut small = Terminal::new(TestBackend::new(80, 5)).unwrap();
    show(&mut small, &mut || views[1].clone(), &mut || Ok(steps.next().unwrap())).unwrap();
    shows(
        &small,
        &expect![[r#"
                                           now         used    a second  left
        connections reset                  5           -       0         -
        packets dropped for want of room   0           -       0         -
        404,010 sockets of TCP; about 15,000 more connections, then open files
        q ends it, space looks now, arrows scroll: 0 rows more
    "#]],
    );
    // The terminal becomes larger: all of it is there again.
    small.backend_mut().resize(120, 30);
    let mut steps = [Next::Draw, Next::Leave].into_iter();
    show(&mut small, &mut || views[1].clone(), &mut || Ok(steps.next().unwrap())).unwrap();
    let all = text(&small);
    assert!(all.contains("memory in use") && all.contains("packets dropped"), "{all}");
    // A terminal that fails ends it with its error.
    let failed =
        show(&mut small, &mut || views[1].clone(), &mut || Err(io::ErrorKind::Other.into()));
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::Other);
}
