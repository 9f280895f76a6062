//! A replica set that somebody else runs, used from inside seats: three members under names and
//! certificates of their own, real TLS servers before one MongoDB.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{Event, World, shells_are_at_hand, wait_until};

const MEMBER: &str = include_str!("remote/member.mjs");
const LEFT: &str = include_str!("remote/left.mjs");
const INSIDE: &str = include_str!("remote/inside.mjs");
const SERVER: &str = "/home/workspace/workshop/server";
/// New members are looked for every half minute.
const MEMBERS_LIMIT: Duration = Duration::from_secs(120);

/// What a program in a seat saw.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    seen: std::collections::BTreeMap<String, String>,
    wrote: bool,
    under_an_address: String,
    user: String,
}

/// A set of posing members.
struct Set {
    folder: tempfile::TempDir,
    /// `user:password` and `host:port` of the MongoDB behind.
    user: String,
    upstream: String,
    ports: [u16; 4],
    running: Vec<Child>,
}

impl Drop for Set {
    fn drop(&mut self) {
        for member in &mut self.running {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

impl Set {
    fn new() -> Self {
        let uri = std::env::var("ARENA_TEST_MONGODB_URI")
            .expect("ARENA_TEST_MONGODB_URI: `cargo xtask test` sets it");
        let (user, upstream) = uri
            .strip_prefix("mongodb://")
            .and_then(|rest| rest.split_once('@'))
            .expect("user and host");
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The platform reads the authority's certificate as its own user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our folder");
        let set = Self {
            user: user.to_owned(),
            upstream: upstream.trim_end_matches('/').to_owned(),
            ports: [1, 2, 3, 4].map(|_| free_port()),
            running: Vec::new(),
            folder,
        };
        fs::write(set.path("member.mjs"), MEMBER).expect("our folder");
        fs::write(set.path("left.mjs"), LEFT).expect("our folder");
        openssl(
            &set,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=Harbour",
        );
        set
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self, member: usize) -> String {
        format!("m{member}.rs.test:{}", self.ports[member - 1])
    }

    /// Says who the members are, as an election or a reconfiguration would.
    fn elect(&self, members: &[usize], primary: usize, term: u32) {
        let hosts: Vec<String> = members.iter().map(|member| self.host(*member)).collect();
        let state = json!({ "hosts": hosts, "primary": self.host(primary), "term": term });
        fs::write(self.path("state.new"), state.to_string()).expect("our folder");
        fs::rename(self.path("state.new"), self.path("state.json")).expect("our folder");
    }

    fn start(&mut self, member: usize) {
        let name = format!("m{member}.rs.test");
        fs::write(self.path("san"), format!("subjectAltName=DNS:{name}\n")).expect("our folder");
        openssl(
            self,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ),
        );
        openssl(
            self,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out {name}.pem"
            ),
        );
        let settings = json!({
            "me": name,
            "address": format!("127.0.1.{member}"),
            "port": self.ports[member - 1],
            "upstream": self.upstream,
            "state": self.path("state.json"),
            "cert": self.path(&format!("{name}.pem")),
            "key": self.path(&format!("{name}.key")),
            "modules": variable("ARENA_TEST_NODE_MODULES"),
        });
        let mut child = Command::new(variable("ARENA_TEST_NODE"))
            .arg(self.path("member.mjs"))
            .arg(settings.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        self.running.push(child);
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it speaks");
        assert_eq!(line, "listening\n");
    }

    /// What the MongoDB behind has of an event and its seats.
    fn left(&self, event: &str, seats: &[&str]) -> Value {
        let settings = json!({
            "uri": format!("mongodb://{}@{}/", self.user, self.upstream),
            "modules": variable("ARENA_TEST_NODE_MODULES"),
            "event": event,
            "seats": seats,
        });
        let output = Command::new(variable("ARENA_TEST_NODE"))
            .arg(self.path("left.mjs"))
            .arg(settings.to_string())
            .output()
            .expect("node starts");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The hosts file of a machine that knows the members.
    fn hosts(&self) -> PathBuf {
        let mut text = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for member in 1..=4 {
            text.push_str(&format!("\n127.0.1.{member} m{member}.rs.test"));
        }
        fs::write(self.path("hosts"), text + "\n").expect("our folder");
        self.path("hosts")
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by cargo xtask test"))
}

fn openssl(set: &Set, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(set.folder.path())
        .output()
        .expect("openssl starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.1.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn look(event: &Event) -> Seen {
    event.in_seat("ada", "cat > /tmp/inside.mjs", INSIDE.as_bytes());
    let said = event.in_seat("ada", &format!("cd {SERVER} && node /tmp/inside.mjs"), b"");
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("not JSON: {said}"))
}

#[test]
fn a_replica_set_of_somebody_else_is_used_from_a_seat_by_its_own_names() {
    let mut set = Set::new();
    set.elect(&[1, 2, 3], 1, 1);
    for member in 1..=3 {
        set.start(member);
    }
    let world = World::copy("harbour", "members");
    // One seed: the other members are found.
    let uri = format!(
        "mongodb://{}@{}/?replicaSet=harbour0&tls=true&tlsCAFile={}",
        set.user,
        set.host(1),
        set.path("ca.pem").display()
    );
    let config = world.workshop().join("config.yaml");
    let text = fs::read_to_string(&config).expect("the config");
    fs::write(
        &config,
        format!("{text}\narena:\n  database:\n    mongodb: {uri}\n"),
    )
    .expect("the config");
    let event = world.up_where(&set.hosts());
    let first = look(&event);
    let members: Vec<String> = (1..=3).map(|member| set.host(member)).collect();
    assert_eq!(first.seen.keys().cloned().collect::<Vec<_>>(), members);
    assert_eq!(first.seen[&set.host(1)], "RSPrimary", "{:?}", first.seen);
    assert_eq!(first.seen[&set.host(3)], "RSSecondary", "{:?}", first.seen);
    assert!(first.wrote);
    assert_eq!(first.user, "ada");
    assert!(
        first.under_an_address.contains("altnames"),
        "{}",
        first.under_an_address
    );
    let password = set.user.split(':').next_back().expect("a password");
    let told = event.in_seat(
        "ada",
        "cat /run/arena/settings.json /run/svc/ways.json",
        b"",
    );
    assert!(
        !told.contains(password),
        "the administrator's password is in the seat"
    );
    shells_are_at_hand(&event, "ada");

    members_come_and_go(&mut set, &event);
    event.interrupt();
    nothing_is_left(&set, &world);
}

/// The event's end removes what it made on the server of somebody else, and keeps all while it cannot.
fn nothing_is_left(set: &Set, world: &World) {
    let left = set.left(&world.event, &["ada", "grace"]);
    assert_eq!(left["users"], json!(["ada", "grace"]), "{left}");
    let purge = [
        "down",
        "--event",
        &world.event,
        "--purge",
        "--without-export",
        "--yes",
    ];
    // Nobody here knows the members' names.
    let (code, _, said) = world.run(&purge);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("--leave-databases"), "{said}");
    assert_eq!(set.left(&world.event, &["ada", "grace"]), left);
    let (code, _, said) = world.run_where(&set.hosts(), &purge);
    assert_eq!(code, 0, "{said}");
    let left = set.left(&world.event, &["ada", "grace"]);
    assert_eq!(left, json!({ "users": [], "databases": [] }));
}

/// An election and a new member, while the seat lives.
fn members_come_and_go(set: &mut Set, event: &Event) {
    // An election: the same seat writes to the new primary.
    set.elect(&[1, 2, 3], 2, 2);
    let second = look(event);
    assert_eq!(second.seen[&set.host(2)], "RSPrimary", "{:?}", second.seen);
    assert!(second.wrote);

    // A member comes, another goes, and the seat lives on.
    let agent = event.in_seat("ada", "stat -c %Y /proc/1", b"");
    set.start(4);
    set.elect(&[2, 3, 4], 2, 3);
    wait_until(MEMBERS_LIMIT, "the seat knows the new member", || {
        event
            .try_in_seat("ada", "getent hosts m4.rs.test", b"")
            .is_ok()
    });
    let mut third = look(event);
    wait_until(Duration::from_secs(20), "the new member answers", || {
        third = look(event);
        third
            .seen
            .get(&set.host(4))
            .is_some_and(|kind| kind == "RSSecondary")
    });
    assert!(third.wrote);
    assert_eq!(
        event.in_seat("ada", "stat -c %Y /proc/1", b""),
        agent,
        "the same seat"
    );
}
