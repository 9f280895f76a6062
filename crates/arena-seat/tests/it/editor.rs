//! The editor's life, with a small program in its place that takes the same
//! switches; the real one is tried by the end-to-end test.

use arena_seat::EditorPhase;
use tokio::io::AsyncReadExt;

use crate::world::{Seat, World, node, until, within};

/// Listens on the socket, checks the origin as code-server does, shows its arguments.
const EDITOR: &str = "
const args = process.argv.slice(2), http = require('http');
const socket = args[args.indexOf('--socket') + 1];
try { require('fs').unlinkSync(socket); } catch {}
const server = http.createServer((q, s) => s.end(JSON.stringify({ url: q.url, args, env: process.env })));
server.on('upgrade', (q, c) => {
  c.on('error', () => {});
  if (new URL(q.headers.origin).host !== q.headers.host) return c.end('HTTP/1.1 403 no\\r\\n\\r\\n');
  c.write('HTTP/1.1 101 ok\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\nhi');
});
server.listen(socket);
";

fn with_editor(script: &str) -> World {
    let world = World::new().file("../../editor.js", script);
    let script = world.folder.path().join("editor.js").display().to_string();
    world.with(|settings| {
        settings.editor = vec![node(), script];
        settings
            .editor_environment
            .insert("NODE_OPTIONS".into(), "--max-old-space-size=400".into());
        settings.first_file = Some("server/lab.js".into());
    })
}

async fn editor_in(seat: &Seat, phase: EditorPhase) {
    let wanted = format!("an editor that is {phase:?}");
    until(&wanted, async || {
        (seat.health().await.editor.state == phase).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_editor_is_woken_serves_counts_connections_and_stops() {
    let seat = with_editor(EDITOR).start().await;
    let answer = seat.get("editor", "/").await;
    assert_eq!((answer.status, answer.code()), (503, "editor-not-ready"));
    assert_eq!(seat.post("/editor/wake").await.status, 202);
    editor_in(&seat, EditorPhase::Ready).await;
    assert_eq!(seat.post("/editor/wake").await.status, 202, "twice is once");

    let answer = seat.get("editor", "/path?x=1").await;
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said["url"], "/path?x=1");
    let args = said["args"].to_string();
    for switch in [
        "--auth=none",
        "--disable-workspace-trust",
        "--disable-proxy",
        &seat.world.settings.work,
    ] {
        assert!(args.contains(switch), "{switch}: {args}");
    }
    assert_eq!(said["env"]["NODE_OPTIONS"], "--max-old-space-size=400");
    assert_eq!(said["env"]["ARENA_FIRST_FILE"], "server/lab.js");

    let mut socket = seat.upgrade("editor", "/ws").await.unwrap();
    let mut bytes = [0; 2];
    within("a greeting", socket.read_exact(&mut bytes))
        .await
        .unwrap();
    assert_eq!(seat.health().await.editor.connections, 1);
    drop(socket);
    until("no connection", async || {
        (seat.health().await.editor.connections == 0).then_some(())
    })
    .await;

    assert_eq!(seat.post("/editor/stop").await.status, 202);
    editor_in(&seat, EditorPhase::Stopped).await;
    assert_eq!(seat.get("editor", "/").await.status, 503);
    seat.post("/editor/wake").await;
    editor_in(&seat, EditorPhase::Ready).await;
    seat.stop().await;
}

#[tokio::test]
async fn an_editor_that_cannot_start_says_why_and_may_be_woken_again() {
    let seat = with_editor("console.error('no room'); process.exit(1)")
        .start()
        .await;
    seat.post("/editor/wake").await;
    editor_in(&seat, EditorPhase::Failed).await;
    assert!(
        seat.health()
            .await
            .editor
            .message
            .unwrap()
            .contains("no room")
    );
    std::fs::write(seat.world.folder.path().join("editor.js"), EDITOR).unwrap();
    seat.post("/editor/wake").await;
    editor_in(&seat, EditorPhase::Ready).await;
    seat.stop().await;
}

#[tokio::test]
async fn settings_are_ours_at_first_and_the_participant_s_afterwards() {
    let mut world = with_editor(EDITOR);
    let uri = "mongodb://ada:old@127.0.0.1/ada".to_owned();
    world
        .settings
        .environment
        .insert("MONGODB_URI".to_owned(), uri);
    let data = world.folder.path().join("home/.local/share/code-server");
    let seat = world.start().await;
    seat.health().await;
    let read = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(data.join("User/settings.json")).unwrap()).unwrap()
    };
    let settings = read();
    assert_eq!(
        settings["mdb.presetConnections"][0]["connectionString"],
        "mongodb://ada:old@127.0.0.1/ada"
    );
    assert_eq!(settings["files.autoSave"], "off");
    assert_eq!(settings["chat.disableAIFeatures"], true);
    assert!(settings["terminal.integrated.env.linux"]["NODE_OPTIONS"].is_null());
    assert!(
        settings["terminal.integrated.env.linux"]
            .as_object()
            .unwrap()
            .contains_key("NODE_OPTIONS")
    );
    let list: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data.join("extensions/extensions.json")).unwrap())
            .unwrap();
    assert_eq!(list[0]["identifier"]["id"], "arena.arena-seat");
    assert!(
        data.join("extensions/arena.arena-seat-0.1.0/extension.js")
            .is_file()
    );
    let mut world = seat.stop().await;

    // A password that was changed by a facilitator.
    let uri = "mongodb://ada:new@127.0.0.1/ada".to_owned();
    world
        .settings
        .environment
        .insert("MONGODB_URI".to_owned(), uri.clone());
    std::fs::write(
        data.join("User/settings.json"),
        r#"{"files.autoSave":"afterDelay","editor.fontSize":20,"mdb.presetConnections":[]}"#,
    )
    .unwrap();
    let seat = world.start().await;
    seat.health().await;
    let settings = read();
    assert_eq!(
        (&settings["files.autoSave"], &settings["editor.fontSize"]),
        (&"afterDelay".into(), &20.into())
    );
    assert_eq!(
        settings["mdb.presetConnections"][0]["connectionString"],
        uri
    );
    seat.stop().await;
}
