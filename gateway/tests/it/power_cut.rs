//! The machine loses power under load. The data folder is on a file system in a file; the server
//! is stopped, the file copied as it is, and a server started on the copy. What the file system
//! had not written back is not in the copy, so an acknowledgement before the flush is seen: the
//! canary below runs the server that way and must find a loss.
//!
//! A write that was begun goes on while the server is stopped, and is in the copy. So just before
//! the cut the device is held: it takes writes and ends none. Who answers when a write was begun
//! answers then, and what it answered is in no copy; who answers when it was done says nothing.
//!
//! It needs root, `mount` with loop devices, and `mkfs.ext4`; else it is skipped, loudly. Holding
//! needs the blkio controller of cgroup v1; else the power is cut without, as loudly.

use crate::crash::random;
use crate::load::{Load, UNHELD};
use crate::roost::{Driver, Server, Setup, on_both_drivers};
use rustix::fs::{major, minor};
use rustix::process::{Signal, getuid};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tempfile::TempDir;

const IMAGE_BYTES: u64 = 128 * 1024 * 1024;
/// How often an image is read until two readings are equal, for the kernel may be writing to it.
const READINGS_MAX: u32 = 100;
/// Cuts after which the canary must have found a loss.
const CANARY_CUTS_MAX: u32 = 8;
/// Where the kernel is told how many bytes a second a device may be given.
const HOLD: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";
/// So long after the last answer nothing comes from a server that waits for a held device.
const SILENCE: Duration = Duration::from_millis(30);
/// Answers that are waited for from one that does not wait; more than are on their way.
const EARLY_MAX: u32 = 1_000;
const CONFIG: &str = "segment_bytes = 1048576\nlimits.checkpoint_interval_ms = 200\n";

/// A file system in a file, mounted while this lives.
#[derive(Debug)]
struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// A new, empty one.
    fn make(folder: &Path) -> Result<Self, String> {
        let image = folder.join("first.image");
        File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).map_err(text)?;
        let mut mkfs = Command::new("mkfs.ext4");
        // Whatever is left for later would be written while the image is copied.
        mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image);
        run(&mut mkfs)?;
        Self::mount(image)
    }

    fn mount(image: PathBuf) -> Result<Self, String> {
        let point = image.with_extension("mounted");
        fs::create_dir(&point).map_err(text)?;
        let disk = Self { image, point };
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.point))?;
        Ok(disk)
    }

    fn data(&self) -> PathBuf {
        self.point.join("data")
    }

    /// What is on it now, as if the power were gone.
    fn copy(&self, name: &str) -> PathBuf {
        let mut last = fs::read(&self.image).unwrap();
        for _ in 0..READINGS_MAX {
            let again = fs::read(&self.image).unwrap();
            if again == last {
                let copy = self.image.with_file_name(name);
                fs::write(&copy, last).unwrap();
                return copy;
            }
            last = again;
        }
        panic!("the image does not come to rest");
    }
}

/// Ends no write of a disk while this lives: a byte a second is too little for any.
#[derive(Debug)]
struct Hold {
    device: String,
}

impl Hold {
    fn begin(disk: &Disk) -> Option<Self> {
        let number = fs::metadata(&disk.point).unwrap().dev();
        let device = format!("{}:{}", major(number), minor(number));
        fs::write(HOLD, format!("{device} 1"))
            .inspect_err(|error| eprintln!("the disk is NOT HELD before the cut: {error}"))
            .ok()?;
        Some(Self { device })
    }

    /// Waits until nobody is answered any more.
    fn until_silent(&self, answered: &Receiver<()>) {
        let early = (0..EARLY_MAX).take_while(|_| answered.recv_timeout(SILENCE).is_ok()).count();
        eprintln!("{early} answers came after device {} was held", self.device);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // 0 is no bound.
        if let Err(error) = fs::write(HOLD, format!("{} 0", self.device)) {
            eprintln!("device {} stays held: {error}", self.device);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Gives the loop device back too.
        let is_gone =
            |options: &[&str]| run(Command::new("umount").args(options).arg(&self.point)).is_ok();
        if !is_gone(&[]) && !is_gone(&["-l"]) && self.point.join("lost+found").exists() {
            eprintln!("{} stays mounted", self.point.display());
        }
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A disk to pull the plug of, or a loud word.
fn disk(folder: &Path) -> Option<Disk> {
    if !getuid().is_root() {
        eprintln!("SKIPPED, power cuts need root for a loop device");
        return None;
    }
    Disk::make(folder)
        .inspect_err(|error| eprintln!("SKIPPED, there is no disk to cut the power of: {error}"))
        .ok()
}

/// Writes until so many answers are noted; cuts the power; comes up on what is left.
fn cut(
    setup: &Setup,
    load: &mut Load,
    on: (Server, Disk),
    answers: u64,
    name: &str,
) -> (Server, Disk) {
    let (mut server, disk) = on;
    let mut copy = None;
    load.write_until(&server, answers, |answered| {
        let hold = Hold::begin(&disk);
        if let Some(hold) = &hold {
            hold.until_silent(answered);
        }
        server.stop();
        copy = Some(disk.copy(name));
        server.signal(Signal::KILL);
        // It ends when its writes do.
        drop(hold);
    });
    server.kill();
    drop(server);
    drop(disk);
    let disk = Disk::mount(copy.expect("it was made")).expect("the file system recovers");
    (setup.start_on(&disk.data()), disk)
}

/// Two cuts, the second shortly after the recovery from the first. Gives what is wrong after
/// each.
fn round(setup: &Setup, answers: u64) -> Option<Vec<String>> {
    let folder = TempDir::new().unwrap();
    let disk = disk(folder.path())?;
    let mut load = Load::new(6);
    let first = (setup.start_on(&disk.data()), disk);
    let second = cut(setup, &mut load, first, answers, "second.image");
    let mut wrong = load.ask_everybody(&second.0);
    if wrong.is_empty() {
        let third = cut(setup, &mut load, second, 1 + random(100), "third.image");
        wrong = load.ask_everybody(&third.0);
        // The server goes before its disk.
        drop(third.0);
    } else {
        drop(second.0);
    }
    eprintln!("{} answers noted, {} wrong", load.noted(), wrong.len());
    Some(wrong)
}

fn rounds() -> u32 {
    let rounds = std::env::var("ROOST_POWER_CUT_ROUNDS").ok();
    rounds.map_or(1, |rounds| rounds.parse().expect("ROOST_POWER_CUT_ROUNDS is a number"))
}

fn setup(driver: Driver) -> Setup {
    Setup::new(driver).config(&format!("{CONFIG}{UNHELD}"))
}

on_both_drivers! {
    fn a_power_cut_loses_nothing_acknowledged(driver) {
        for number in 0..rounds() {
            let answers = 100 + random(3_000);
            let Some(wrong) = round(&setup(driver), answers) else { return };
            assert_eq!(wrong, [""; 0], "round {number}, after {answers} answers");
        }
    }

    fn an_acknowledgement_before_the_flush_is_found_out(driver) {
        for _ in 0..CANARY_CUTS_MAX {
            let early = setup(driver).durability("interval=10000");
            match round(&early, 500 + random(1_000)) {
                None => return,
                Some(wrong) if wrong.iter().any(|what| what.ends_with("gone")) => return,
                Some(_) => {}
            }
        }
        panic!("{CANARY_CUTS_MAX} times nothing was lost: this test sees nothing");
    }
}
