//! What the front costs: processor time per operation through a driver and the
//! front, against the same statement sent to the engine directly. Measured by the
//! kernel's own figures (`/proc`): the front's threads, and the engine's processes;
//! a client's own time is in neither. Prints a table; asserts nothing.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "the bench uses a part of the tests' world")]
mod world;

use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use mongodb::bson::{Document, RawDocumentBuf, doc};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use self::world::World;

const FRONT: &str = "front";
const DOCUMENTS: i32 = 5_000;
const WARM_UP: usize = 200;

/// One kind of operation: what the client sends, and the statement that does the same directly.
struct Operation {
    name: &'static str,
    sql: &'static str,
    command: fn(i32) -> Document,
}

const OPERATIONS: [Operation; 4] = [
    Operation {
        name: "find one by _id",
        sql: "SELECT cursorpage FROM documentdb_api.find_cursor_first_page('ada', $1)",
        command: |n| doc! { "find": "c", "filter": { "_id": n % DOCUMENTS }, "limit": 1, "singleBatch": true },
    },
    Operation {
        name: "insert one",
        sql: "SELECT p_result FROM documentdb_api.insert('ada', $1, NULL, NULL)",
        command: |n| doc! { "insert": "i", "documents": [{ "n": n, "text": "some text of a document" }] },
    },
    Operation {
        name: "update one by _id",
        sql: "SELECT p_result FROM documentdb_api.update('ada', $1, NULL, NULL)",
        command: |n| doc! { "update": "c", "updates": [{ "q": { "_id": n % DOCUMENTS }, "u": { "$set": { "seen": n } } }] },
    },
    Operation {
        name: "aggregate 5,000 documents",
        sql: "SELECT cursorpage FROM documentdb_api.aggregate_cursor_first_page('ada', $1)",
        command: |_| doc! { "aggregate": "c", "pipeline": [{ "$group": { "_id": "$town", "n": { "$sum": 1 }, "most": { "$max": "$price" } } }, { "$sort": { "n": -1 } }], "cursor": {} },
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

fn main() {
    if env::args().any(|argument| argument == "--test") {
        return;
    }
    let front = Builder::new_multi_thread()
        .thread_name(FRONT)
        .enable_all()
        .build()
        .unwrap();
    let client = Builder::new_current_thread().enable_all().build().unwrap();
    let world = front.block_on(front.spawn(World::start())).unwrap();
    world.seat("ada");
    client.block_on(fill(&world));
    println!("| operation | direct | through the front | of it the front itself | ratio |");
    println!("|---|---|---|---|---|");
    for operation in &OPERATIONS {
        measure(&client, &world, operation);
    }
    println!(
        "\nload average: {}",
        fs::read_to_string("/proc/loadavg").unwrap().trim()
    );
    drop(world);
    front.shutdown_timeout(Duration::from_secs(5));
}

async fn fill(world: &World) {
    let documents = (0..DOCUMENTS)
        .map(|n| doc! { "_id": n, "price": n % 97, "town": format!("town {}", n % 15), "text": "x".repeat(200) });
    let database = world.client("ada").await.database("ada");
    let collection = database.collection::<Document>("c");
    collection.insert_many(documents).await.unwrap();
}

fn measure(client: &Runtime, world: &World, operation: &Operation) {
    let count = if operation.name.starts_with("aggregate") {
        100
    } else {
        2_000
    };
    let engine = engine();
    let direct = client.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(engine.sockets.clone())
            .dbname("postgres")
            .user("arena_front");
        let (session, connection) = config.connect(NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let statement = session.prepare(operation.sql).await.unwrap();
        let mut before = 0.0;
        for n in 0..WARM_UP + count {
            if n == WARM_UP {
                before = engine.seconds();
            }
            let command =
                RawDocumentBuf::try_from(&(operation.command)(i32::try_from(n).unwrap())).unwrap();
            session
                .query(&statement, &[&Sent(command.into_bytes())])
                .await
                .unwrap();
        }
        let spent = engine.seconds() - before;
        connection.abort();
        spent
    });
    let (through, own) = client.block_on(async {
        let database = world.client("ada").await.database("ada");
        let (mut before, mut own) = (0.0, 0.0);
        for n in 0..WARM_UP + count {
            if n == WARM_UP {
                (before, own) = (engine.seconds(), front_seconds());
            }
            database
                .run_command((operation.command)(i32::try_from(n).unwrap()))
                .await
                .unwrap();
        }
        let own = front_seconds() - own;
        (engine.seconds() - before + own, own)
    });
    let each = |seconds: f64| seconds * 1_000.0 / f64::from(u32::try_from(count).unwrap());
    println!(
        "| {} | {:.3} ms | {:.3} ms | {:.3} ms | {:.2} |",
        operation.name,
        each(direct),
        each(through),
        each(own),
        through / direct
    );
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
        if let (Some(pair), Some(stat)) = (folder, stat(process.path().join("stat")))
            && stat.parent == own
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
    /// Processor time of the server and all of its processes, those that have ended included.
    fn seconds(&self) -> f64 {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let stats = processes.filter_map(|process| {
            let pid = process.file_name().to_string_lossy().parse::<u32>().ok()?;
            let stat = stat(process.path().join("stat"))?;
            (pid == self.pid || stat.parent == self.pid).then_some(stat.seconds)
        });
        stats.sum()
    }
}

fn front_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = threads.filter_map(|thread| stat(thread.path().join("stat")));
    stats
        .filter(|stat| stat.name == FRONT)
        .map(|stat| stat.seconds)
        .sum()
}

struct Stat {
    name: String,
    parent: u32,
    seconds: f64,
}

fn stat(file: PathBuf) -> Option<Stat> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string(file).ok()?;
    let (before, after) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Stat {
        name: before.split_once('(')?.1.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        seconds: (11..15).filter_map(ticks).sum::<f64>() / TICKS_PER_SECOND,
    })
}
