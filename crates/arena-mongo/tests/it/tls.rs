//! The front with TLS, as drivers speak it, and what does not speak it.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use arena_mongo::{Tls, TlsError};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::runs_at;
use crate::world::{PASSWORD, World};

/// An authority, and a certificate of it for loopback.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        fs::write(folder.path().join("names"), names).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(
            folder.path(),
            &format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
        );
        openssl(
            folder.path(),
            &format!("req {key} -subj /CN=front -keyout front.key -out front.csr"),
        );
        openssl(
            folder.path(),
            "x509 -req -in front.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out front.pem",
        );
        Self(folder)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// What the front is given.
    fn tls(&self) -> Tls {
        let pem = self.read("front.key") + &self.read("front.pem");
        Tls::from_pem(pem.as_bytes()).unwrap()
    }

    fn uri(&self, user: &str, address: &str) -> String {
        format!(
            "mongodb://{user}:{}@{address}/?tls=true&tlsCAFile={}&serverSelectionTimeoutMS=5000",
            PASSWORD.replace(' ', "%20"),
            self.0.path().join("ca.pem").display()
        )
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "openssl {arguments}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_speak_tls_and_what_is_large_comes_whole() {
    let (world, certificates) = (World::start().await, Certificates::new());
    world.seat("ada");
    let address = world.encrypted_address(certificates.tls()).await;
    let uri = certificates.uri("ada", &address);
    let client = Client::with_uri_str(&uri).await.unwrap();
    let large = client.database("ada").collection::<Document>("large");
    let documents = (0..3).map(|n| doc! { "_id": n, "text": "x".repeat(9_000_000) });
    large.insert_many(documents).await.unwrap();
    for n in 0..3 {
        let found = large.find_one(doc! { "_id": n }).await.unwrap().unwrap();
        assert_eq!(found.get_str("text").unwrap().len(), 9_000_000);
    }
    runs_at(&uri, "driver.py", "").await;
    let accounts = client.database("ada").collection::<Document>("accounts");
    accounts.drop().await.unwrap();
    runs_at(&uri, "transfers.js", "mongodb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_speak_tls_is_cut_and_others_do_not_wait_for_it() {
    let (world, certificates) = (World::start().await, Certificates::new());
    world.seat("ada");
    let address = world.encrypted_address(certificates.tls()).await;
    // One that says nothing.
    let _silent = TcpStream::connect(&address).await.unwrap();
    // One that speaks the protocol itself: it is told nothing of it.
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain
        .write_all(&[0x3a, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0])
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The connection may also be reset, which is as good.
    let _ = plain.read_to_end(&mut answer).await;
    // An alert of TLS (21), or nothing.
    assert!(matches!(answer.first(), None | Some(21)), "{answer:?}");
    let ping = async |uri: String| {
        let client = Client::with_uri_str(uri).await.unwrap();
        client.database("ada").run_command(doc! { "ping": 1 }).await
    };
    let uri = certificates.uri("ada", &address);
    // Whose certificate it is counts; and a client that does not ask for TLS does not get in.
    let stranger = Certificates::new();
    let strangers = stranger.uri("ada", &address);
    let quick = |uri: String| uri.replace("TimeoutMS=5000", "TimeoutMS=500");
    assert!(ping(quick(strangers)).await.is_err());
    assert!(
        ping(quick(
            uri.replace("tls=true", "tls=false")
                .replace("&tlsCAFile=", "&appName=")
        ))
        .await
        .is_err()
    );
    ping(uri).await.unwrap();
}

#[test]
fn a_file_that_cannot_be_used_says_what_is_missing() {
    let (one, other) = (Certificates::new(), Certificates::new());
    let (certificate, key) = (one.read("front.pem"), one.read("front.key"));
    let of = |pem: String| Tls::from_pem(pem.as_bytes());
    assert!(of(certificate.clone() + &key).is_ok());
    assert!(matches!(of(key.clone()), Err(TlsError::Certificate)));
    assert!(matches!(of(String::new()), Err(TlsError::Certificate)));
    assert!(matches!(of(certificate.clone()), Err(TlsError::Key)));
    let cut = certificate.replace("END CERTIFICATE", "END");
    assert!(matches!(of(cut + &key), Err(TlsError::Certificate)));
    let foreign = other.read("front.key");
    assert!(matches!(of(certificate + &foreign), Err(TlsError::Pair(_))));
}
