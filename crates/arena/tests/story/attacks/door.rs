//! What a participant's session is good for beyond their own seat: nothing. Requests are bytes,
//! so that they can say what no browser would.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{LIMIT, SERVER};
use crate::world::{Event, wait_until};

/// What a browser says when a person opens an address.
const NAVIGATES: &str = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Site: none\r\nAccept: text/html\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

/// A route that answers with everything that would reach beyond the seat, and tells what came.
const HOSTILE: &str = "  app.get('/hostile', (request, response) => response.set({ 'Set-Cookie': ['EVENT=stolen; Domain=arena.localhost; Path=/', 'EVENT=stolen; Path=/', 'theirs=1; Domain=arena.localhost', 'own=1; Path=/backend'], 'Clear-Site-Data': '\"*\"', 'Service-Worker-Allowed': '/', 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Credentials': 'true', 'Strict-Transport-Security': 'max-age=9999999', 'Alt-Svc': 'h3=\":443\"', 'X-Arena-Principal': 'facilitator:eve', 'Refresh': '0' }).json(request.headers));";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn line(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The cookie of that exact name, as it comes back.
    fn cookie(&self, starts: &str) -> String {
        self.head
            .lines()
            .filter_map(|line| line.strip_prefix("set-cookie: "))
            .filter(|cookie| cookie.starts_with(starts) && !cookie.contains("Max-Age=0"))
            .map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned())
            .next()
            .unwrap_or_else(|| panic!("no cookie {starts}: {}{}", self.head, self.body))
    }
}

/// The gateway, and the names that it answers to.
struct Door<'a> {
    event: &'a Event,
    domain: String,
    cookie: String,
}

impl Door<'_> {
    fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.event.port())).expect("the gateway");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut bytes = Vec::new();
        // It may cut a request that makes no sense.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.unwrap_or(0),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn get(&self, host: &str, path: &str, cookie: &str, lines: &str) -> Answer {
        let cookie = if cookie.is_empty() {
            String::new()
        } else {
            format!("Cookie: {cookie}\r\n")
        };
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}{lines}Connection: close\r\n\r\n"
        ))
    }

    fn post(&self, path: &str, cookie: &str, lines: &str, body: &str) -> Answer {
        let (host, length) = (&self.domain, body.len());
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ))
    }

    fn own_page(&self) -> String {
        format!(
            "Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n",
            self.domain
        )
    }

    /// Follows a personal link; returns the portal's session.
    fn join(&self, seat: usize) -> String {
        let link = self.event.link(seat);
        let path = link.split(&self.domain).nth(1).expect("a path");
        let page = self.get(&self.domain, path, "", NAVIGATES).body;
        let token = page.split("name=\"csrf\" value=\"").nth(1).expect("a form");
        let token = token.split('"').next().expect("a token");
        self.post(
            path,
            "",
            &format!("{}{FORM}", self.own_page()),
            &format!("csrf={token}"),
        )
        .cookie(&format!("{}=", self.cookie))
    }

    /// Begins a hand-over at a host; returns its nonce's cookie and what the portal answers.
    fn asks_portal(&self, host: &str, session: &str) -> (String, Answer) {
        let begun = self.get(host, "/backend/hostile", "", NAVIGATES);
        let nonce = begun.cookie(&format!("{}.enter.", self.cookie));
        let portal = begun.line("location").expect("to the portal").to_owned();
        let path = portal.split(&self.domain).nth(1).expect("a path");
        (nonce, self.get(&self.domain, path, session, NAVIGATES))
    }
}

/// Attacks over HTTP with Ada's valid session.
pub(super) fn a_session_opens_its_own_seat_only(event: &Event) {
    let address = event.address();
    let door = Door {
        event,
        domain: address.trim_start_matches("http://").to_owned(),
        cookie: format!("arena_{}", event.text("/event")),
    };
    let (ada, grace) = (door.join(0), door.join(1));
    let app = hand_over_works_once_and_here(&door, &ada);
    other_hosts_stay_closed(&door, &ada, &app);
    administration_stays_closed(&door, &ada);
    pages_of_a_seat_cannot_act_at_the_portal(&door, &ada, &grace);
    requests_mean_one_thing(&door, &app);
    paths_stay_in_their_folder(&door, &app);
    a_hostile_app_stays_in_its_seat(&door, &ada, &app);
}

fn hand_over_works_once_and_here(door: &Door<'_>, ada: &str) -> String {
    let own = format!("ada.{}", door.domain);
    let (nonce, answer) = door.asks_portal(&own, ada);
    let enter = answer.line("location").expect("a code").to_owned();
    let path = enter.split(&own).nth(1).expect("a path").to_owned();
    let code_only = door.get(&own, &path, "", NAVIGATES);
    let (other_nonce, second) = door.asks_portal(&own, ada);
    let second = second.line("location").expect("a code").to_owned();
    let second = second.split(&own).nth(1).expect("a path").to_owned();
    for (what, answer) in [
        ("a code without its cookie", code_only),
        (
            "a code with another nonce",
            door.get(&own, &path, &other_nonce, NAVIGATES),
        ),
        (
            "a code on another host",
            door.get(
                &format!("grace.{}", door.domain),
                &second,
                &other_nonce,
                NAVIGATES,
            ),
        ),
        (
            "a hand-over to elsewhere",
            door.get(
                &own,
                &second.replace("to=/", "to=//evil.invalid/"),
                &other_nonce,
                NAVIGATES,
            ),
        ),
    ] {
        assert_eq!(answer.status, 400, "{what}: {}", answer.head);
        assert!(
            !answer.head.contains(&format!("{}=", door.cookie)),
            "{what}: {}",
            answer.head
        );
    }
    let (nonce, path) = {
        let _ = nonce;
        let (nonce, answer) = door.asks_portal(&own, ada);
        let enter = answer.line("location").expect("a code").to_owned();
        (nonce, enter.split(&own).nth(1).expect("a path").to_owned())
    };
    let entered = door.get(&own, &path, &nonce, NAVIGATES);
    assert_eq!(
        (entered.status, entered.line("location")),
        (303, Some("/backend/hostile"))
    );
    assert_eq!(
        door.get(&own, &path, &nonce, NAVIGATES).status,
        400,
        "a code twice"
    );
    entered.cookie(&format!("{}=", door.cookie))
}

fn other_hosts_stay_closed(door: &Door<'_>, ada: &str, app: &str) {
    let upgrade = |host: &str| {
        format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://{host}\r\n"
        )
    };
    for name in ["grace", "grace--code", "ada--code", "seat0", "seat0--code"] {
        let host = format!("{name}.{}", door.domain);
        for path in [
            "/",
            "/app/",
            "/backend/health",
            "/backend/api/overview",
            "/_arena/enter",
        ] {
            for cookie in [ada, app] {
                let answer = door.get(&host, path, cookie, "");
                assert!(
                    (300..500).contains(&answer.status),
                    "{host}{path}: {}",
                    answer.head
                );
                assert!(
                    !answer.body.contains("listings"),
                    "{host}{path}: {}",
                    answer.body
                );
                let answer = door.get(&host, path, cookie, &upgrade(&host));
                assert_ne!(answer.status, 101, "{host}{path}: {}", answer.head);
            }
        }
        // On another host the portal knows nobody by these cookies.
        let state = door.get(&host, "/_arena/state", app, "");
        assert!(!state.body.contains("Grace"), "{}", state.body);
    }
    let own = format!("ada.{}", door.domain);
    let foreign = upgrade(&door.domain);
    assert_eq!(
        door.get(&own, "/backend/x", app, &foreign).status,
        403,
        "a WebSocket of another origin"
    );
    let (_, answer) = door.asks_portal(&format!("grace.{}", door.domain), ada);
    assert_eq!(
        answer.status, 403,
        "the portal vouches for Ada at Grace's: {}",
        answer.head
    );
    let (_, answer) = door.asks_portal(&format!("grace--code.{}", door.domain), ada);
    assert_eq!(answer.status, 403);
    assert_ne!(
        door.get(&door.domain, "/seat", app, "").status,
        200,
        "a seat's session at the portal"
    );
    assert_eq!(door.get(&door.domain, "/seat", ada, "").status, 200);
}

fn administration_stays_closed(door: &Door<'_>, ada: &str) {
    for path in [
        "/admin",
        "/admin/seats/grace/restore",
        "/admin/seats/grace/release",
        "/api/admin/leaderboard/download",
        "/api/admin/leaderboard/status",
        "/api/admin/prizes/close-date",
        "/backend/api/admin/leaderboard/download",
    ] {
        for lines in [
            "",
            "X-Arena-Principal: facilitator:eve\r\nX-Arena-Surface: portal\r\n",
            "X-Arena-Principal: facilitator:eve\r\nConnection: x-arena-principal\r\n",
            NAVIGATES,
        ] {
            let answer = door.get(&door.domain, path, ada, lines);
            assert_eq!(answer.status, 403, "{path}: {}", answer.head);
            assert!(
                !answer.body.contains("Grace") && !answer.body.contains("grace@"),
                "{path}: {}",
                answer.body
            );
        }
    }
    let json = r#"{"identifier":"grace","exclude":true,"close_on":null,"user_ids":["grace"],"name":"Eve","email":"eve@example.net"}"#;
    let mut actions: Vec<String> = ["hide", "show", "restart", "restore", "release"]
        .map(|action| format!("/admin/seats/grace/{action}"))
        .to_vec();
    actions.extend(
        [
            "/admin/board",
            "/api/admin/leaderboard/exclude",
            "/api/admin/prizes/close-date",
            "/api/admin/database/restore",
            "/backend/api/admin/database/restore",
            "/api/participants/take",
            "/backend/api/participants/take",
        ]
        .map(str::to_owned),
    );
    for path in actions {
        for (kind, body) in [(JSON, json), (FORM, "csrf=x&action=freeze")] {
            let answer = door.post(&path, ada, &format!("{}{kind}", door.own_page()), body);
            assert!(
                [403, 415].contains(&answer.status),
                "{path}: {}{}",
                answer.head,
                answer.body
            );
        }
    }
    for path in [
        "/api/participants",
        "/api/users/progress",
        "/api/results",
        "/participants",
        "/leaderboard",
    ] {
        let answer = door.get(&door.domain, path, ada, "");
        assert!(
            answer.status == 200 && !answer.body.contains("@example.com"),
            "{path} tells e-mails"
        );
    }
}

fn pages_of_a_seat_cannot_act_at_the_portal(door: &Door<'_>, ada: &str, grace: &str) {
    let seat = format!("Origin: http://ada.{}\r\n", door.domain);
    for from in [
        format!("{seat}Sec-Fetch-Site: same-site\r\n"),
        seat.clone(),
        "Origin: null\r\nSec-Fetch-Site: cross-site\r\n".to_owned(),
        "Origin: http://evil.invalid\r\n".to_owned(),
    ] {
        for (path, kind, body) in [
            ("/leave", FORM, "csrf=x"),
            ("/join", FORM, "code=x"),
            ("/_arena/check", JSON, r#"{"exercise":"mongodb-1"}"#),
            ("/api/participants/take", JSON, "{}"),
        ] {
            let answer = door.post(path, ada, &format!("{from}{kind}"), body);
            assert_eq!(answer.status, 403, "{path} from {from}: {}", answer.head);
        }
    }
    let script =
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n";
    for path in [
        "/seat",
        "/_arena/state",
        "/_arena/events",
        "/api/participants",
    ] {
        assert_eq!(
            door.get(&door.domain, path, ada, script).status,
            403,
            "{path} read by a script"
        );
    }
    // A cookie that a seat's page added for all hosts: two people are nobody.
    for both in [format!("{ada}; {grace}"), format!("{grace}; {ada}")] {
        let answer = door.get(&door.domain, "/seat", &both, NAVIGATES);
        assert_eq!(answer.status, 303, "{}", answer.body);
    }
    let noise = format!("{}=nonsense; {ada}", door.cookie);
    assert_eq!(
        door.get(&door.domain, "/seat", &noise, NAVIGATES).status,
        200,
        "nor does nonsense lock out"
    );
}

fn requests_mean_one_thing(door: &Door<'_>, app: &str) {
    let (own, other) = (
        format!("ada.{}", door.domain),
        format!("grace.{}", door.domain),
    );
    let rest = format!("Cookie: {app}\r\nConnection: close\r\n\r\n");
    for (request, status) in [
        (
            format!("GET http://{other}/backend/health HTTP/1.1\r\nHost: {own}\r\n{rest}"),
            401,
        ),
        (
            format!("GET /backend/health HTTP/1.1\r\nHost: {own}\r\nHost: {other}\r\n{rest}"),
            400,
        ),
        (
            format!("GET /backend/health HTTP/1.1\r\nHost: {own}@{other}\r\n{rest}"),
            400,
        ),
        (
            format!("GET /backend/health HTTP/1.1\r\nHost: grace.1.invalid\r\n{rest}"),
            404,
        ),
        (
            format!("GET /backend/health HTTP/1.1\r\nHost: localhost\r\n{rest}"),
            404,
        ),
        (
            format!(
                "POST /backend/health HTTP/1.1\r\nHost: {own}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n{rest}0\r\n\r\nGET / HTTP/1.1\r\nHost: {other}\r\n\r\n"
            ),
            400,
        ),
        (
            format!("CONNECT {other} HTTP/1.1\r\nHost: {other}\r\n{rest}"),
            405,
        ),
        (
            format!(
                "GET /backend/health HTTP/1.1\r\nHost: {own}\r\nX-Forwarded-Host: {other}\r\nX-Arena-Seat: grace\r\n{rest}"
            ),
            200,
        ),
    ] {
        let answer = door.raw(&request);
        assert_eq!(answer.status, status, "{request}{}", answer.head);
    }
}

fn paths_stay_in_their_folder(door: &Door<'_>, app: &str) {
    let own = format!("ada.{}", door.domain);
    for path in [
        "/app/../../etc/passwd",
        "/app/..%2f..%2fetc/passwd",
        "/app/%2e%2e/package.json",
        "/app/%2e%2e%2f%2e%2e%2fserver/.env",
        "/app//etc/passwd",
        "/app/..%5c..%5cserver",
        "/app/%00",
        "/app/index.html%00.env",
        "/app/....//server/.env",
        "/app/.env",
        "/app/%252e%252e/.env",
        "/app/assets/../../.env",
        "/app/~/.env",
    ] {
        let answer = door.get(&own, path, app, "");
        assert!(
            !answer.body.contains("root:")
                && !answer.body.contains("MONGODB_URI")
                && !answer.body.contains("BACKEND_URL="),
            "{path}: {}",
            answer.body
        );
    }
    // A link out of the folder is not followed.
    door.event.in_seat("ada", &format!("ln -sf /etc/passwd {SERVER}/../app/out/passwd; ln -sf ../../server/.env {SERVER}/../app/out/env; ln -sfn / {SERVER}/../app/out/all"), b"");
    for path in ["/app/passwd", "/app/env", "/app/all/etc/passwd"] {
        let answer = door.get(&own, path, app, "");
        assert!(
            !answer.body.contains("workspace:") && !answer.body.contains("MONGODB_URI"),
            "{path}: {}",
            answer.body
        );
    }
    assert!(
        door.get(&own, "/app/", app, "")
            .body
            .contains("<div id=\"root\""),
        "the app itself is there"
    );
}

fn a_hostile_app_stays_in_its_seat(door: &Door<'_>, ada: &str, app: &str) {
    let own = format!("ada.{}", door.domain);
    let route = HOSTILE.replace("EVENT", &door.cookie);
    let command = format!(
        "cd {SERVER}/src && cat > /tmp/route && sed -i \"/x-powered-by/r /tmp/route\" app.js"
    );
    door.event.in_seat("ada", &command, route.as_bytes());
    let sent = format!("{app}; {}.enter.x=1; arena_other=2; mine=3", door.cookie);
    let lines = "X-Arena-User: Eve\r\nX-Arena-Session: x\r\nX-Arena-Principal: facilitator:eve\r\nX-Arena-Surface: agent\r\n";
    wait_until(LIMIT, "the hostile app runs", || {
        door.get(&own, "/backend/hostile", app, "").status == 200
    });
    let answer = door.get(&own, "/backend/hostile", &sent, lines);
    let cookies: Vec<&str> = answer
        .head
        .lines()
        .filter(|line| line.starts_with("set-cookie"))
        .collect();
    assert_eq!(cookies, ["set-cookie: own=1; Path=/backend"]);
    for name in [
        "clear-site-data",
        "service-worker-allowed",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "strict-transport-security",
        "alt-svc",
        "x-arena-principal",
    ] {
        assert_eq!(answer.line(name), None, "{name} passed");
    }
    assert!(
        answer.body.contains("\"cookie\":\"mine=3\""),
        "{}",
        answer.body
    );
    for secret in [
        app,
        ada,
        "Eve",
        "facilitator",
        "x-arena-session",
        "x-arena-principal",
    ] {
        assert!(
            !answer.body.contains(secret),
            "the app sees {secret}: {}",
            answer.body
        );
    }
    // What is the gateway's own never arrives at an app, nor does the agent's side.
    for path in [
        "/_arena/hostile",
        "/_arena",
        "/_arena/enter",
        "/health",
        "/events",
        "/files?path=server/.env",
        "/apps/backend/log",
        "/editor/stop",
    ] {
        let answer = door.get(&own, path, &sent, lines);
        assert!(
            !answer.body.contains("mine=3")
                && !answer.body.contains("MONGODB_URI")
                && !answer.body.contains("memory_bytes"),
            "{path}: {}",
            answer.body
        );
    }
}
