//! The site at its front: files in, pages out.

mod samples;
mod world;

use insta::assert_snapshot;

use crate::world::World;

#[test]
fn a_page_gets_its_title_its_address_and_its_frame() {
    let site = World::new()
        .file(
            "a.md",
            "---\ntitle: Find & sort\npermalink: /crud/1/\n---\n\nHello *you*.\n",
        )
        .site();
    let page = site.page("/crud/1/").unwrap();
    assert_eq!(page.content_type, "text/html; charset=utf-8");
    let html = String::from_utf8(page.body.clone()).unwrap();
    assert!(
        html.contains("<title>Find &#38; sort · Harbour</title>"),
        "{html}"
    );
    assert!(html.contains("<h1>Find &#38; sort</h1>"));
    assert_eq!(site.page("/crud/1"), site.page("/crud/1/"));
    assert!(page.etag.starts_with('"') && page.etag.len() == 18);
    assert!(site.page("/crud/2/").is_none());
}

#[test]
fn two_builds_are_equal() {
    let world = || {
        World::new()
            .file("a.md", "# A\n\n## B\n")
            .file("i/x.png", "x")
    };
    let (one, two) = (world().site(), world().site());
    for path in one.paths() {
        assert_eq!(one.page(path), two.page(path));
    }
}

#[test]
fn markdown_becomes_html_that_a_strict_policy_allows() {
    let html = World::article(
        "## Do it\n\nUse `a < b`, ~~not~~ [this](https://x.example/ \"Far\").[^1]\n\n[^1]: A note.\n\n- [ ] one\n- [x] two\n\n\
         | a | b |\n|---|--:|\n| 1 | 2 |\n\n```js\nif (a < b) {}\n```\n\n> [!WARNING]\n> Mind the gap.\n",
    );
    assert_snapshot!(html);
    assert!(!html.contains("style="));
}

#[test]
fn headings_get_kramdown_ids_that_are_unique() {
    let html = World::article(
        "## 1. 🚀 Go_to it's!\n\n## Same\n\n## Same\n\n### Own {#mine}\n\n[x](#same-1) [y](#mine)\n",
    );
    for id in [
        "id=\"1--go_to-its\"",
        "id=\"same\"",
        "id=\"same-1\"",
        "id=\"mine\"",
    ] {
        assert!(html.contains(id), "{id} is missing in {html}");
    }
}

#[test]
fn attribute_lines_make_boxes() {
    let html = World::article(
        "{: .note }\nFirst.\n\nSecond.\n{: .notice--warning}\n\nThird.\n\n{: .custom #here }\n- a\n- b\n\nLast.\n",
    );
    assert_snapshot!(html, @r#"
    <aside class="callout note"><p class="callout-title">Note</p>
    <p>First.</p>
    </aside>
    <aside class="callout warning"><p class="callout-title">Warning</p>
    <p>Second.</p>
    </aside>
    <p>Third.</p>
    <div id="here" class="custom">
    <ul>
    <li>a</li>
    <li>b</li>
    </ul>
    </div>
    <p>Last.</p>
    "#);
}

#[test]
fn details_hold_markdown() {
    let html = World::article("<details>\n<summary>More</summary>\n\n**bold**\n\n</details>\n");
    assert!(html.contains("<strong>bold</strong>"), "{html}");
}

#[test]
fn links_and_images_are_resolved_from_the_address_or_from_the_file() {
    let site = World::new()
        .file("crud/1.md", "---\npermalink: /crud/1/\n---\n![a](../../images/a%20b.png) [b](2.md#x) [c](/crud/2/?y=1) [d](../2/) <img src=\"../images/a b.png\">\n")
        .file("crud/2.md", "---\npermalink: /crud/2/\n---\n## X\n")
        .file("images/a b.png", "png")
        .site();
    let html = world::article(&site, "/crud/1/");
    assert_eq!(html.matches("\"/images/a%20b.png\"").count(), 2, "{html}");
    for link in ["\"/crud/2/#x\"", "\"/crud/2/?y=1\"", "\"/crud/2/\""] {
        assert!(html.contains(link), "{link} is missing in {html}");
    }
    assert_eq!(site.notes.iter().count(), 0);
    assert_eq!(
        site.page("/images/a b.png").unwrap().content_type,
        "image/png"
    );
}

#[test]
fn what_leads_nowhere_is_reported_with_file_and_line() {
    let world = World::new().file("a.md", "---\ntitle: A\npermalink: /a/\n---\n\nSee [one](b.md).\n\n![two](images/no.png)\n\n## Here\n\n[three](#her) <a href=\"../../../x\">four</a>\n");
    let site = world
        .section("Part", &[("A", "/a/"), ("Gone", "/gone/")])
        .site();
    let problems: String = site.notes.iter().map(ToString::to_string).collect();
    assert_snapshot!(problems);
    let html = world::article(&site, "/a/");
    assert!(
        html.contains("href=\"b.md\""),
        "what leads nowhere stays as written: {html}"
    );
}

#[test]
fn two_pages_of_one_address_are_an_error() {
    let world = World::new()
        .file("a.md", "---\npermalink: /x/\n---\n")
        .file("b.md", "---\ntitle: B\npermalink: /x\n---\n");
    let problems = world.build().unwrap_err();
    assert_snapshot!(problems.iter().map(ToString::to_string).collect::<String>());
    assert!(World::new().file("a.png", "").build().is_err());
}

#[test]
fn the_navigation_is_the_scenarios_and_hidden_pages_stay_built() {
    let site = World::new()
        .file("a.md", "---\ntitle: A\npermalink: /s/1/\n---\n")
        .file("b.md", "---\ntitle: B\npermalink: /s/2/\n---\n")
        .file("c.md", "---\ntitle: C\npermalink: /s/3/\n---\n")
        .section(
            "S",
            &[
                ("One", "/s/1"),
                ("Away", "https://x.example/"),
                ("Three", "/s/3/#top"),
            ],
        )
        .site();
    let html = world::html(&site, "/s/1/");
    assert!(html.contains("rel=\"next\" href=\"/s/3/\""), "{html}");
    assert!(!html.contains("rel=\"prev\"") && !html.contains("/s/2/"));
    assert!(html.contains("<a href=\"https://x.example/\" target=\"_blank\" rel=\"noopener\">"));
    assert_eq!(site.notes.iter().count(), 0);
    assert!(site.page("/s/2/").is_some());
    let front = world::html(&site, "/");
    assert!(
        front.contains("<a href=\"/s/3/\">Three</a>"),
        "a site without a front page gets its contents: {front}"
    );
}

#[test]
fn an_exercise_has_its_panel_and_its_mark() {
    let world = World::new()
        .file("a.md", "---\ntitle: A\npermalink: /crud/1/\n---\n")
        .file("b.md", "# B\n");
    let site = world
        .section("CRUD", &[("A", "/crud/1/"), ("B", "/b/")])
        .exercise("crud-1", "/crud/1/", &[(2, "Use `skip` <b>first</b>.")])
        .site();
    let html = world::html(&site, "/crud/1/");
    let panel = html
        .split("<section class=\"exercise\"")
        .nth(1)
        .unwrap()
        .split("</section>")
        .next()
        .unwrap();
    assert_snapshot!(panel);
    let other = world::html(&site, "/b/");
    assert!(other.contains("data-mark=\"crud-1\"") && !other.contains("data-exercise"));
}

#[test]
fn an_exercise_without_its_database_says_so_and_has_no_button() {
    let page = |author: World| {
        let author = author.file("a.md", "---\ntitle: A\n---\n");
        world::html(&author.section("One", &[("A", "/a/")]).site(), "/a/")
    };
    let greyed = page(World::new().exercise_without("sql-1", "/a/", "PostgreSQL"));
    assert!(greyed.contains("It needs PostgreSQL, which this event does not have"));
    for live in ["data-check", "data-exercise", "data-mark=\"sql-1\""] {
        assert!(!greyed.contains(live), "{live}");
        let there = page(World::new().exercise("sql-1", "/a/", &[]));
        assert!(
            there.contains(live) && !there.contains("It needs"),
            "{live}"
        );
    }
}

#[test]
fn titles_and_navigation_are_text_even_when_they_look_like_html() {
    let evil = "<script>alert(1)</script>";
    let world = World::new().file("a.md", &format!("---\ntitle: {evil}\npermalink: /a/\n---\n[x](javascript:alert(1)) `{evil}`\n\n```{evil}\n{evil}\n```\n\n## {evil} heading\n"));
    let site = world
        .section(evil, &[(evil, "/a/\"onclick=\"x")])
        .section("P", &[(evil, "/a/")])
        .exercise("crud-1", "/a/", &[])
        .site();
    let html = world::html(&site, "/a/");
    // The author's own heading is raw HTML and passes; nothing of ours adds to it.
    assert_eq!(html.matches(evil).count(), 1, "{html}");
    assert!(!html.contains("javascript:") && !html.contains("\"onclick"));
}

#[test]
fn the_theme_names_no_foreign_host_and_holds_nothing_inline() {
    let site = World::new().file("a.md", "# A\n").site();
    let html = world::html(&site, "/a/");
    assert!(
        !html.contains("http://")
            && !html.contains("https://")
            && !html.contains("style=")
            && !html.contains("onclick")
    );
    assert_eq!(
        html.matches("<script").count(),
        html.matches("<script src=\"/_site/").count()
    );
    for path in ["/_site/site.css", "/_site/site.js", "/_site/early.js"] {
        let text = String::from_utf8(site.page(path).unwrap().body.clone()).unwrap();
        assert!(!text.contains("http"), "{path}");
        assert!(
            !text.contains("innerHTML") && !text.contains("insertAdjacentHTML"),
            "{path}"
        );
    }
}

#[test]
fn any_bytes_give_a_site_or_problems() {
    let odd: [&[u8]; 9] = [
        b"",
        b"---",
        b"---\ntitle: \xff\n---\n\xfe",
        b"{%",
        b"{{",
        b"{% comment %}",
        b"\0\0\0",
        b"> {: .note }\n> {: .x }\n{: }\n",
        b"<img src=\"<a href=\"[x](",
    ];
    for bytes in odd {
        let site = World::new().bytes("a.md", bytes).site();
        assert!(site.page("/a/").is_some());
    }
}
