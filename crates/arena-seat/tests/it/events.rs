//! Saves and signals, as control hears of them.

use std::io::Write;

use arena_seat::{AgentEvent, AppPhase, EditorPhase};

use crate::world::{World, write};

fn watching(files: &[&str]) -> World {
    World::new()
        .with(|settings| settings.watched = files.iter().map(|file| (*file).to_owned()).collect())
}

#[tokio::test]
async fn the_first_line_is_the_whole_health() {
    let seat = watching(&[])
        .backend("setInterval(() => {}, 1000)")
        .start_asleep()
        .await;
    let AgentEvent::Health(health) = seat.events().await.next().await else {
        panic!("not health")
    };
    assert_eq!(health.editor.state, EditorPhase::Stopped);
    assert_eq!(health.apps[0].state, AppPhase::Asleep);
    assert!(health.memory_bytes > 1024 * 1024);
    seat.stop().await;
}

#[tokio::test]
async fn a_save_is_told_however_the_editor_writes() {
    let seat = watching(&["src/a.js", "src/b.js"])
        .file("src/a.js", "1")
        .file("src/b.js", "1")
        .file("src/c.js", "1")
        .start()
        .await;
    let mut events = seat.events().await;
    events.next().await;
    let file = |name: &str| seat.work().join("src").join(name);

    write(&file("a.js"), "in place");
    assert_eq!(events.saved().await, "src/a.js");

    write(&file("c.js"), "not watched");
    write(&file("b.js.tmp"), "by rename");
    std::fs::rename(file("b.js.tmp"), file("b.js")).unwrap();
    assert_eq!(events.saved().await, "src/b.js");

    // Once more: a replaced file is still watched.
    std::fs::OpenOptions::new()
        .append(true)
        .open(file("b.js"))
        .unwrap()
        .write_all(b"more")
        .unwrap();
    assert_eq!(events.saved().await, "src/b.js");
    seat.stop().await;
}

#[tokio::test]
async fn a_folder_that_comes_later_or_is_replaced_is_watched() {
    let seat = watching(&["late/deep/a.js"]).start().await;
    let mut events = seat.events().await;
    events.next().await;
    let folder = seat.work().join("late");
    write(&folder.join("deep/a.js"), "1");
    assert_eq!(events.saved().await, "late/deep/a.js");
    std::fs::rename(&folder, seat.work().join("old")).unwrap();
    write(&folder.join("deep/a.js"), "2");
    assert_eq!(events.saved().await, "late/deep/a.js");
    seat.stop().await;
}

#[tokio::test]
async fn the_reference_s_signal_file_is_a_signal() {
    for variable in [None, Some("signals")] {
        let seat = watching(&[])
            .with(|settings| {
                if let Some(folder) = variable {
                    settings
                        .environment
                        .insert("SIGNAL_FILE_PATH".into(), folder.into());
                }
            })
            .start()
            .await;
        let mut events = seat.events().await;
        events.next().await;
        let folder = seat.work().join(variable.unwrap_or("server/signal"));
        write(&folder.join("server_restart_signal.txt"), "restarted");
        events
            .until(|event| (event == AgentEvent::Signal).then_some(()))
            .await;
        seat.stop().await;
    }
}

#[tokio::test]
async fn a_flood_of_saves_does_not_become_a_flood_of_events() {
    let seat = watching(&["a.js"]).file("a.js", "1").start().await;
    let mut events = seat.events().await;
    events.next().await;
    let file = seat.work().join("a.js");
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(500) {
        write(&file, "again");
        tokio::task::yield_now().await;
    }
    let last = seat.get("agent", "/health");
    assert_eq!(last.await.status, 200);
    events.saved().await;
    let mut count = 1;
    while tokio::time::timeout(std::time::Duration::from_millis(400), events.saved())
        .await
        .is_ok()
    {
        count += 1;
    }
    assert!((1..=8).contains(&count), "{count}");
    seat.stop().await;
}
