//! TLS before the protocol, for a listener that others than this machine's seats reach. A client that
//! does not begin with a handshake is cut.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::server::Stream;

/// A handshake takes two round trips.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// A server's certificate and key. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The text holds no certificate that can be read.
    #[error(
        "there is no certificate in it: it needs `-----BEGIN CERTIFICATE-----` and what follows"
    )]
    Certificate,
    /// The text holds no private key that can be read.
    #[error(
        "there is no private key in it: it needs `-----BEGIN PRIVATE KEY-----` and what follows, without a passphrase"
    )]
    Key,
    /// The TLS library refuses both together.
    #[error("certificate and key cannot be used together")]
    Pair(#[source] rustls::Error),
}

impl Tls {
    /// Reads PEM text with a private key and the server's certificate, those that signed it after it:
    /// `mongod`'s `tlsCertificateKeyFile`. Clients show no certificate; they log in with a password.
    ///
    /// # Errors
    /// When one of the two is missing or broken, or they do not belong together.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsError::Key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Pair)?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Waits for the client's handshake.
    pub(crate) async fn accept(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let stream = timeout(HANDSHAKE_TIME_MAX, self.0.accept(stream)).await??;
        Ok(Box::new(stream))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
