//! The workshop's databases: starts the engines that the plan names, the
//! MongoDB front with a socket for every seat, loads the data and makes every
//! seat's database.

mod seed;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arena_database::remote::RemoteMongodb;
use arena_database::{
    MongodbAdmin, PostgresAdmin, ProvisionError, Provisioner, Samples, SeatDatabase,
};
use arena_grader::{MongodbAccess, PostgresAccess, SeatAccess};
use arena_local::engine::{Engine, EngineTree, Invocation};
use arena_local::postgres::{PostgresCluster, PostgresPrograms};
use arena_mongo::{Guard, Listener, Quota, Role, RoleName, ScramVerifier, Socket, User, Users};
use arena_supervisor::{Child, ChildSpec, LogFile, ParentDeath, Ready, State, Status, StopSignal};
use arena_workshop::plan::{MongodbSource, PostgresSource, SeatPlan};
use arena_workshop::{Plan, SeatId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::control::databases::{BuiltIn, Quotas};
use crate::failure::{Failure, Kind};
use crate::platform::logins::Logins;
use crate::platform::places::{self, Places};
use crate::platform::secrets;
use crate::platform::servers::{self, Servers};
use crate::platform::{Parts, Prepared};
use crate::progress::Line;

/// The front's user that may do everything; its password lives as long as the process.
const ADMIN: &str = "arena";
/// Databases made at the same time.
const MADE_AT_ONCE: NonZeroUsize = NonZeroUsize::new(4).expect("four is not zero");
/// PostgreSQL starts in a tenth of a second; after a crash it replays its log first.
const ENGINE_LIMIT: Duration = Duration::from_secs(120);
/// An engine that was given up is tried again after this long.
const GIVEN_UP_PAUSE: Duration = Duration::from_secs(3);
/// Seats for which PostgreSQL keeps connections when it starts, beyond those of the list: it cannot make room later.
const COME_LATER: usize = 8;
/// Definitions changed by seats and not yet looked at; more are left out, since a save grades too.
const SCHEMA_CHANGES_MAX: usize = 1024;

/// The running databases.
pub(crate) struct Databases {
    provisioner: Option<Arc<Provisioner>>,
    samples: Arc<Samples>,
    logins: Logins,
    mongodb: Option<Mongodb>,
    postgres: Option<Postgres>,
    description: String,
    schema_changes: Option<mpsc::Receiver<SeatId>>,
    quotas: Quotas,
    /// Where the built-in front takes further sockets.
    listeners: Option<mpsc::Sender<Listener>>,
}

/// How the platform and the grader reach MongoDB.
struct Mongodb {
    admin: MongodbAdmin,
    /// A configured server; `None`: the seat's own socket of the built-in front.
    remote: Option<RemoteMongodb>,
}

/// How the platform and the grader reach PostgreSQL.
struct Postgres {
    admin: PostgresAdmin,
    socket: Option<PathBuf>,
}

impl Databases {
    /// Starts what the plan names, and makes what is missing in it.
    ///
    /// # Errors
    /// When an engine does not come up, or the data cannot be loaded.
    pub(crate) async fn start(
        prepared: &Prepared,
        logins: &Logins,
        parts: &mut Parts,
        line: &Line,
    ) -> Result<Self, Failure> {
        let plan = &prepared.plan;
        let mut databases = Self {
            provisioner: None,
            samples: Arc::default(),
            logins: logins.clone(),
            mongodb: None,
            postgres: None,
            description: "none needed".to_owned(),
            listeners: None,
            schema_changes: None,
            quotas: Quotas {
                built_in: None,
                postgres_bytes: plan
                    .databases
                    .postgres
                    .as_ref()
                    .map(|postgres| postgres.quota_bytes),
            },
        };
        if plan.databases.mongodb.is_none() && plan.databases.postgres.is_none() {
            return Ok(databases);
        }
        let tree = prepared.tools.engine.clone();
        databases.mongodb = databases
            .start_mongodb(prepared, tree.clone(), parts, line)
            .await?;
        databases.postgres = start_postgres(prepared, tree, parts, line).await?;
        databases.provision(prepared, line).await?;
        databases.description = describe(plan);
        Ok(databases)
    }

    /// Serves a further seat's own socket of the built-in front, before the seat runs.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub(crate) async fn serve_seat(&self, places: &Places, seat: &SeatPlan) -> Result<(), Failure> {
        if let Some(listeners) = &self.listeners {
            let sent = listeners.send(seat_listener(places, seat)?).await;
            sent.ok().context("the MongoDB front is gone")?;
        }
        Ok(())
    }

    /// Makes a further seat's databases; those that are there are let in to again.
    ///
    /// # Errors
    /// When a server refuses.
    pub(crate) async fn make_seat(&self, seat: &SeatPlan) -> anyhow::Result<()> {
        if let Some(provisioner) = &self.provisioner {
            provisioner.create_seat(&self.logins.of(seat)).await?;
        }
        Ok(())
    }

    /// Keeps a seat's databases, and lets nobody log in there.
    ///
    /// # Errors
    /// When a server refuses.
    pub(crate) async fn lock_out(&self, seat: &SeatPlan) -> anyhow::Result<()> {
        if let Some(provisioner) = &self.provisioner {
            provisioner.lock_out(&seat.database).await?;
        }
        Ok(())
    }

    /// What `up` says about them.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Makes, restores and drops; `None` without databases.
    pub(crate) fn provisioner(&self) -> Option<Arc<Provisioner>> {
        self.provisioner.clone()
    }

    /// Seats whose collections or indexes were just redefined by themselves.
    pub(crate) fn take_schema_changes(&mut self) -> Option<mpsc::Receiver<SeatId>> {
        self.schema_changes.take()
    }

    /// What seats may take of the databases.
    pub(crate) fn quotas(&self) -> Quotas {
        self.quotas.clone()
    }

    /// The seat's databases as the provisioner knows them now; `None` without databases.
    pub(crate) fn seat(&self, seat: &SeatPlan) -> Option<SeatDatabase> {
        self.provisioner.as_ref()?;
        Some(self.logins.of(seat))
    }

    /// Who knows the seats' passwords.
    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Returns how the grader reaches a seat now: with the seat's own rights and no others.
    pub(crate) fn access(&self, seat: &SeatPlan, socket: PathBuf) -> SeatAccess {
        let own = self.seat(seat);
        let mongodb = self
            .mongodb
            .as_ref()
            .zip(own.as_ref())
            .map(|(mongodb, own)| MongodbAccess {
                uri: seat_uri(
                    mongodb,
                    own,
                    &self.logins.services(&seat.id).join("mongodb.sock"),
                ),
                database: own.name.to_string(),
            });
        let postgres = self
            .postgres
            .as_ref()
            .zip(own.as_ref())
            .map(|(postgres, own)| PostgresAccess {
                host: postgres.admin.host.clone(),
                port: postgres.admin.port,
                database: own.name.to_string(),
                user: own.name.to_string(),
                password: own.password.clone(),
                tls: postgres.admin.tls.clone(),
            });
        SeatAccess {
            seat: seat.id.clone(),
            socket,
            authority: seat.authority.clone(),
            mongodb,
            postgres,
            samples: Arc::clone(&self.samples),
            random_seed: 0,
        }
    }

    /// The socket of our own PostgreSQL cluster, for the seats' forwarders.
    pub(crate) fn postgres_socket(&self) -> Option<&PathBuf> {
        self.postgres.as_ref()?.socket.as_ref()
    }

    async fn start_mongodb(
        &mut self,
        prepared: &Prepared,
        tree: Option<EngineTree>,
        parts: &mut Parts,
        line: &Line,
    ) -> Result<Option<Mongodb>, Failure> {
        let Some(mongodb) = &prepared.plan.databases.mongodb else {
            return Ok(None);
        };
        if let Some(remote) = &prepared.remote.mongodb {
            return Ok(Some(Mongodb {
                admin: remote.admin(),
                remote: Some(remote.clone()),
            }));
        }
        debug_assert_eq!(
            mongodb.source,
            MongodbSource::BuiltIn,
            "a configured server is among the remote ones"
        );
        line.update("starting the built-in database (DocumentDB)");
        let places = &prepared.places;
        let tree = tree.context("the database engine is not installed")?;
        let engine = Engine::new(
            tree,
            &places.cache,
            &places.state.join("engine"),
            &places.runtime.join("engine"),
        );
        let preparing = engine.clone();
        tokio::task::spawn_blocking(move || preparing.prepare())
            .await
            .context("preparing the engine broke")?
            .map_err(Failure::environment)?;
        let server = Server {
            name: "engine",
            invocation: engine.invocation(),
            socket: engine.socket(),
            data: engine.data_dir(),
        };
        server.start(places, parts).await?;
        Ok(Some(self.serve_front(prepared, &engine, parts)?))
    }

    /// Serves the MongoDB front: a socket for the platform, and one for each seat that takes only the seat's user.
    fn serve_front(
        &mut self,
        prepared: &Prepared,
        engine: &Engine,
        parts: &mut Parts,
    ) -> Result<Mongodb, Failure> {
        let places = &prepared.places;
        let password = secrets::random()?;
        let users = Users::default();
        let root = Role::new(RoleName::Root, "admin").context("root is a role of admin")?;
        users.set(
            ADMIN,
            User {
                verifier: ScramVerifier::from_password(&password),
                roles: vec![root],
            },
        );
        let socket = places.runtime.join("mongodb.sock");
        let (listeners, incoming) = mpsc::channel(prepared.plan.seats.len() + 1);
        let full = "the channel holds a listener for every seat";
        listeners
            .try_send(Listener::new(Socket::Unix(places::bind(&socket)?)))
            .context(full)?;
        for seat in &prepared.plan.seats {
            listeners
                .try_send(seat_listener(places, seat)?)
                .context(full)?;
        }
        let (sender, receiver) = mpsc::channel(SCHEMA_CHANGES_MAX);
        self.schema_changes = Some(receiver);
        let logins = self.logins.clone();
        let quota = quota(prepared);
        let guard = Guard::new(quota);
        self.quotas.built_in = Some(BuiltIn {
            guard: guard.clone(),
            quota,
        });
        let settings = arena_mongo::Settings {
            engine_socket_dir: engine.socket_dir().to_owned(),
            users,
            limits: arena_mongo::Limits::default(),
            guard,
            on_schema_change: Some(Arc::new(move |change| {
                if let Some(seat) = logins.seat_of_database(&change.user) {
                    // A full channel loses nothing but speed: a save or the Check button grades too.
                    let _ = sender.try_send(seat);
                }
            })),
        };
        let shutdown = parts.ground.clone();
        self.listeners = Some(listeners.clone());
        parts.spawn("mongo", async move {
            // Seats that come later are served through the same channel.
            let _open = listeners;
            arena_mongo::serve(settings, incoming, shutdown)
                .await
                .context("the MongoDB front broke")
        });
        let uri = format!(
            "mongodb://{ADMIN}:{password}@{}/?authSource=admin&directConnection=true",
            encoded(&socket)
        );
        Ok(Mongodb {
            admin: MongodbAdmin { uri },
            remote: None,
        })
    }

    async fn provision(&mut self, prepared: &Prepared, line: &Line) -> Result<(), Failure> {
        line.update("loading the workshop's data");
        let plan = &prepared.plan;
        let template = servers::template(&plan.event)?;
        Servers::note(&prepared.workshop, &prepared.places.state)?;
        let mongodb = self.mongodb.as_ref().map(|mongodb| &mongodb.admin);
        let postgres = self.postgres.as_ref().map(|postgres| &postgres.admin);
        let provisioner = Provisioner::connect(&template, mongodb, postgres)
            .await
            .map_err(Failure::environment)?;
        provisioner
            .load_template_step_by_step(&seed::data_files(prepared)?, |loading| {
                line.tick(&format!(
                    "loading {}: {} documents",
                    loading.collection, loading.documents
                ))
            })
            .await
            .map_err(|error| match error {
                ProvisionError::Data(_) => Failure::new(Kind::Configuration, error),
                error => Failure::environment(error),
            })?;
        self.samples = Arc::new(provisioner.samples().await.map_err(Failure::environment)?);
        // Who is no longer on the list keeps a database that nobody can log in to; back on the list,
        // the seat is made again and finds everything as it was.
        let known = provisioner.list().await.map_err(Failure::environment)?;
        let gone = known
            .iter()
            .filter(|name| !plan.seats.iter().any(|seat| seat.database == **name))
            // On a shared server there are seats of other events.
            .filter(|name| self.logins.has_had(name.as_str()));
        for name in gone {
            provisioner
                .lock_out(name)
                .await
                .map_err(Failure::environment)?;
        }
        let seats = plan.seats.iter().map(|seat| self.logins.of(seat)).collect();
        let failed = provisioner
            .create_seats(seats, MADE_AT_ONCE, |progress| {
                line.tick(&format!(
                    "seats' databases: {} of {}",
                    progress.done, progress.all
                ))
            })
            .await;
        self.provisioner = Some(Arc::new(provisioner));
        match failed.into_iter().next() {
            None => Ok(()),
            Some((seat, error)) => Err(Failure::environment(
                anyhow::Error::new(error).context(format!("cannot make the database of {seat}")),
            )),
        }
    }
}

/// Binds a seat's own socket of the built-in front, which takes only the seat's user.
fn seat_listener(places: &Places, seat: &SeatPlan) -> Result<Listener, Failure> {
    let bound = places::bind_for_seat(&places.service(&seat.id, "mongodb.sock")?)?;
    Ok(Listener::only_for(
        Socket::Unix(bound),
        seat.database.as_str(),
    ))
}

/// What a seat may take, as the plan says.
fn quota(prepared: &Prepared) -> Quota {
    let Some(mongodb) = &prepared.plan.databases.mongodb else {
        return Quota::default();
    };
    let plan = mongodb.quota;
    Quota {
        bytes: plan.bytes,
        documents: plan.documents,
        collections: plan.collections,
        indexes: plan.indexes,
        connections: usize::try_from(plan.connections).unwrap_or(usize::MAX),
        statement_time: Duration::from_secs(plan.statement_seconds.into()),
        commands_per_second: plan.commands_per_second,
    }
}

async fn start_postgres(
    prepared: &Prepared,
    tree: Option<EngineTree>,
    parts: &mut Parts,
    line: &Line,
) -> Result<Option<Postgres>, Failure> {
    let Some(postgres) = &prepared.plan.databases.postgres else {
        return Ok(None);
    };
    let places = &prepared.places;
    match postgres.source {
        PostgresSource::Uri => {
            let mut admin = prepared
                .remote
                .postgres
                .clone()
                .context("a configured server is among the remote ones")?;
            admin.extensions.clone_from(&postgres.extensions);
            Ok(Some(Postgres {
                admin,
                socket: None,
            }))
        }
        PostgresSource::BuiltIn => {
            line.update("starting PostgreSQL");
            let programs = tree
                .map(PostgresPrograms::Tree)
                .or_else(PostgresPrograms::installed)
                .context("the database engine is not installed")?;
            let seats = u32::try_from(prepared.plan.seats.len() + COME_LATER).unwrap_or(u32::MAX);
            let cluster = PostgresCluster::new(
                programs,
                &places.state.join("postgres"),
                &places.runtime.join("postgres"),
                seats,
            );
            let preparing = cluster.clone();
            tokio::task::spawn_blocking(move || preparing.prepare())
                .await
                .context("preparing PostgreSQL broke")?
                .map_err(Failure::environment)?;
            let server = Server {
                name: "postgres",
                invocation: cluster.invocation(),
                socket: cluster.socket(),
                data: cluster.data_dir(),
            };
            server.start(places, parts).await?;
            let mut admin = cluster
                .admin()
                .context("cannot read the password of PostgreSQL's administrator")?;
            admin.extensions.clone_from(&postgres.extensions);
            Ok(Some(Postgres {
                admin,
                socket: Some(cluster.socket()),
            }))
        }
    }
}

/// A PostgreSQL server of ours.
struct Server {
    name: &'static str,
    invocation: Invocation,
    socket: PathBuf,
    data: PathBuf,
}

impl Server {
    /// Starts it and waits until it answers; from then on it is kept running.
    async fn start(self, places: &Places, parts: &mut Parts) -> Result<(), Failure> {
        let name = self.name;
        let child = parts.supervisor.start(ChildSpec {
            args: self.invocation.args,
            environment: [
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("LC_ALL".into(), "C".into()),
            ]
            .into(),
            alone_in: Some(self.data),
            parent_death: Some(ParentDeath::Interrupt),
            ready: Ready::Socket(self.socket),
            ready_within: ENGINE_LIMIT,
            stop_signal: StopSignal::Interrupt,
            grace: Duration::from_secs(20),
            log: Some(LogFile::new(
                places.state.join("logs").join(format!("{name}.log")),
            )),
            ..ChildSpec::new(name, &self.invocation.program)
        });
        child.ready(ENGINE_LIMIT).await.map_err(|error| {
            Failure::environment(error).hint(format!("see what it said with: arena logs {name}"))
        })?;
        parts.spawn(name, keep_trying(child, parts.ground.clone()));
        Ok(())
    }
}

/// Starts an engine again that was given up: a full disk or a missing folder may come back, and with it everybody's
/// data.
async fn keep_trying(child: Child, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut changes = child.changes();
    let given_up = |status: &Status| matches!(status.state, State::Failed(_));
    loop {
        let next = async {
            if changes.wait_for(given_up).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GIVEN_UP_PAUSE).await;
        };
        // Waiting may be dropped.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = next => child.restart(),
        }
        // The order is seen in a moment; what has failed until then is the old failure.
        let _ = changes.changed().await;
    }
}

/// A seat's URI from the platform's side.
fn seat_uri(mongodb: &Mongodb, seat: &SeatDatabase, socket: &std::path::Path) -> String {
    match &mongodb.remote {
        None => format!(
            "mongodb://{}:{}@{}/{}?authSource={}&directConnection=true",
            seat.name,
            seat.password,
            encoded(socket),
            seat.name,
            seat.name
        ),
        Some(remote) => remote.seat_uri_here(seat),
    }
}

/// A socket's path as the host of a URI.
fn encoded(path: &std::path::Path) -> String {
    path.display()
        .to_string()
        .replace('%', "%25")
        .replace('/', "%2F")
}

fn describe(plan: &Plan) -> String {
    let mongodb = plan
        .databases
        .mongodb
        .as_ref()
        .map(|mongodb| mongodb.source.title());
    let postgres = plan
        .databases
        .postgres
        .as_ref()
        .map(|postgres| match postgres.source {
            PostgresSource::BuiltIn => "PostgreSQL 18",
            PostgresSource::Uri => "configured PostgreSQL",
        });
    let both: Vec<&str> = mongodb.into_iter().chain(postgres).collect();
    format!("{}, {} seats", both.join(" and "), plan.seats.len())
}
