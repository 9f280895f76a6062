//! The command line: what can be typed, each flag with its documentation.
//! What a command does lives in [`crate::commands`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turns one config.yaml and a list of names into a live, hands-on database workshop.
#[derive(Debug, Parser)]
#[command(
    name = "arena",
    version,
    max_term_width = 80,
    after_help = "\
Examples:
  arena up examples/harbour           start a workshop on this machine
  arena check my-workshop             find every mistake before the day
  arena status --watch                see how it runs
  arena down --purge                  end it and remove everything

Exit codes:
  0 done   1 a check failed   2 wrong usage or configuration
  3 the environment refused (port, package, database)   70 our bug"
)]
pub(crate) struct Arena {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log more: -v for details, -vv for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub(crate) color: Colour,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal that wants it (`NO_COLOR` unset).
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How data is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a workshop and this machine, and show every mistake with its remedy.
    Check(Check),
    /// Show what `up` would run, as a tree, as JSON, or against what runs now.
    Plan(PlanArguments),
    /// Start a workshop on this machine and stay until Ctrl-C.
    Up(Up),
    /// Show the running event: services, seats, people.
    Status(Status),
    /// Print what a service or a seat wrote.
    Logs(Logs),
    /// Open the portal in this machine's browser.
    Open(Which),
    /// Stop a detached event; with --purge remove everything it made.
    Down(Down),
    /// Put seats' databases back to their start, or bring back what was before.
    Restore(RestoreArguments),
    /// Give seats new database passwords.
    Rotate(Rotate),
    /// Make, load, verify and dump workshop data.
    Data(Data),
    /// List or install what Arena fetches: Node, editor, database engine.
    Tools(Tools),
    /// Print the JSON schema of config.yaml (or of an exercise) for editors.
    Schema(Schema),
    /// Print a completion script for a shell.
    Completions(Completions),
    /// Run one role; used by Arena itself.
    #[command(hide = true)]
    Serve(Serve),
}

/// Which event is meant; the only one that exists, unless named.
#[derive(Debug, Args, Clone)]
pub(crate) struct Which {
    /// The event's id, as `arena status` shows it.
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
}

/// Arguments of `arena check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena check my-workshop
  arena check . --config-only
  arena check . --format json | jq .problems")]
pub(crate) struct Check {
    /// Folder with config.yaml, or the file itself.
    #[arg(default_value = ".")]
    pub(crate) workshop: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Only check the workshop's files, not this machine.
    #[arg(long)]
    pub(crate) config_only: bool,
    /// Only this machine, for so many seats; used by Arena itself.
    #[arg(long, hide = true, value_name = "SEATS")]
    pub(crate) machine_only: Option<u32>,
    /// Port that `up` would use [default: arena.port of the config, else 8080].
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

/// Arguments of `arena plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena plan examples/harbour
  arena plan . --diff                what `up` would change")]
pub(crate) struct PlanArguments {
    /// Folder with config.yaml, or the file itself.
    #[arg(default_value = ".")]
    pub(crate) workshop: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Show only what `up` would change in what runs (or last ran).
    #[arg(long)]
    pub(crate) diff: bool,
    /// Port of the portal [default: arena.port of the config, else 8080].
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

/// Port of the gateway unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 8080;

/// Arguments of `arena up`.
#[derive(Debug, Args, Clone)]
#[command(after_help = "\
Examples:
  arena up examples/hello
  arena up examples/harbour --yes --detach
  arena up . --port 9000")]
pub(crate) struct Up {
    /// Folder with config.yaml, or the file itself.
    #[arg(default_value = ".")]
    pub(crate) workshop: PathBuf,
    /// Address and port to listen on. Only loopback for now.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) listen: std::net::IpAddr,
    /// Port of the portal; 0 takes a free one [default: arena.port of the config, else 8080].
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Install what is missing without asking.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// How seats are separated. `none` is for one person alone, trying a workshop on a machine
    /// without namespaces: one seat, whose programs may do whatever you may.
    #[arg(long, value_enum, default_value_t = Separation::Sandbox)]
    pub(crate) isolation: Separation,
    /// Return once the doors are open; end it with `arena down`.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// When started as root: the user to run as (made if missing, with consent).
    #[arg(long, default_value = "arena", value_name = "USER")]
    pub(crate) run_as: String,
    /// How to print the summary.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How seats are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Separation {
    /// Namespaces, and a user each where the machine has spare ids.
    Sandbox,
    /// Not at all: one seat, on loopback only.
    None,
}

/// Arguments of `arena status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena status --watch
  arena status --format json | jq .seats")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Show it again every second until Ctrl-C.
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Arguments of `arena logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena logs                         the names there are
  arena logs platform -n 20
  arena logs ada -f                  what the seat of Ada writes")]
pub(crate) struct Logs {
    /// A service (engine, postgres, platform) or a seat; all that exist are listed without it.
    pub(crate) of: Option<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Go on printing as lines come.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Lines from the end.
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: usize,
}

/// Arguments of `arena down`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena down                         files and results stay
  arena down --purge                 nothing stays but an export")]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Remove files, databases, results: everything of the event.
    #[arg(long)]
    pub(crate) purge: bool,
    /// With --purge: do not keep an export of the results.
    #[arg(long)]
    pub(crate) without_export: bool,
    /// With --purge: leave what seats have on servers that the config names.
    #[arg(long)]
    pub(crate) leave_databases: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Arguments of `arena tools`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena tools list
  arena tools install                before the day, with a good network")]
pub(crate) struct Tools {
    #[command(subcommand)]
    pub(crate) command: ToolsCommand,
}

/// What to do about tools.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// Show each tool, its version and where it is.
    List {
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Make an archive of the database engine for machines without a network: ARENA_ENGINE_ARCHIVE names it there.
    Archive {
        /// Where to put the archive, its checksum and its list of packages.
        folder: PathBuf,
    },
    /// Fetch what is missing into the tool cache.
    Install {
        /// Only these: node, editor, mongosh, engine. Default: all. `mongod` is never fetched without its name.
        names: Vec<String>,
        /// Accept the licence of mongod, the Server Side Public License.
        #[arg(long)]
        accept_license: bool,
        /// Install missing system packages without asking.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Arguments of `arena restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena restore ada                  what Ada had is kept beside
  arena restore ada --undo           and comes back
  arena restore --all --format json")]
pub(crate) struct RestoreArguments {
    /// Seats.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) seats: Vec<String>,
    /// Every seat.
    #[arg(long)]
    pub(crate) all: bool,
    /// Exchange each database with what its last restore kept.
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Arguments of `arena rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena rotate ada                   a new password for Ada's databases
  arena rotate --all                 for everybody

The new passwords are in force at once: each seat is started again with its
own, so open terminals end and files stay. In an event that does not run they
are in force at its next start. What participants pasted into a program of
their own they paste again from the portal.")]
pub(crate) struct Rotate {
    /// Seats.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) seats: Vec<String>,
    /// Every seat.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Arguments of `arena data`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena data generate listings --seed 7 --out arena/data
  arena data load arena/data/*.ndjson --to mongodb://127.0.0.1/ --database shop
  arena data verify listings --seed 7 --in mongodb://127.0.0.1/ --database shop
  arena data dump --from mongodb://127.0.0.1/ --database shop --out shop.archive.gz
  arena data embed \"cozy apartment near beach\"

A workshop needs no files for it: `data: { set: listings, seed: 7 }` in
arena/workshop.yaml makes the same data when it starts.")]
pub(crate) struct Data {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

/// What to do about data.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Make a data set: the same seed gives the same bytes on every machine.
    Generate(Generate),
    /// Load data files into a MongoDB database.
    Load {
        /// Files: .ndjson, .json, .csv, .bson, .archive, .indexes.json,
        /// .validator.json, .view.json, each with .gz behind it or not.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        to: To,
        /// Drop what the database holds first; without it, it must be empty.
        #[arg(long)]
        replace: bool,
        /// How to print the outcome.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Compare a MongoDB database with a data set, document by document.
    Verify {
        #[command(flatten)]
        set: SetArguments,
        #[command(flatten)]
        within: In,
        /// How to print the outcome.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Write a MongoDB database to a folder of data files, or to an archive.
    Dump {
        #[command(flatten)]
        from: From,
        /// A folder, or a file that ends in .archive or .archive.gz.
        #[arg(long)]
        out: PathBuf,
        /// How to print the outcome.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print the vector of a text, as the data set `listings` has them.
    Embed {
        /// The text.
        text: String,
    },
}

/// Arguments of `arena data generate`.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) set: SetArguments,
    /// Folder to write into; made if it is missing.
    #[arg(long, default_value = ".")]
    pub(crate) out: PathBuf,
    /// Which forms to write; the truth file always is.
    #[arg(long = "as", value_enum, value_delimiter = ',', default_values_t = [Form::Ndjson, Form::Sql])]
    pub(crate) forms: Vec<Form>,
    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// A form of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A document a line, relaxed extended JSON.
    Ndjson,
    /// The same with every type written out.
    Canonical,
    /// Tables for PostgreSQL (with pgvector).
    Sql,
    /// As `mongodump --archive` writes it.
    Archive,
}

/// A data set on the command line.
#[derive(Debug, Args, Clone)]
pub(crate) struct SetArguments {
    /// The data set.
    #[arg(value_parser = ["listings"])]
    pub(crate) set: String,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Documents of its collection; from 500 on all guarantees hold.
    #[arg(long, default_value_t = 5555, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) documents: u32,
}

/// Where to load.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// The server.
    #[arg(long, value_name = "URI")]
    pub(crate) to: String,
    /// The database.
    #[arg(long)]
    pub(crate) database: String,
}

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct In {
    /// The server.
    #[arg(long = "in", value_name = "URI")]
    pub(crate) server: String,
    /// The database.
    #[arg(long)]
    pub(crate) database: String,
}

/// Where to read.
#[derive(Debug, Args)]
pub(crate) struct From {
    /// The server.
    #[arg(long, value_name = "URI")]
    pub(crate) from: String,
    /// The database.
    #[arg(long)]
    pub(crate) database: String,
}

/// Arguments of `arena schema`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena schema > config.schema.json
  arena schema exercise")]
pub(crate) struct Schema {
    /// Of which file.
    #[arg(value_enum, default_value_t = SchemaOf::Config)]
    pub(crate) of: SchemaOf,
    /// JSON for editors, or a page for people.
    #[arg(long, value_enum, default_value_t = SchemaFormat::Json)]
    pub(crate) format: SchemaFormat,
}

/// How a schema is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaFormat {
    /// JSON schema.
    Json,
    /// Markdown.
    Markdown,
}

/// Files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// `config.yaml`.
    Config,
    /// `arena/exercises/*.yaml`.
    Exercise,
}

/// Arguments of `arena completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  arena completions bash > ~/.local/share/bash-completion/completions/arena")]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Arguments of `arena serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(subcommand)]
    pub(crate) role: Role,
}

/// Roles of the one executable.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The agent inside a seat; its listener is file descriptor 3.
    Seat {
        /// The seat's settings (JSON).
        #[arg(long)]
        settings: PathBuf,
        /// Folder for its sockets, where that is not a sandbox's.
        #[arg(long, requires = "services")]
        run: Option<PathBuf>,
        /// Folder with the sockets of services, where that is not a sandbox's.
        #[arg(long, requires = "run")]
        services: Option<PathBuf>,
    },
    /// A terminal inside a seat that shows an app's output.
    AppTerminal {
        /// The app, such as `backend`.
        app: String,
    },
    /// The step between the supervisor and a seat's sandbox.
    Nest {
        /// File with the work order, or `-`.
        work: String,
    },
    /// Fetches a workshop's repository; prints what was fetched as JSON.
    Content {
        /// Its address.
        url: String,
        /// Branch or tag.
        #[arg(long)]
        branch: Option<String>,
        /// Folder of our own for the files.
        #[arg(long)]
        into: PathBuf,
    },
    /// The built-in database on its own; prints its address when it is ready.
    Mongo {
        /// The engine's tree.
        #[arg(long)]
        tree: PathBuf,
        /// Folder for the database's files, with a short path.
        #[arg(long)]
        state: PathBuf,
        /// Address and port to listen on; port 0 takes a free one.
        #[arg(long)]
        listen: std::net::SocketAddr,
        /// PEM file with a certificate and its key: only clients that speak TLS get in.
        #[arg(long)]
        tls_certificate_key_file: Option<PathBuf>,
    },
}
