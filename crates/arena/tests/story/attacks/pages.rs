//! Names and answers full of HTML are text wherever they are shown.

use std::time::Duration;

use super::SERVER;
use crate::browser::{Driver, Person};
use crate::world::{Event, World, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const NAME: &str = "<img src=x onerror=owned=1><script>owned=1</script>";
/// A solution that answers an error full of HTML, Markdown and a terminal's control characters.
const HOSTILE: &str = "export async function search() { throw new Error('<img src=x onerror=owned=1><script>owned=1</script>[x](javascript:owned=1) \\u001b[31mred\\u001b[0m \\u202e'); }";

/// A walk-in with a hostile name solves one exercise and answers another hostilely.
pub(super) async fn text_stays_text(world: &World, event: &Event) {
    let driver = Driver::start();
    let eve = joins(&driver, event).await;
    event.lay_over(
        "seat0",
        &world.workshop().join("arena/solutions/mongodb-1"),
        "workshop",
    );
    let board = driver.person().await;
    board
        .open(&format!("{}/leaderboard", event.address()))
        .await;
    board.sees("#rows", "<img src=x").await;
    is_clean(&board, "the open board").await;
    event.in_seat(
        "seat0",
        &format!("cat > {SERVER}/src/lab/mongodb-2.lab.js"),
        HOSTILE.as_bytes(),
    );
    eve.open(&event.address().replace("//arena", "//instructions.arena"))
        .await;
    let page = format!(
        "{}/mongodb/2/",
        event.address().replace("//arena", "//instructions.arena")
    );
    eve.open(&page).await;
    eve.sees("[data-checks]", "<img src=x").await;
    is_clean(&eve, "the instructions").await;

    let facilitator = driver.person().await;
    facilitator.open(&event.text("/facilitator_link")).await;
    facilitator
        .element("#name")
        .await
        .send_keys(NAME)
        .await
        .expect("a name can be typed");
    facilitator.click("form button.big").await;
    facilitator
        .sees("tr[data-seat=seat0] [data-field=name]", "<img src=x")
        .await;
    facilitator
        .sees("tr[data-seat=seat0] [data-field=failure]", "<img src=x")
        .await;
    is_clean(&facilitator, "the room").await;
    for page in [
        "/admin/seats/seat0/restore",
        "/admin?done=hide&who=%3Cimg+src=x%3E",
        "/participants",
        "/leaderboard",
        "/?code=%22%3E%3Cimg+src=x%3E",
    ] {
        facilitator
            .open(&format!("{}{page}", event.address()))
            .await;
        is_clean(&facilitator, page).await;
    }
    wait_until(LIMIT, "the status is told", || {
        let (code, status, _) = world.run(&["status", "--event", &world.event]);
        assert!(!status.contains(['\u{1b}', '\u{202e}']), "{status:?}");
        code == 0
    });
    for person in [eve, board, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }
}

async fn joins(driver: &Driver, event: &Event) -> Person {
    let eve = driver.person().await;
    eve.open(&event.address()).await;
    for (field, text, button) in [
        ("input[name=code]", event.text("/event_code").as_str(), None),
        ("#name", NAME, None),
        ("#email", "eve@example.net", Some("form:has(#email) button")),
    ] {
        eve.element(field)
            .await
            .send_keys(text)
            .await
            .expect("it can be typed");
        if field == "input[name=code]" {
            eve.click("form button").await;
        }
        if let Some(button) = button {
            eve.click(button).await;
        }
    }
    eve.element("#instructions").await;
    is_clean(&eve, "the seat's page").await;
    eve
}

/// No element came from a hostile text, and no script of one ran.
async fn is_clean(person: &Person, place: &str) {
    let script = "return [typeof owned, document.querySelectorAll('img[src=x], a[href^=javascript]').length, [...document.scripts].filter((script) => script.text.includes('owned')).length]";
    let found = person
        .page
        .execute(script, Vec::new())
        .await
        .expect("a script runs");
    assert_eq!(
        found,
        serde_json::json!(["undefined", 0, 0]),
        "{place} shows HTML of others"
    );
}
