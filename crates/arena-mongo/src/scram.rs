//! SCRAM-SHA-256 (RFC 5802, 7677), the server's side: what is stored instead of
//! a password, and one conversation with one client. It does not know who may
//! log in; the caller looks users up and gives a verifier that nobody can
//! satisfy for unknown ones.

use std::fmt;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;

const ITERATIONS: u32 = 15_000;
const SALT_BYTES: usize = 28;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
/// Longer names and nonces are nobody's.
const MESSAGE_BYTES_MAX: usize = 2_048;

type Key = [u8; KEY_BYTES];

/// What is kept of a password: enough to check it, not enough to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

/// A text that is not a SCRAM-SHA-256 verifier.
#[derive(Debug, Error)]
#[error("not a SCRAM-SHA-256 verifier (SCRAM-SHA-256$iterations:salt$stored:server)")]
pub struct InvalidVerifier;

impl ScramVerifier {
    /// Returns the verifier of a password with a fresh random salt. Takes some milliseconds on purpose. The password
    /// is prepared as clients prepare theirs (SASLprep, RFC 4013); one that cannot be is taken as it is.
    ///
    /// # Panics
    /// When the operating system gives no random numbers.
    pub fn from_password(password: &str) -> Self {
        let prepared = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
        Self::with_salt(&prepared, random::<SALT_BYTES>().to_vec(), ITERATIONS)
    }

    /// Whether clients can prepare a password (RFC 4013 prohibits control characters and the like).
    pub(crate) fn is_password(password: &str) -> bool {
        stringprep::saslprep(password).is_ok()
    }

    fn with_salt(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let mut salted: Key = [0; KEY_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
        let stored_key = Sha256::digest(mac(&salted, b"Client Key")).into();
        Self {
            iterations,
            salt,
            stored_key,
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// Returns a verifier for a name that does not exist: the same salt at every try, as a real one
    /// would have, and keys that no password satisfies.
    pub(crate) fn of_nobody(secret: &Key, name: &str) -> Self {
        let salt = mac(secret, format!("salt|{name}").as_bytes())[..SALT_BYTES].to_vec();
        Self {
            iterations: ITERATIONS,
            salt,
            stored_key: random(),
            server_key: random(),
        }
    }

    /// Reads what [`ScramVerifier::to_text`] wrote; PostgreSQL uses the same form.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidVerifier> {
        let read = || {
            let rest = text.strip_prefix("SCRAM-SHA-256$")?;
            let (parameters, keys) = rest.split_once('$')?;
            let (iterations, salt) = parameters.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            Some(Self {
                iterations: iterations.parse().ok()?,
                salt: BASE64.decode(salt).ok()?,
                stored_key: BASE64.decode(stored).ok()?.try_into().ok()?,
                server_key: BASE64.decode(server).ok()?.try_into().ok()?,
            })
        };
        read().ok_or(InvalidVerifier)
    }

    /// Returns the verifier as text for keeping. It is a secret still: it allows guessing.
    pub fn to_text(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        )
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(hidden)")
    }
}

/// The client's message is not SCRAM, or its proof is wrong. Deliberately says no more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// A client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    pub(crate) user: String,
    channel: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads `n,,n=user,r=nonce`.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Refused> {
        let text = readable(message)?;
        // Channel binding is not offered, and nobody may act as another.
        let channel = ["n,,", "y,,"]
            .into_iter()
            .find(|prefix| text.starts_with(prefix))
            .ok_or(Refused)?;
        let bare = &text[channel.len()..];
        let (user, nonce) = bare.split_once(',').ok_or(Refused)?;
        let user = unescaped(user.strip_prefix("n=").ok_or(Refused)?)?;
        let nonce = nonce
            .strip_prefix("r=")
            .filter(|nonce| !nonce.is_empty() && !nonce.contains(','));
        Ok(Self {
            user,
            channel: channel.to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.ok_or(Refused)?.to_owned(),
        })
    }
}

/// A conversation after the server's first message. It is used up by the proof, so that no recorded
/// message ever works again.
#[derive(Debug)]
pub(crate) struct Conversation {
    verifier: ScramVerifier,
    channel: String,
    nonce: String,
    /// Both first messages, the beginning of what is signed.
    transcript: String,
    pub(crate) user: String,
}

impl Conversation {
    /// Answers the first message.
    pub(crate) fn start(first: ClientFirst, verifier: ScramVerifier) -> (Self, String) {
        let nonce = format!("{}{}", first.nonce, BASE64.encode(random::<NONCE_BYTES>()));
        let answer = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&verifier.salt),
            verifier.iterations
        );
        let transcript = format!("{},{answer}", first.bare);
        (
            Self {
                verifier,
                channel: first.channel,
                nonce,
                transcript,
                user: first.user,
            },
            answer,
        )
    }

    /// Checks `c=…,r=nonce,p=proof` and returns the server's own proof.
    pub(crate) fn finish(self, message: &[u8]) -> Result<String, Refused> {
        let text = readable(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Refused)?;
        let expected = format!("c={},r={}", BASE64.encode(&self.channel), self.nonce);
        let proof: Key = BASE64
            .decode(proof)
            .map_err(|_| Refused)?
            .try_into()
            .map_err(|_| Refused)?;
        let signed = format!("{},{without_proof}", self.transcript);
        let signature = mac(&self.verifier.stored_key, signed.as_bytes());
        let mut client_key = signature;
        client_key
            .iter_mut()
            .zip(proof)
            .for_each(|(byte, other)| *byte ^= other);
        let key: Key = Sha256::digest(client_key).into();
        if without_proof != expected || !equal_in_constant_time(&key, &self.verifier.stored_key) {
            return Err(Refused);
        }
        Ok(format!(
            "v={}",
            BASE64.encode(mac(&self.verifier.server_key, signed.as_bytes()))
        ))
    }
}

fn readable(message: &[u8]) -> Result<&str, Refused> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Refused);
    }
    std::str::from_utf8(message).map_err(|_| Refused)
}

/// `=2C` is a comma and `=3D` an equals sign; any other `=` is an error.
fn unescaped(name: &str) -> Result<String, Refused> {
    let plain = name.replace("=2C", ",").replace("=3D", "\0");
    if plain.contains('=') {
        Err(Refused)
    } else {
        Ok(plain.replace('\0', "="))
    }
}

fn mac(key: &[u8], message: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

pub(crate) fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    bytes
}

fn equal_in_constant_time(one: &Key, other: &Key) -> bool {
    one.iter()
        .zip(other)
        .fold(0, |difference, (a, b)| difference | (a ^ b))
        == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a client with this password sends as its last message.
    fn client_final(password: &str, first_bare: &str, server_first: &str) -> String {
        let field = |name: &str| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(name))
                .unwrap()
        };
        let salt = BASE64.decode(field("s=")).unwrap();
        let mut salted: Key = [0; KEY_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(
            password.as_bytes(),
            &salt,
            field("i=").parse().unwrap(),
            &mut salted,
        );
        let client_key = mac(&salted, b"Client Key");
        let stored: Key = Sha256::digest(client_key).into();
        let without_proof = format!("c=biws,r={}", field("r="));
        let mut proof = mac(
            &stored,
            format!("{first_bare},{server_first},{without_proof}").as_bytes(),
        );
        proof
            .iter_mut()
            .zip(client_key)
            .for_each(|(byte, other)| *byte ^= other);
        format!("{without_proof},p={}", BASE64.encode(proof))
    }

    fn start(verifier: &ScramVerifier) -> (Conversation, String) {
        Conversation::start(
            ClientFirst::parse(b"n,,n=ada,r=abc").unwrap(),
            verifier.clone(),
        )
    }

    #[test]
    fn the_right_password_is_accepted_and_a_wrong_one_is_not() {
        let verifier = ScramVerifier::from_password("secret");
        let (conversation, answer) = start(&verifier);
        assert!(
            conversation
                .finish(client_final("secret", "n=ada,r=abc", &answer).as_bytes())
                .is_ok()
        );
        let (conversation, answer) = start(&verifier);
        assert!(
            conversation
                .finish(client_final("Secret", "n=ada,r=abc", &answer).as_bytes())
                .is_err()
        );
    }

    #[test]
    fn a_recorded_proof_does_not_work_again() {
        let verifier = ScramVerifier::from_password("secret");
        let (conversation, answer) = start(&verifier);
        let recorded = client_final("secret", "n=ada,r=abc", &answer);
        assert!(conversation.finish(recorded.as_bytes()).is_ok());
        let (conversation, _) = start(&verifier);
        assert_eq!(conversation.finish(recorded.as_bytes()), Err(Refused));
    }

    #[test]
    fn the_example_of_the_standard_verifies() {
        // RFC 7677, section 3.
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let conversation = Conversation {
            verifier: ScramVerifier::with_salt("pencil", salt, 4096),
            channel: "n,,".to_owned(),
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            transcript: "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                .to_owned(),
            user: "user".to_owned(),
        };
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(
            conversation.finish(last).unwrap(),
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn an_unknown_name_has_the_same_salt_at_every_try() {
        let secret = random();
        let (one, other) = (
            ScramVerifier::of_nobody(&secret, "eve"),
            ScramVerifier::of_nobody(&secret, "eve"),
        );
        assert_eq!((&one.salt, one.iterations), (&other.salt, ITERATIONS));
        assert_ne!(one.salt, ScramVerifier::of_nobody(&secret, "bob").salt);
    }

    #[test]
    fn a_verifier_survives_being_written_down() {
        let verifier = ScramVerifier::from_password("secret");
        assert_eq!(ScramVerifier::parse(&verifier.to_text()).unwrap(), verifier);
        assert!(ScramVerifier::parse("SCRAM-SHA-256$15000:AAAA$AAAA:AAAA").is_err());
        assert!(!format!("{verifier:?}").contains('$'));
    }

    #[test]
    fn names_are_unescaped_and_nobody_acts_for_another() {
        assert_eq!(
            ClientFirst::parse(b"n,,n=a=2Cb=3D,r=x").unwrap().user,
            "a,b="
        );
        for message in [
            "n,a=eve,n=ada,r=x",
            "p=tls-unique,,n=ada,r=x",
            "n,,n=a=b,r=x",
            "n,,n=ada,r=",
            "n,,m=1,n=ada,r=x",
            "",
        ] {
            assert_eq!(
                ClientFirst::parse(message.as_bytes()),
                Err(Refused),
                "{message}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_pass(first in proptest::collection::vec(any::<u8>(), 0..60), last in ".{0,80}") {
            let _ = ClientFirst::parse(&first);
            let (conversation, _) = start(&ScramVerifier::of_nobody(&random(), "ada"));
            prop_assert!(conversation.finish(last.as_bytes()).is_err());
        }
    }
}
