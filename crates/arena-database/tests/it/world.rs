//! A PostgreSQL with seats in it, and ways to log in there as whoever one likes.

use std::time::Duration;

use arena_database::{DataFile, PostgresAdmin, PostgresUsage, Provisioner, SeatDatabase};
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::cluster::Cluster;
use crate::{file, name, seat};

/// How long something may take to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A server, its provisioner and the seats ada and bea.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) provisioner: Provisioner,
    pub(crate) ada: SeatDatabase,
    pub(crate) bea: SeatDatabase,
    guard: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    pub(crate) async fn start(sql: &str) -> Self {
        let cluster = Cluster::start();
        let provisioner = connect(&cluster.admin(), &[file("arena/data/data.sql", sql)]).await;
        let (ada, bea) = (seat("ada"), seat("bea"));
        for seat in [&ada, &bea] {
            provisioner.create_seat(seat).await.unwrap();
        }
        Self {
            cluster,
            provisioner,
            ada,
            bea,
            guard: None,
        }
    }

    /// Lets the guard watch from now on.
    pub(crate) fn guard(&mut self) {
        let provisioner = self.provisioner.clone();
        self.guard = Some(tokio::spawn(async move {
            panic!("the guard gave up: {:?}", provisioner.guard().await)
        }));
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.guard
            .as_ref()
            .is_some_and(|guard| !guard.is_finished())
    }

    pub(crate) async fn as_seat(&self, seat: &SeatDatabase) -> Client {
        self.log_in(seat, seat.name.as_str()).await.unwrap()
    }

    pub(crate) async fn log_in(
        &self,
        seat: &SeatDatabase,
        database: &str,
    ) -> Result<Client, Error> {
        let admin = self.cluster.admin();
        log_in(&admin, seat.name.as_str(), &seat.password, database).await
    }

    /// Waits until the guard has said this of a seat: it says it a moment after it acted.
    pub(crate) async fn usage_shows(
        &self,
        seat: &SeatDatabase,
        what: &str,
        is_so: impl Fn(&PostgresUsage) -> bool,
    ) {
        let shows = async || {
            let usage = self.provisioner.postgres_usage();
            usage.get(&seat.name).is_some_and(&is_so)
        };
        until(what, shows).await;
    }

    pub(crate) async fn as_superuser(&self, database: &str) -> Client {
        let admin = self.cluster.admin();
        let password = admin.password.as_deref().unwrap_or_default();
        log_in(&admin, &admin.user, password, database)
            .await
            .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

pub(crate) async fn connect(admin: &PostgresAdmin, data: &[DataFile]) -> Provisioner {
    let provisioner = Provisioner::connect(&name("arena_template"), None, Some(admin))
        .await
        .unwrap();
    provisioner.load_template(data).await.unwrap();
    provisioner
}

pub(crate) async fn log_in(
    admin: &PostgresAdmin,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, Error> {
    let mut config = Config::new();
    config
        .host(&admin.host)
        .port(admin.port)
        .user(user)
        .password(password)
        .dbname(database);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

/// The code of the error that a statement meets; empty when it is carried out.
pub(crate) async fn refusal(client: &Client, statement: &str) -> String {
    match client.batch_execute(statement).await {
        Ok(()) => String::new(),
        Err(error) => error.code().map_or_else(
            || "the connection is gone".to_owned(),
            |code| code.code().to_owned(),
        ),
    }
}

/// Asks again and again until it is so; panics with the name of what never came.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = tokio::time::Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < LIMIT, "{what}: it never came");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
