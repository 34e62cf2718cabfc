//! What keeps a server from starting: it says which file or setting it is and what to do, and
//! ends with a code that is not 0.

use crate::device::{Device, message};
use crate::roost::{Setup, on_both_drivers};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Asserts that an operator is told all of this.
#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// The segments of a store that begin with a run of their own, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("store")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "active" || e == "sealed"));
    paths.sort();
    paths
}

/// Everything in the store's folder but the lock.
fn contents(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths = segments(data);
    paths.push(data.join("store").join("catalogue"));
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The file and the place of some text in it.
fn find(data: &Path, text: &[u8]) -> (PathBuf, usize) {
    let is_here = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).position(|window| window == text)
    };
    segments(data)
        .into_iter()
        .find_map(|path| is_here(&path).map(|at| (path, at)))
        .expect("the message is in the log")
}

on_both_drivers! {
    fn a_bad_configuration(driver) {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let missing = folder.path().join("missing.pem");
        let key = format!(
            "[[auth.keys]]\nkid = \"app\"\nalgorithm = \"EdDSA\"\nfile = {:?}\n",
            missing
        );
        let wrong: [(&str, &[&str]); 9] = [
            ("lmits.drain_ms = 1\n", &["FILES/roost.toml", "line 1", "unknown field `lmits`"]),
            ("limits.drain = 1\n", &["FILES/roost.toml", "unknown field `drain`"]),
            ("limits.drain_ms = \"1 s\"\n", &["FILES/roost.toml", "line 1", "invalid type"]),
            ("limits =\n", &["FILES/roost.toml", "line 1"]),
            (
                "limits.requests_in_flight_max = 0\n",
                &["limits.requests_in_flight_max is 0", "choose a number from 1 to 256"],
            ),
            ("segment_bytes = 4096\n", &["segment_bytes is 4096", "choose a number from 1048576"]),
            (
                "limits.body_max_bytes = 65536\nlimits.frame_max_bytes = 65536\n",
                &["limits.body_max_bytes", "limits.frame_max_bytes", "lower the first or raise"],
            ),
            ("[auth]\naudience = \"a\"\n", &["auth.audience", "auth.keys", "add the app's key"]),
            (&key, &[missing.to_str().unwrap(), "check the path and who owns it"]),
        ];
        for (config, parts) in wrong {
            says(&Setup::new(driver).config(config).refused_on(&data, &[]), parts);
        }
        let setup = Setup::new(driver);
        let exposed = setup.refused_on(&data, &["--tcp", "0.0.0.0:0"]);
        says(&exposed, &["tcp is 0.0.0.0:0", "--allow-plaintext"]);
        let exposed = setup.refused_on(&data, &["--admin", "0.0.0.0:0"]);
        says(&exposed, &["admin is 0.0.0.0:0", "choose a loopback address"]);
        says(&setup.refused_on(&data, &["--tcp", "off"]), &["tcp and tls are both off"]);
        let config = "tls_certificate = \"a.pem\"\ntls_key = \"b.pem\"\n";
        let tls = Setup::new(driver).config(config).refused_on(&data, &["--tls", "127.0.0.1:0"]);
        says(&tls, &["a.pem", "tls_certificate", "tls_key"]);
    }

    fn a_configuration_file_that_is_not_there(driver) {
        let folder = TempDir::new().unwrap();
        let missing = folder.path().join("missing.toml");
        let mut command = Setup::new(driver).bare_command();
        command.arg("--config").arg(&missing);
        let said = crate::roost::refused(&mut command);
        says(&said, &[missing.to_str().unwrap(), "cannot read", "check --config"]);
    }

    fn a_port_in_use(driver) {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().to_string();
        let setup = Setup::new(driver);
        for option in ["--tcp", "--tls", "--admin"] {
            let said = setup.refused_on(&data, &[option, &taken]);
            says(&said, &[&taken, "in use", option]);
        }
        // Another server has it: both would share the port and each get half the devices.
        let server = setup.start();
        let taken = server.tcp.to_string();
        says(&setup.refused_on(&data, &["--tcp", &taken]), &[&taken, "in use", "--tcp"]);
        Device::sign_in(&server, "ann").leave();
    }

    fn a_data_folder_that_cannot_be_written(driver) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "no folder").unwrap();
        // As root nothing else is unwritable: a file in the way, and a folder of the kernel's.
        for data in [file.join("data"), file, PathBuf::from("/proc/roost-data")] {
            let said = Setup::new(driver).refused_on(&data, &[]);
            says(&said, &["data folder DATA", "--data", "writable"]);
        }
    }

    fn a_data_folder_in_use(driver) {
        let server = Setup::new(driver).start();
        let pid = server.pid().to_string();
        let catalogue = server.data().join("store").join("catalogue");
        let before = fs::read(&catalogue).unwrap();
        let said = Setup::new(driver).refused_on(server.data(), &[]);
        says(&said, &["DATA", &format!("in use by process {pid}"), "stop it or name another"]);
        assert!(fs::read(&catalogue).unwrap() == before, "the second one began no run");
        Device::sign_in(&server, "ann").leave();
    }

    fn a_corrupt_segment(driver) {
        let setup = Setup::new(driver);
        let mut server = setup.start();
        let mut ann = Device::sign_in(&server, "ann");
        for number in 1..=40 {
            ann.send(message("bob", number, format!("a message, number {number}.").as_bytes()));
        }
        server.kill();
        let (path, at) = find(server.data(), b"a message, number 7.");
        let file = path.file_name().unwrap().to_str().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let before = contents(server.data());
        for _ in 0..2 {
            let said = setup.refused_on(server.data(), &[]);
            says(&said, &[file, "damaged at byte", "restore the folder from a backup"]);
        }
        assert!(contents(server.data()) == before, "nothing was changed");
        // The backup: the same bytes as before the damage.
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let server = server.start_again();
        let mut ann = Device::sign_in_as(&server, "ann", 1, 2);
        assert_eq!(ann.history("bob").len(), 40);
    }

    fn a_segment_or_a_catalogue_that_is_gone(driver) {
        let setup = Setup::new(driver);
        let mut server = setup.start();
        let mut ann = Device::sign_in(&server, "ann");
        ann.send(message("bob", 1, b"hello"));
        server.kill();
        let catalogue = server.data().join("store").join("catalogue");
        let bytes = fs::read(&catalogue).unwrap();
        let mut damaged = bytes.clone();
        damaged[20] ^= 1;
        fs::write(&catalogue, damaged).unwrap();
        let said = setup.refused_on(server.data(), &[]);
        says(&said, &["catalogue", "damaged", "restore the folder from a backup"]);
        fs::remove_file(&catalogue).unwrap();
        let said = setup.refused_on(server.data(), &[]);
        says(&said, &["catalogue", "missing", "restore the folder from a backup"]);
        fs::write(&catalogue, bytes).unwrap();
        let server = server.start_again();
        let mut ann = Device::sign_in_as(&server, "ann", 1, 2);
        assert_eq!(ann.history("bob").len(), 1);
    }

    fn a_damaged_key_file(driver) {
        let setup = Setup::new(driver);
        let mut server = setup.start();
        server.kill();
        for name in ["token-signing.pem", "tickets.json"] {
            let path = server.data().join("keys").join(name);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, "garbage").unwrap();
            let said = setup.refused_on(server.data(), &[]);
            says(&said, &[&format!("DATA/keys/{name}"), "remove it"]);
            fs::write(&path, bytes).unwrap();
        }
        drop(server.start_again());
    }
}
