use super::*;
use crate::shard::auth::token::TokenAlgorithm;
use crate::shard::{ListenerRules, Trust};
use expect_test::{Expect, expect};

fn resolve(file: &str) -> Result<Config, ConfigError> {
    let file = FileConfig::parse(file, Path::new("roost.toml"))?;
    Config::resolve(&ServeArgs::default(), &file)
}

/// What a person is told about each of these files.
#[track_caller]
fn refused(files: &[&str], expected: &Expect) {
    let told = files.iter().map(|file| {
        let text = resolve(file).unwrap_err().to_string();
        let (text, _) = text.split_once(", expected one of").unwrap_or((&text, ""));
        text.trim_end().replace("; ", ";\n  ").replace(", and ", ",\n  and ")
    });
    expected.assert_eq(&told.collect::<Vec<_>>().join("\n"));
}

#[test]
fn nothing_said_is_a_server_for_this_machine() {
    let config = resolve("").unwrap();
    expect![[r#"
        (
            "./roost-data",
            Some(
                127.0.0.1:4000,
            ),
            Some(
                127.0.0.1:4443,
            ),
            Some(
                127.0.0.1:4080,
            ),
            None,
            Auto,
            Fsync,
            67108864,
            Auth {
                keys: [],
                rules: TokenRules {
                    audience: None,
                    issuer: None,
                    leeway_s: 60,
                    life_max_s: 31622400,
                },
                tenant: "",
            },
        )
    "#]]
    .assert_debug_eq(&(
        &config.data,
        config.tcp,
        config.tls,
        config.admin,
        config.shards,
        config.driver,
        config.durability,
        config.segment_bytes,
        &config.auth,
    ));
    assert_eq!(config.limits, Limits::default());
    assert!(config.tls_files.is_empty() && config.client_ca.is_none() && !config.core_dumps);
    assert!(config.real_time_commits);
}

#[test]
fn a_file_says_everything() {
    let config = resolve(
        r#"
        data = "/var/lib/roost"
        tcp = "off"
        tls = "[::]:443"
        admin = "127.0.0.1:9000"
        shards = 8
        driver = "uring"
        durability = "interval=50"
        real_time_commits = false
        json = true
        tls_certificate = "cert.pem"
        tls_key = "key.pem"
        segment_bytes = 16777216
        [auth]
        audience = "roost"
        issuer = "app"
        leeway_s = 5
        tenant = "blue"
        [[auth.keys]]
        kid = "2026"
        algorithm = "ES256"
        file = "app.pem"
        [limits]
        connections_max = 1000
        "#,
    )
    .unwrap();
    assert_eq!((config.tcp, config.tls), (None, Some("[::]:443".parse().unwrap())));
    assert_eq!((config.shards, config.driver), (Some(8), Driver::Uring));
    assert_eq!(config.durability, Durability::Interval { ms: 50 });
    assert_eq!(config.auth.keys[0].algorithm, TokenAlgorithm::ES256);
    assert_eq!(config.auth.rules.audience.as_deref(), Some("roost"));
    assert_eq!((config.auth.rules.leeway_s, config.auth.tenant.as_str()), (5, "blue"));
    assert_eq!(config.limits.connections_max, 1_000);
    assert!(config.json && config.tls_files.len() == 1 && !config.real_time_commits);
}

#[test]
fn the_command_line_goes_before_the_file() {
    let file = FileConfig::parse("tcp = \"off\"\nshards = 8", Path::new("f")).unwrap();
    let args = ServeArgs {
        tcp: Some("127.0.0.1:1".parse().unwrap()),
        shards: Some(2),
        ..ServeArgs::default()
    };
    let config = Config::resolve(&args, &file).unwrap();
    assert_eq!((config.tcp, config.shards), (Some("127.0.0.1:1".parse().unwrap()), Some(2)));
}

#[test]
fn plain_tcp_stays_on_the_machine_unless_allowed() {
    for local in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(resolve(&format!("tcp = \"{local}\"")).is_ok(), "{local}");
    }
    for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        assert!(resolve(&format!("tcp = \"{open}\"")).is_err(), "{open}");
        let allowed = format!("tcp = \"{open}\"\nallow_plaintext = true");
        assert!(resolve(&allowed).is_ok(), "{open}");
    }
    refused(
        &["tcp = \"0.0.0.0:4000\""],
        &expect![[r#"
        tcp is 0.0.0.0:4000, which other machines reach,
          and tokens would pass unencrypted;
          use tls there, or a loopback address, or say --allow-plaintext"#]],
    );
}

#[test]
fn admin_stays_on_the_machine() {
    let files = ["admin = \"0.0.0.0:4080\"\nallow_plaintext = true"];
    refused(
        &files,
        &expect![[r#"
        admin is 0.0.0.0:4080, which other machines reach,
          and it asks nobody who they are;
          choose a loopback address, as 127.0.0.1:4080,
          and a proxy in front of it"#]],
    );
}

#[test]
fn listeners_make_sense_together() {
    assert!(resolve("tcp = \"127.0.0.1:0\"\ntls = \"127.0.0.1:0\"").is_ok());
    let files =
        ["tcp = \"off\"\ntls = \"off\"", "tcp = \"127.0.0.1:4443\"", "tls = \"127.0.0.1:4080\""];
    refused(
        &files,
        &expect![[r#"
        tcp and tls are both off;
          give one of them an address, or a listener
        tcp and tls are both 127.0.0.1:4443;
          give each its own port
        tls and admin are both 127.0.0.1:4080;
          give each its own port"#]],
    );
}

#[test]
fn a_certificate_has_a_key() {
    let files = ["tls_certificate = \"cert.pem\"", "tls_key = \"key.pem\""];
    refused(
        &files,
        &expect![[r#"
        tls_certificate is set and tls_key is not;
          set both, or neither to use the development certificate
        tls_key is set and tls_certificate is not;
          set both, or neither to use the development certificate"#]],
    );
}

#[test]
fn auth_makes_sense() {
    let key = "[[auth.keys]]\nkid = \"a\"\nalgorithm = \"EdDSA\"\nfile = \"f\"\n";
    let files = [
        &key.repeat(2),
        "[auth]\naudience = \"roost\"",
        "[auth]\nissuer = \"app\"",
        "[auth]\ntenant = \"\"",
        "[auth]\nleeway_s = 601",
        "data = \"\"",
    ];
    refused(
        &files,
        &expect![[r#"
        auth.keys has the kid "a" twice;
          give each key its own
        auth.audience is set and auth.keys is empty;
          tokens of `roost token` do not carry it;
          add the app's key to auth.keys, or remove auth.audience
        auth.issuer is set and auth.keys is empty;
          tokens of `roost token` do not carry it;
          add the app's key to auth.keys, or remove auth.issuer
        auth.tenant is empty;
          say something or remove it
        auth.leeway_s is 601;
          choose a number from 0 to 600
        data is empty;
          say something or remove it"#]],
    );
}

#[test]
fn numbers_have_ranges() {
    let files = [
        "shards = 0",
        "segment_bytes = 4096",
        "segment_bytes = 2147483648",
        "[limits]\ndevices_max = 11",
        "[limits]\nheartbeat_foreground_ms = 500000",
    ];
    refused(
        &files,
        &expect![[r#"
        shards is 0;
          choose a number from 1 to 16
        segment_bytes is 4096;
          choose a number from 1048576 to 1073741824
        segment_bytes is 2147483648;
          choose a number from 1048576 to 1073741824
        limits.devices_max is 11;
          choose a number from 1 to 10
        limits.heartbeat_foreground_ms is more than limits.heartbeat_background_ms;
          lower the first or raise the second"#]],
    );
}

#[test]
fn a_file_with_a_mistake_is_refused() {
    let files = [
        "tpc = \"127.0.0.1:4000\"",
        "[limits]\nconnection_max = 1",
        "[auth]\nkeys = [{ kid = \"a\", algorithm = \"none\", file = \"f\" }]",
        "tcp = \"localhost:4000\"",
        "durability = \"interval=0\"",
        "driver = \"kqueue\"",
        "shards = 256",
        "[limits]\ndevices_max = -1",
        "not toml",
    ];
    refused(
        &files,
        &expect![[r#"
        roost.toml does not hold settings: TOML parse error at line 1, column 1
          |
        1 | tpc = "127.0.0.1:4000"
          | ^^^
        unknown field `tpc`
        roost.toml does not hold settings: TOML parse error at line 2, column 1
          |
        2 | connection_max = 1
          | ^^^^^^^^^^^^^^
        unknown field `connection_max`
        roost.toml does not hold settings: TOML parse error at line 2, column 34
          |
        2 | keys = [{ kid = "a", algorithm = "none", file = "f" }]
          |                                  ^^^^^^
        unknown variant `none`
        roost.toml does not hold settings: TOML parse error at line 1, column 7
          |
        1 | tcp = "localhost:4000"
          |       ^^^^^^^^^^^^^^^^
        write an IP address and a port, 127.0.0.1:4000 or [::1]:4000, or off
        roost.toml does not hold settings: TOML parse error at line 1, column 14
          |
        1 | durability = "interval=0"
          |              ^^^^^^^^^^^^
        write fsync, or interval=MS with 1 to 10000 milliseconds
        roost.toml does not hold settings: TOML parse error at line 1, column 10
          |
        1 | driver = "kqueue"
          |          ^^^^^^^^
        unknown variant `kqueue`
        roost.toml does not hold settings: TOML parse error at line 1, column 10
          |
        1 | shards = 256
          |          ^^^
        invalid value: integer `256`, expected u8
        roost.toml does not hold settings: TOML parse error at line 2, column 15
          |
        2 | devices_max = -1
          |               ^^
        invalid value: integer `-1`, expected u32
        roost.toml does not hold settings: TOML parse error at line 1, column 5
          |
        1 | not toml
          |     ^
        key with no value, expected `=`"#]],
    );
    let missing = FileConfig::read(Path::new("no-such-file.toml")).unwrap_err();
    expect![[r#"
        cannot read no-such-file.toml: No such file or directory (os error 2);
        check --config"#]]
    .assert_eq(&missing.to_string().replace("; ", ";\n"));
}

#[test]
fn listeners_say_what_holds_there() {
    let config = resolve(
        r#"
        [[listeners]]
        address = "[::]:443"
        tls = true
        proxy = true
        trusted = ["10.0.0.0/8", "2001:db8::1"]
        [[listeners]]
        address = "unix:/run/roost/proxy.sock"
        proxy = true
        mode = "0600"
        [[listeners]]
        address = "127.0.0.1:0"
        "#,
    )
    .unwrap();
    // Nobody said tcp or tls.
    assert_eq!((config.tcp, config.tls), (None, None));
    assert!(config.speaks_tls());
    let [proxied, unix, plain] = &config.all_listeners()[..] else { panic!("three") };
    let trusted = ["10.0.0.0/8", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec();
    let proxy = Some(Trust::Networks(trusted));
    assert_eq!(proxied.rules, ListenerRules { secure: true, proxy });
    assert_eq!(unix.rules, ListenerRules { secure: false, proxy: Some(Trust::Local) });
    assert_eq!(unix.address, ListenAddress::Unix("/run/roost/proxy.sock".into()));
    assert_eq!((unix.mode, plain.mode), (0o600, 0o660));
    assert_eq!((plain.setting.as_str(), &plain.rules), ("listeners[2]", &ListenerRules::PLAIN));
    let both = resolve("tcp = \"127.0.0.1:1\"\n[[listeners]]\naddress = \"127.0.0.1:2\"");
    let names = both.unwrap().all_listeners().into_iter().map(|listener| listener.setting);
    assert_eq!(names.collect::<Vec<_>>(), ["tcp", "listeners[0]"]);
}

#[test]
fn listeners_do_not_contradict_themselves_or_each_other() {
    let files = [
        "[[listeners]]\naddress = \"0.0.0.0:1\"",
        "[[listeners]]\naddress = \"[::1]:1\"\nproxy = true",
        "[[listeners]]\naddress = \"[::1]:1\"\ntrusted = [\"10.0.0.0/8\"]",
        "[[listeners]]\naddress = \"unix:a\"\nproxy = true\ntrusted = [\"::1\"]",
        "[[listeners]]\naddress = \"[::1]:1\"\nproxy = true\ntrusted = [\"::1\", \"::/0\"]",
        "[[listeners]]\naddress = \"[::1]:1\"\nproxy = true\ntrusted = [\"0.0.0.0/0\"]",
        "[[listeners]]\naddress = \"[::1]:1\"\nmode = \"0600\"",
        "tls = \"0.0.0.0:443\"\n[[listeners]]\naddress = \"[::]:443\"\ntls = true",
        "[[listeners]]\naddress = \"unix:a\"\n[[listeners]]\naddress = \"unix:a\"",
        "[[listeners]]\naddress = \"127.0.0.1:4080\"",
    ];
    refused(
        &files,
        &expect![[r#"
            listeners[0] is 0.0.0.0:1, which other machines reach,
              and tokens would pass unencrypted;
              use tls there, or a loopback address, or say --allow-plaintext
            listeners[0] expects a PROXY header and trusts nobody with one;
              name the networks of the proxies in its `trusted`
            listeners[0] names `trusted` networks and expects no PROXY header;
              say `proxy = true`, or remove them
            listeners[0] is a Unix socket, where whoever may open the file is trusted;
              remove `trusted`,
              and choose `mode`
            listeners[0] trusts every address with a PROXY header,
              and whoever reaches it could pretend to be anybody;
              name the networks of your proxies in its `trusted`
            listeners[0] trusts every address with a PROXY header,
              and whoever reaches it could pretend to be anybody;
              name the networks of your proxies in its `trusted`
            listeners[0] is no Unix socket and has no `mode`;
              remove it
            tls is 0.0.0.0:443 and listeners[0] is [::]:443,
              and one takes what is meant for the other ([::] takes IPv4 as well);
              give each its own port
            listeners[0] and listeners[1] are both unix:a;
              give each its own port
            listeners[0] and admin are both 127.0.0.1:4080;
              give each its own port"#]],
    );
    let long = format!("[[listeners]]\naddress = \"unix:{}\"", "x".repeat(91));
    for wrong in [
        "[[listeners]]\naddress = \"localhost:1\"",
        "[[listeners]]\naddress = \"unix:\"",
        "[[listeners]]\naddress = \"unix:a\"\nmode = \"999\"",
        "[[listeners]]\naddress = \"[::1]:1\"\nproxy = true\ntrusted = [\"10.0.0.1/8\"]",
        "[[listeners]]\ntls = true",
        &long,
    ] {
        assert!(matches!(resolve(wrong), Err(ConfigError::Syntax { .. })), "{wrong}");
    }
}

#[test]
fn certificates_and_client_certificates() {
    let config = resolve(
        r#"
        tls_certificate = "a.pem"
        tls_key = "a.key"
        tls_client_ca = "ca.pem"
        core_dumps = true
        [[tls_certificates]]
        certificate = "b.pem"
        key = "b.key"
        "#,
    )
    .unwrap();
    let files: Vec<_> = config.tls_files.iter().map(|one| one.certificate.as_path()).collect();
    assert_eq!(files, [Path::new("a.pem"), Path::new("b.pem")]);
    assert!(config.client_ca.is_some_and(|ca| ca.are_required) && config.core_dumps);
    let optional = "tls_client_ca = \"ca.pem\"\ntls_client_certificates = \"optional\"";
    assert!(resolve(optional).unwrap().client_ca.is_some_and(|ca| !ca.are_required));
    refused(
        &["tls_client_certificates = \"optional\""],
        &expect![[r#"
            tls_client_certificates is set and tls_client_ca is not;
              name the file of the authorities that issue them, or remove it"#]],
    );
}
