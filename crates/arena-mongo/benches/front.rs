//! What the front costs: processor time per operation through the front, against the
//! engine's own function with the same command, sent to the engine directly. Measured by
//! what the scheduler counts in nanoseconds (`schedstat`; the clock ticks of `stat` are
//! too coarse): the front's threads, and the engine's processes; a client's own time
//! is in neither. Both go over unix sockets, as a seat's agent and as the front does.
//! Prints a table, the median of some rounds; asserts nothing. Beside it: how long a
//! client waits when the engine was killed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

#[path = "../tests/it/programs.rs"]
mod programs;
#[path = "../tests/it/wire.rs"]
#[expect(dead_code, reason = "the bench uses a part of it")]
mod wire;
#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "the bench uses a part of the tests' world")]
mod world;

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use arena_mongo::{Limits, RoleName, THREAD_NAME};
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::{Client, Database, IndexModel};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use self::wire::Wire;
use self::world::{PASSWORD, World};

const DOCUMENTS: i32 = 5_000;
const SEATS: usize = 8;
const ROUNDS: usize = 9;
const KILLS: usize = 9;
/// Clients that ask nothing. Each has three connections, one of them logged in, the others looking after the
/// server: as many as a seat may have.
const IDLE: usize = 33;
/// How often it is looked whether the engine has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Who sends to the front.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sender {
    /// Sends commands with a session, as drivers do, and does no more than the client that sends directly.
    Bare,
    Driver,
    /// Through the front's TCP address, instead of the seat's own socket.
    DriverOverTcp,
}

/// One kind of operation: what the client sends, and the statement that does the same directly.
struct Operation {
    name: &'static str,
    sender: Sender,
    sql: &'static str,
    command: fn(i32) -> Document,
    /// How many clients send at once, each on a connection of its own.
    clients: i32,
    /// Whether each of them is another participant, as in a room.
    is_room: bool,
    warm_up: i32,
    count: i32,
}

impl Operation {
    /// Milliseconds of each operation.
    fn each(&self, nanoseconds: u64) -> f64 {
        let microseconds = u32::try_from(nanoseconds / 1_000).unwrap();
        f64::from(microseconds) / 1_000.0 / f64::from(self.count)
    }
}

const FIND_ONE: &str = "SELECT cursorpage FROM documentdb_api.find_cursor_first_page('ada', $1)";

fn find_one(n: i32) -> Document {
    doc! { "find": "c", "filter": { "_id": n % DOCUMENTS }, "limit": 1, "singleBatch": true }
}

const FIND: Operation = Operation {
    name: "find one by _id",
    sender: Sender::Bare,
    sql: FIND_ONE,
    command: find_one,
    clients: 1,
    is_room: false,
    warm_up: 200,
    count: 1_000,
};
const FINDS_AT_ONCE: Operation = Operation {
    clients: 8,
    warm_up: 400,
    count: 4_000,
    ..FIND
};

const OPERATIONS: [Operation; 10] = [
    FIND,
    Operation {
        name: "… by a driver",
        sender: Sender::Driver,
        ..FIND
    },
    Operation {
        name: "… by a driver over TCP",
        sender: Sender::DriverOverTcp,
        ..FIND
    },
    Operation {
        name: "… by eight seats at once",
        is_room: true,
        ..FINDS_AT_ONCE
    },
    Operation {
        name: "… by eight seats' drivers at once",
        sender: Sender::Driver,
        is_room: true,
        ..FINDS_AT_ONCE
    },
    Operation {
        name: "… by eight clients of one seat",
        ..FINDS_AT_ONCE
    },
    Operation {
        name: "find one by an indexed field",
        command: |n| doc! { "find": "c", "filter": { "number": n % DOCUMENTS }, "limit": 1, "singleBatch": true },
        ..FIND
    },
    Operation {
        name: "insert one",
        sql: "SELECT p_result FROM documentdb_api.insert('ada', $1, NULL, NULL)",
        command: |n| doc! { "insert": "i", "documents": [{ "n": n, "text": "some text of a document" }] },
        ..FIND
    },
    Operation {
        name: "update one by _id",
        sql: "SELECT p_result FROM documentdb_api.update('ada', $1, NULL, NULL)",
        command: |n| doc! { "update": "c", "updates": [{ "q": { "_id": n % DOCUMENTS }, "u": { "$set": { "seen": n } } }] },
        ..FIND
    },
    Operation {
        name: "aggregate 5,000 documents",
        sql: "SELECT cursorpage FROM documentdb_api.aggregate_cursor_first_page('ada', $1)",
        command: |_| doc! { "aggregate": "c", "pipeline": [{ "$group": { "_id": "$town", "n": { "$sum": 1 }, "most": { "$max": "$price" } } }, { "$sort": { "n": -1 } }], "cursor": {} },
        warm_up: 10,
        count: 40,
        ..FIND
    },
];

/// A document on its way into the engine.
#[derive(Debug)]
struct Sent(Vec<u8>);

impl ToSql for Sent {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "bson"
    }

    to_sql_checked!();
}

/// As many as the platform has.
fn front_threads() -> NonZeroUsize {
    Limits::default().threads
}

fn main() {
    if env::args().any(|argument| argument == "--test") {
        return;
    }
    let client = Builder::new_current_thread().enable_all().build().unwrap();
    let mut world = client.block_on(World::start());
    let seats: Vec<Seat> = (0..SEATS)
        .map(|number| client.block_on(seat(&world, number)))
        .collect();
    client.block_on(fill(&world));
    client.block_on(idle(&world, &seats[0]));
    println!("| operation | direct | through the front | of it the front itself | ratio |");
    println!("|---|---|---|---|---|");
    for operation in &OPERATIONS {
        measure(&client, &world, &seats, operation);
    }
    let mut waited: Vec<f64> = (0..KILLS)
        .map(|_| client.block_on(killed(&mut world)))
        .collect();
    waited.sort_by(f64::total_cmp);
    println!(
        "\nkill -9 of the engine → next insert acknowledged: {:.2} ({:.2}–{:.2}) s",
        waited[KILLS / 2],
        waited[0],
        waited[KILLS - 1],
    );
    println!(
        "\nload average: {}",
        fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
}

/// A user and the socket where nobody else may log in.
struct Seat {
    user: String,
    socket: PathBuf,
}

/// The first one is Ada, to whom the data belongs; the others may read it.
async fn seat(world: &World, number: usize) -> Seat {
    let user = match number {
        0 => "ada".to_owned(),
        other => format!("reader{other}"),
    };
    let role = match number {
        0 => RoleName::ReadWrite,
        _ => RoleName::Read,
    };
    world.user(&user, &[(role, "ada")]);
    let socket = world.seat_socket(&user).await;
    Seat { user, socket }
}

/// Somebody who is logged in.
enum Sending {
    Bare(Mutex<Wire<UnixStream>>, Document),
    Driver(Database),
}

impl Sending {
    async fn send(&self, command: Document) {
        match self {
            Self::Bare(wire, session) => {
                let mut command = command;
                command.insert("$db", "ada");
                command.insert("lsid", session);
                let mut wire = wire.lock().await;
                wire.send(&wire::message(&wire::document(&command))).await;
                let answer = wire.raw_answer().await;
                let answer = RawDocument::from_bytes(&answer[wire::HEAD_BYTES..]).unwrap();
                assert_eq!(answer.get_f64("ok").unwrap(), 1.0);
            }
            Self::Driver(database) => drop(database.run_command(command).await.unwrap()),
        }
    }
}

impl Seat {
    async fn sending(&self, world: &World, sender: Sender) -> Sending {
        match sender {
            Sender::Bare => {
                let mut wire = Wire::over(UnixStream::connect(&self.socket).await.unwrap());
                wire.log_in(&self.user, PASSWORD).await;
                Sending::Bare(wire.into(), wire::lsid(1))
            }
            Sender::Driver => Sending::Driver(self.client(world).await.database("ada")),
            Sender::DriverOverTcp => {
                Sending::Driver(world.client(&self.user).await.database("ada"))
            }
        }
    }

    async fn client(&self, world: &World) -> Client {
        let mut options = ClientOptions::parse(world.uri(&self.user)).await.unwrap();
        options.hosts = vec![ServerAddress::Unix {
            path: self.socket.clone(),
        }];
        Client::with_options(options).unwrap()
    }
}

async fn fill(world: &World) {
    let documents = (0..DOCUMENTS)
        .map(|n| doc! { "_id": n, "number": n, "price": n % 97, "town": format!("town {}", n % 15), "text": "x".repeat(200) });
    let database = world.client("ada").await.database("ada");
    let collection = database.collection::<Document>("c");
    collection.insert_many(documents).await.unwrap();
    let index = IndexModel::builder().keys(doc! { "number": 1 }).build();
    collection.create_index(index).await.unwrap();
}

fn measure(client: &Runtime, world: &World, seats: &[Seat], operation: &'static Operation) {
    let mut rounds: Vec<Spent> = (0..ROUNDS)
        .map(|round| Spent {
            direct: client.block_on(direct(operation, round)),
            ..client.block_on(through(world, seats, operation, round))
        })
        .collect();
    rounds.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
    let spent = &rounds[rounds.len() / 2];
    println!(
        "| {} | {:.3} ms | {:.3} ms | {:.3} ms | {:.2} ({:.2}–{:.2}) |",
        operation.name,
        spent.direct,
        spent.engine + spent.front,
        spent.front,
        spent.ratio(),
        rounds[0].ratio(),
        rounds[rounds.len() - 1].ratio(),
    );
}

/// Milliseconds of processor time for one operation.
struct Spent {
    direct: f64,
    engine: f64,
    front: f64,
}

impl Spent {
    fn ratio(&self) -> f64 {
        (self.engine + self.front) / self.direct
    }
}

/// The numbers of one client's operations in a round: those that only warm up, then the others.
fn numbers(operation: &Operation, round: usize, client: i32) -> [std::ops::Range<i32>; 2] {
    let warm_up = operation.warm_up / operation.clients;
    let count = warm_up + operation.count / operation.clients;
    let first = (i32::try_from(round).unwrap() * operation.clients + client) * count;
    [first..first + warm_up, first + warm_up..first + count]
}

async fn direct(operation: &'static Operation, round: usize) -> f64 {
    let engine = engine();
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(engine.sockets.clone())
        .dbname("postgres")
        .user("arena_front");
    let (mut clients, mut connections) = (Vec::new(), JoinSet::new());
    for _ in 0..operation.clients {
        let (session, connection) = config.connect(NoTls).await.unwrap();
        connections.spawn(connection);
        let statement = session.prepare(operation.sql).await.unwrap();
        clients.push(Arc::new((session, statement)));
    }
    let send = |part: usize| {
        let clients = clients.iter().zip(0..).map(|(client, number)| {
            let numbers = numbers(operation, round, number)[part].clone();
            let client = Arc::clone(client);
            async move {
                let (session, statement) = &*client;
                for n in numbers {
                    let command = RawDocumentBuf::try_from(&(operation.command)(n)).unwrap();
                    session
                        .query(statement, &[&Sent(command.into_bytes())])
                        .await
                        .unwrap();
                }
            }
        });
        clients.collect::<JoinSet<()>>().join_all()
    };
    send(0).await;
    let before = engine.times();
    send(1).await;
    operation.each(since(&before, &engine.times()))
}

async fn through(
    world: &World,
    seats: &[Seat],
    operation: &'static Operation,
    round: usize,
) -> Spent {
    let engine = engine();
    let mut clients = Vec::new();
    let senders = seats
        .iter()
        .cycle()
        .step_by(if operation.is_room { 1 } else { seats.len() });
    for (_, seat) in (0..operation.clients).zip(senders) {
        clients.push(Arc::new(seat.sending(world, operation.sender).await));
    }
    let send = |part: usize| {
        let clients = clients.iter().zip(0..).map(|(client, number)| {
            let numbers = numbers(operation, round, number)[part].clone();
            let client = Arc::clone(client);
            async move {
                for n in numbers {
                    client.send((operation.command)(n)).await;
                }
            }
        });
        clients.collect::<JoinSet<()>>().join_all()
    };
    send(0).await;
    let (before, own) = (engine.times(), front_times());
    send(1).await;
    Spent {
        direct: 0.0,
        engine: operation.each(since(&before, &engine.times())),
        front: operation.each(since(&own, &front_times())),
    }
}

/// Prints what so many clients take that are logged in and ask nothing. Connections to the engine are shared
/// by them; of this process, the clients themselves are counted, too.
async fn idle(world: &World, seat: &Seat) {
    let memory = || {
        let processes = engine().times().into_keys().chain([std::process::id()]);
        processes.map(proportional_kilobytes).sum::<u64>()
    };
    let before = memory();
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        clients.push(seat.client(world).await);
    }
    for client in &clients {
        let database = client.database("ada");
        database.run_command(doc! { "ping": 1 }).await.unwrap();
        database.run_command(find_one(1)).await.unwrap();
    }
    let taken = memory().saturating_sub(before);
    println!("{} idle connections take {taken} kB\n", 3 * IDLE);
}

fn proportional_kilobytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Seconds from the kill of all the engine's processes until an insert sent right after it is acknowledged. The
/// engine is started again as soon as it is seen to have ended.
async fn killed(world: &mut World) -> f64 {
    let things = world.client("ada").await.database("ada");
    let things = things.collection::<Document>("k");
    things.insert_one(doc! {}).await.unwrap();
    let processes = engine().times();
    let mut kill = Command::new("kill");
    kill.arg("-KILL").args(processes.keys().map(u32::to_string));
    kill.status().unwrap();
    let begun = Instant::now();
    let mut insert = things.insert_one(doc! {}).into_future();
    loop {
        // The insert goes on where it was; the pause means nothing.
        tokio::select! {
            inserted = &mut insert => {
                inserted.unwrap();
                return begun.elapsed().as_secs_f64();
            }
            () = tokio::time::sleep(LOOK) => drop(world.engine.keep_running()),
        }
    }
}

/// The engine's processes, found as the one child of this process that serves a folder.
struct Engine {
    pid: u32,
    sockets: PathBuf,
}

fn engine() -> Engine {
    let own = std::process::id();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let folder = arguments.windows(2).find(|pair| pair[0] == b"-D");
        if let (Some(pair), Some((_, parent))) = (folder, name_and_parent(&process.path()))
            && parent == own
        {
            let data = PathBuf::from(String::from_utf8_lossy(pair[1]).into_owned());
            return Engine {
                pid,
                sockets: data.parent().unwrap().to_path_buf(),
            };
        }
    }
    panic!("the engine is not a child of this process")
}

impl Engine {
    /// Processor time of the server and each of its processes.
    fn times(&self) -> Times {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let times = processes.filter_map(|process| {
            let pid = process.file_name().to_string_lossy().parse::<u32>().ok()?;
            let (_, parent) = name_and_parent(&process.path())?;
            let is_meant = pid == self.pid || parent == self.pid;
            Some((pid, on_processor(&process.path())?)).filter(|_| is_meant)
        });
        times.collect()
    }
}

/// Nanoseconds on a processor, by process or thread.
type Times = BTreeMap<u32, u64>;

/// Of those that have ended nothing is known any more; they are few and short.
fn since(before: &Times, after: &Times) -> u64 {
    let spent = after
        .iter()
        .map(|(id, time)| time - before.get(id).unwrap_or(&0));
    spent.sum()
}

fn front_times() -> Times {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let times = threads.filter_map(|thread| {
        let id = thread.file_name().to_string_lossy().parse().ok()?;
        let (name, _) = name_and_parent(&thread.path())?;
        Some((id, on_processor(&thread.path())?)).filter(|_| name == THREAD_NAME)
    });
    let times: Times = times.collect();
    assert!(!times.is_empty(), "no thread is called {THREAD_NAME:?}");
    times
}

fn on_processor(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn name_and_parent(folder: &Path) -> Option<(String, u32)> {
    let text = fs::read_to_string(folder.join("stat")).ok()?;
    let (before, after) = text.rsplit_once(')')?;
    let parent = after.split_whitespace().nth(1)?.parse().ok()?;
    Some((before.split_once('(')?.1.to_owned(), parent))
}
