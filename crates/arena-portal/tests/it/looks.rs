//! Every page in Chromium: what axe says in light and dark, on a desk and on a
//! telephone; what the keyboard reaches; and that nobody's words run.

use std::sync::{Arc, Mutex};

use arena_store::{Actor, ConnectionReport, EditorStatus, Principal, SeatPhase, SeatStatus};
use arena_workshop::scoring::Scoring;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::browser::{Driver, Person};
use crate::world::{World, attempt, seat};

/// Names and messages that mean harm: what runs of them leaves a mark.
const HARM: &str = "<img src=x onerror=\"window.canary=1\"><script>window.canary=1</script>\"'`";

/// A portal that a browser reaches, as somebody.
struct Open {
    world: World,
    port: u16,
    who: Arc<Mutex<String>>,
}

/// A page: its name, as whom, and the path; with a form to send where only that leads there.
struct Page {
    name: &'static str,
    who: &'static str,
    path: String,
    form: Option<&'static str>,
}

impl Open {
    async fn start() -> Self {
        Self::before(World::new().await).await
    }

    async fn before(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let who = Arc::new(Mutex::new(String::new()));
        tokio::spawn({
            let (socket, who) = (world.socket(), who.clone());
            async move {
                loop {
                    let (browser, _) = listener.accept().await.unwrap();
                    let (socket, who) = (socket.clone(), who.clone());
                    // A browser that goes away takes its connection with it.
                    tokio::spawn(async move { pass(browser, &socket, &who).await.ok() });
                }
            }
        });
        Self { world, port, who }
    }

    /// Fills the event with everything that pages show.
    async fn fill(&self, name: &str, message: &str) -> Vec<Page> {
        let (world, store) = (&self.world, &self.world.store);
        for free in ["a", "b"] {
            store
                .take_free(name, &format!("{free}@x.org"))
                .await
                .unwrap();
        }
        store.take_listed(&seat("ada")).await.unwrap();
        let arena_store::Seated::Waits(token) =
            store.take_free_or_wait(name, "w@x.org").await.unwrap()
        else {
            panic!("every seat is taken")
        };
        world.solve("ada", "crud-2").await;
        let mut failed = attempt("free-0", "crud-1", false);
        failed.checks[0].message = message.to_owned();
        store.record_attempt(failed).await.unwrap();
        world.solve("free-1", "crud-1").await;
        let report = ConnectionReport {
            websocket: true,
            cookies: true,
            clipboard: false,
            blocked: vec!["editor".to_owned()],
            latency_ms: Some(9),
        };
        store
            .record_connection_test(None, name, report)
            .await
            .unwrap();
        let by = Actor::Facilitator(name.to_owned());
        store
            .set_excluded(&seat("free-1"), true, by.clone())
            .await
            .unwrap();
        store
            .set_excluded(&seat("free-1"), false, by)
            .await
            .unwrap();
        let link = store.create_facilitator_link().await.unwrap();
        let page = |name, who, path: &str, form| Page {
            name,
            who,
            path: path.to_owned(),
            form,
        };
        let (ada, grace) = ("participant:ada", "facilitator:Grace");
        vec![
            page("landing", "", "/", None),
            page(
                "join",
                "",
                &format!("/?code={}", store.event_code()),
                Some("form[action='/join']"),
            ),
            page("link", "", &world.link("free-0"), None),
            page("waiting", "", &format!("/waiting/{token}"), None),
            page("check", "", "/check", None),
            page("board", ada, "/leaderboard", None),
            page("projector", grace, "/leaderboard?projector", None),
            page("people", ada, "/participants", None),
            page("seat", ada, "/seat", None),
            page("device", ada, "/seat", Some("form[action='/seat/device']")),
            page("facilitator", "", &format!("/facilitator/{link}"), None),
            page("room", grace, "/admin", None),
            page("confirm", grace, "/admin/seats/free-0/release", None),
            page("problem", "", "/nothing-here", None),
        ]
    }

    async fn go(&self, person: &Person, page: &Page) {
        page.who.clone_into(&mut self.who.lock().unwrap());
        let address = format!("http://127.0.0.1:{}{}", self.port, page.path);
        person.open(&address).await;
        if let Some(form) = page.form {
            let script = "const form = document.querySelector(arguments[0]); form.target = ''; form.submit();";
            run(person, script, &[json!(form)]).await;
            let before = format!(
                "return !document.querySelector(\"{form}:not([target])\") || document.title"
            );
            run(person, &before, &[]).await;
            person.element("main h1").await;
        }
        // Menus and lists are part of the page.
        run(
            person,
            "document.querySelectorAll('details').forEach((details) => details.open = true)",
            &[],
        )
        .await;
    }
}

/// Does what the gateway does for one request: says who it is, and passes on.
async fn pass(
    mut browser: TcpStream,
    socket: &std::path::Path,
    who: &Mutex<String>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(browser.read_u8().await?);
    }
    // Only now: browsers open connections before they know what for.
    let who = who.lock().unwrap().clone();
    let head = String::from_utf8_lossy(&head).into_owned();
    let (first, lines) = head.split_once("\r\n").unwrap_or((&head, "\r\n"));
    let is_socket = lines.to_ascii_lowercase().contains("upgrade: websocket");
    let kept: String = lines
        .split("\r\n")
        .filter(|line| is_socket || !line.to_ascii_lowercase().starts_with("connection:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let close = if is_socket {
        ""
    } else {
        "connection: close\r\n"
    };
    let said = format!(
        "{first}\r\n{close}x-arena-surface: portal\r\nx-arena-session: 5e55\r\nx-arena-principal: {who}\r\nx-forwarded-host: arena.localhost:8080\r\n{}",
        kept.trim_end().to_owned() + "\r\n\r\n"
    );
    let mut portal = UnixStream::connect(socket).await?;
    portal.write_all(said.as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut browser, &mut portal).await?;
    Ok(())
}

/// Presses the tabulator that many times.
async fn tabs(person: &Person, times: usize) {
    let value = Key::Tab.into();
    let mut keys = KeyActions::new("keyboard".to_owned());
    for _ in 0..times {
        keys = keys
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value });
    }
    person.page.perform_actions(keys).await.unwrap();
}

async fn run(person: &Person, script: &str, arguments: &[Value]) -> Value {
    person
        .page
        .execute(script, arguments.to_vec())
        .await
        .unwrap()
}

fn axe() -> String {
    let folder = std::env::var("ARENA_TEST_NODE_MODULES")
        .expect("ARENA_TEST_NODE_MODULES names the client libraries (cargo xtask setup)");
    std::fs::read_to_string(format!("{folder}/axe-core/axe.min.js")).unwrap()
}

/// Returns what axe has against the page as it is, one line each.
async fn violations(person: &Person, axe: &str) -> Vec<String> {
    run(person, axe, &[]).await;
    // Frames are other origins' pages, with tests of their own.
    let script = "const done = arguments[arguments.length - 1];
        axe.run(document, { iframes: false }).then(({ violations }) => done(violations.flatMap((rule) =>
            rule.nodes.map((node) => `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary}`))), (error) => done([String(error)]));";
    let found = person.page.execute_async(script, Vec::new()).await.unwrap();
    serde_json::from_value(found).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_has_nothing_against_any_page_in_light_and_dark_wide_and_narrow() {
    let open = Open::start().await;
    let pages = open.fill("Zoë Ó Briain", "expected 10 stays").await;
    let (driver, axe) = (Driver::start(), axe());
    let still = ["--force-prefers-reduced-motion"];
    let mut wrong = Vec::new();
    for width in [None, Some(360)] {
        let person = driver.person_with(&still, width).await;
        for page in &pages {
            open.go(&person, page).await;
            assert_eq!(
                run(
                    &person,
                    "return document.querySelector('main [data-code]') !== null",
                    &[]
                )
                .await,
                json!(page.name == "problem"),
                "{}",
                page.name
            );
            for theme in ["light", "dark"] {
                run(
                    &person,
                    "document.documentElement.dataset.theme = arguments[0]",
                    &[json!(theme)],
                )
                .await;
                let size = width.map_or("wide", |_| "narrow");
                person
                    .screenshot(&format!("{}-{theme}-{size}", page.name))
                    .await;
                let found = violations(&person, &axe).await;
                wrong.extend(
                    found
                        .into_iter()
                        .map(|line| format!("{} {theme} {size}: {line}", page.name)),
                );
            }
            let beyond = run(&person, "document.querySelectorAll('details.menu').forEach((menu) => menu.open = false); return document.documentElement.scrollWidth - document.documentElement.clientWidth", &[]).await;
            if beyond != json!(0) {
                wrong.push(format!(
                    "{} at {width:?}: {beyond} pixels beyond its side",
                    page.name
                ));
            }
        }
        // The control: axe sees what is wrong.
        run(&person, "document.body.insertAdjacentHTML('beforeend', '<img src=\"/x.png\"><button></button>')", &[]).await;
        assert!(violations(&person, &axe).await.len() >= 2);
        person.page.close().await.unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_reaches_everything_that_can_be_done() {
    let open = Open::start().await;
    let pages = open.fill("Zoë", "expected 10 stays").await;
    let driver = Driver::start();
    let person = driver
        .person_with(&["--force-prefers-reduced-motion"], None)
        .await;
    for page in &pages {
        open.go(&person, page).await;
        let script = "window.reached = new Set(); document.addEventListener('focusin', ({ target }) => reached.add(target));
            document.activeElement?.blur(); const wanted = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"]')]
            .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled);
            window.wanted = wanted; return wanted.length;";
        let wanted = run(&person, script, &[]).await.as_u64().unwrap();
        tabs(&person, usize::try_from(wanted).unwrap() + 12).await;
        let script = "return wanted.filter((element) => !reached.has(element)).map((element) => element.outerHTML.slice(0, 200))";
        let missed = run(&person, script, &[]).await;
        assert_eq!(missed, json!([]), "{}", page.name);
    }
    person.page.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_words_run_on_any_page() {
    let open = Open::start().await;
    let message = format!("{HARM}\u{202e}{}", "A".repeat(10_000));
    let pages = open.fill(HARM, &message).await;
    let driver = Driver::start();
    let person = driver.person().await;
    let canary = "await new Promise((done) => setTimeout(done, 50)); return [window.canary ?? null, document.querySelectorAll('img[src=x], script:not([src])').length]";
    let canary = format!("return (async () => {{ {canary} }})()");
    for page in &pages {
        open.go(&person, page).await;
        assert_eq!(
            run(&person, &canary, &[]).await,
            json!([null, 0]),
            "{}",
            page.name
        );
    }
    // What comes later, over the stream.
    let room = pages.iter().find(|page| page.name == "room").unwrap();
    open.go(&person, room).await;
    let store = &open.world.store;
    store
        .take_free_or_wait(&format!("late{HARM}"), "late@x.org")
        .await
        .unwrap();
    person.sees("#waitlist li", "late<img").await;
    let by = Actor::from(Principal::Facilitator("Grace".to_owned()));
    store
        .post_message(None, format!("toast{HARM}"), by)
        .await
        .unwrap();
    person.sees("#toasts p", "toast<img").await;
    assert_eq!(run(&person, &canary, &[]).await, json!([null, 0]));
    // The control: the same words as HTML leave their mark where no policy holds.
    person.open("data:text/html,<body>").await;
    run(
        &person,
        "document.body.innerHTML = arguments[0]",
        &[json!(HARM)],
    )
    .await;
    assert_eq!(run(&person, &canary, &[]).await, json!([1, 2]));
    person.page.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_test_finds_a_good_way_and_a_cut_one() {
    let open = Open::start().await;
    let driver = Driver::start();
    let person = driver.person().await;
    let check = Page {
        name: "check",
        who: "",
        path: "/check".to_owned(),
        form: None,
    };
    open.go(&person, &check).await;
    run(
        &person,
        "document.getElementById('name').value = 'Zoë'",
        &[],
    )
    .await;
    person.click("#run button").await;
    person.sees("[data-step=websocket] .outcome", "works").await;
    person.sees("[data-step=cookies] .outcome", "works").await;
    // Nobody serves the event's other hosts here: that is what a blocked address looks like.
    person
        .sees("[data-step=hosts] .outcome", "instructions.arena.localhost")
        .await;
    person.sees("#verdict", "Something is in the way").await;
    let test = open.world.store.connection_tests().pop().unwrap();
    assert_eq!(test.name, "Zoë");
    assert!(test.report.websocket && test.report.cookies && test.report.latency_ms.is_some());
    assert_eq!(test.report.blocked, ["instructions", "editor", "app"]);
    person.page.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_editors_frame_is_covered_until_its_page_is_there() {
    let editors = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = editors.local_addr().unwrap().port();
    tokio::spawn(answer_all(editors));
    let open = Open::before(World::at(Scoring::Timed, port).await).await;
    let store = &open.world.store;
    store.take_listed(&seat("ada")).await.unwrap();
    let is = async |editor| {
        let phase = SeatPhase::Ready;
        let status = SeatStatus {
            phase,
            editor,
            ..SeatStatus::default()
        };
        store.set_status(&seat("ada"), status).await.unwrap();
    };
    is(EditorStatus::Starting).await;
    let driver = Driver::start();
    let person = driver.person().await;
    let page = Page {
        name: "seat",
        who: "participant:ada",
        path: "/seat".to_owned(),
        form: None,
    };
    open.go(&person, &page).await;
    person
        .sees("#waking:not([hidden]) h2", "Your editor is starting")
        .await;
    let watch = "const waking = document.getElementById('waking'); window.seen = [];
        const note = (what) => { if (seen.at(-1) !== what) seen.push(what); };
        new MutationObserver(() => note(waking.hidden ? 'uncovered' : document.getElementById('phase').textContent))
            .observe(waking, { subtree: true, childList: true, attributes: true });
        document.getElementById('editor').addEventListener('load', () => note('loaded'), { capture: true });";
    run(&person, watch, &[]).await;
    is(EditorStatus::Ready).await;
    person.element("#waking[hidden]").await;
    let seen = run(&person, "return seen", &[]).await;
    assert_eq!(seen, json!(["Your editor opens", "loaded", "uncovered"]));
    // The editor goes to sleep and wakes: the frame comes back by itself.
    is(EditorStatus::Stopped).await;
    is(EditorStatus::Ready).await;
    person.element("#waking[hidden]").await;
    open.go(&person, &page).await;
    person.element("#editor[src] ~ #waking[hidden]").await;
    person.page.close().await.unwrap();
}

/// A small page for whoever asks for anything.
async fn answer_all(listener: TcpListener) {
    loop {
        let (mut browser, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(browser.read_u8().await?);
            }
            let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\neditor";
            browser.write_all(page.as_bytes()).await
        });
    }
}
