//! A person at a browser: headless Chromium, driven through chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;

/// How long a page may take to show what it should.
const PAGE_LIMIT: Duration = Duration::from_secs(120);

/// Chromedriver with its browsers; ends with the test, also with one that is killed.
pub(crate) struct Driver {
    process: Child,
    address: String,
}

/// One person's browser, with cookies of its own.
pub(crate) struct Person {
    pub(crate) page: Client,
    _profile: tempfile::TempDir,
}

impl Driver {
    /// Starts chromedriver on a free port.
    pub(crate) fn start() -> Self {
        // All of it ends with this thread, however it ends: `setpriv` ties `unshare` to us, that the
        // driver to itself, and the kernel ends every browser with the driver, the first process of a
        // process namespace.
        let mut process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--user",
                "--map-root-user",
            ])
            .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
            .args(["chromedriver", "--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed (cargo xtask setup)");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let port = loop {
            let line = lines
                .next()
                .expect("chromedriver says its port")
                .expect("text");
            if let Some(rest) = line.split("started successfully on port ").nth(1) {
                break rest.trim_end_matches('.').to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            address: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Opens a fresh browser.
    pub(crate) async fn person(&self) -> Person {
        self.person_with(&[], None).await
    }

    /// Opens a fresh browser with more arguments, and with the screen of a telephone where a width
    /// is given: no window is as narrow.
    pub(crate) async fn person_with(&self, more: &[&str], width: Option<u32>) -> Person {
        let profile = tempfile::tempdir().expect("a temporary folder");
        let own = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1440,900".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let arguments: Vec<String> = own
            .into_iter()
            .chain(more.iter().map(|argument| (*argument).to_owned()))
            .collect();
        let mut options = json!({ "args": arguments, "binary": "/usr/bin/chromium" });
        if let Some(width) = width {
            options["mobileEmulation"] =
                json!({ "deviceMetrics": { "width": width, "height": 760, "pixelRatio": 1.0 } });
        }
        let capabilities = json!({ "goog:chromeOptions": options });
        let page = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities.as_object().expect("an object").clone())
            .connect(&self.address)
            .await
            .expect("Chromium starts");
        Person {
            page,
            _profile: profile,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Person {
    pub(crate) async fn open(&self, url: &str) {
        self.page
            .goto(url)
            .await
            .unwrap_or_else(|error| panic!("cannot open {url}: {error}"));
    }

    /// Clicks what the CSS selector finds first, once it is there.
    pub(crate) async fn click(&self, css: &str) {
        self.element(css)
            .await
            .click()
            .await
            .unwrap_or_else(|error| panic!("cannot click {css}: {error}"));
    }

    pub(crate) async fn element(&self, css: &str) -> fantoccini::elements::Element {
        match self
            .page
            .wait()
            .at_most(PAGE_LIMIT)
            .for_element(Locator::Css(css))
            .await
        {
            Ok(element) => element,
            Err(error) => panic!("{css} does not come: {error}\n{}", self.shown().await),
        }
    }

    /// Goes on in the window that the page has opened.
    pub(crate) async fn enter_new_window(&self) {
        let deadline = tokio::time::Instant::now() + PAGE_LIMIT;
        loop {
            let windows = self.page.windows().await.expect("windows");
            if windows.len() > 1 {
                let newest = windows.last().cloned().expect("a window");
                return self
                    .page
                    .switch_to_window(newest)
                    .await
                    .expect("it is there");
            }
            assert!(tokio::time::Instant::now() < deadline, "no window opens");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Closes the window that a page had opened, and goes on in the first.
    pub(crate) async fn close_new_window(&self) {
        self.page.close_window().await.expect("it closes");
        let first = self.page.windows().await.expect("windows").remove(0);
        self.page
            .switch_to_window(first)
            .await
            .expect("it is there");
    }

    /// Runs a script in the page or the frame that was entered.
    pub(crate) async fn runs(&self, script: &str) -> serde_json::Value {
        let ran = self.page.execute(script, Vec::new()).await;
        ran.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an element's text contains the words.
    pub(crate) async fn sees(&self, css: &str, words: &str) {
        let deadline = tokio::time::Instant::now() + PAGE_LIMIT;
        loop {
            let texts = self.texts(css).await;
            if texts.iter().any(|text| text.contains(words)) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{css} never shows {words:?}; it shows {texts:?}\n{}",
                self.shown().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self
            .page
            .find_all(Locator::Css(css))
            .await
            .unwrap_or_default()
        {
            texts.push(element.text().await.unwrap_or_default());
        }
        texts
    }

    /// Goes into the frame that the selector finds.
    pub(crate) async fn enter_frame(&self, css: &str) {
        self.element(css)
            .await
            .enter_frame()
            .await
            .unwrap_or_else(|error| panic!("cannot enter frame {css}: {error}"));
    }

    /// Goes back to the whole page; frames are entered one deep.
    pub(crate) async fn leave_frames(&self) {
        self.page
            .enter_parent_frame()
            .await
            .expect("the whole page");
    }

    /// Types into whatever has the focus.
    pub(crate) async fn types(&self, text: &str) {
        let mut keys = KeyActions::new("keyboard".to_owned());
        for value in text.chars() {
            keys = keys
                .then(KeyAction::Down { value })
                .then(KeyAction::Up { value });
        }
        self.page
            .perform_actions(keys)
            .await
            .expect("keys can be typed");
    }

    /// Presses a key while Control is held.
    pub(crate) async fn control(&self, value: char) {
        let held = Key::Control.into();
        let keys = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: held })
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value })
            .then(KeyAction::Up { value: held });
        self.page
            .perform_actions(keys)
            .await
            .expect("keys can be pressed");
    }

    /// Keeps a picture of the page for people, where `ARENA_TEST_SCREENSHOTS` names a folder.
    pub(crate) async fn screenshot(&self, name: &str) {
        if let Some(folder) = std::env::var_os("ARENA_TEST_SCREENSHOTS") {
            let picture = self.page.screenshot().await.expect("a picture");
            std::fs::write(
                std::path::Path::new(&folder).join(format!("{name}.png")),
                picture,
            )
            .expect("the folder is there");
        }
    }

    /// What a person would tell about the page, for a test that fails.
    async fn shown(&self) -> String {
        let url = self
            .page
            .current_url()
            .await
            .map(|url| url.to_string())
            .unwrap_or_default();
        let text = self.texts("body").await.concat();
        self.screenshot("failed").await;
        format!(
            "at {url}:\n{}",
            text.chars().take(2_000).collect::<String>()
        )
    }
}
