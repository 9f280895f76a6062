//! How connections to PostgreSQL are encrypted: libpq's `sslmode`, spoken by rustls. It owns which
//! certificates are believed; who logs in is not its business.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// Whether and how a connection to PostgreSQL is encrypted.
#[derive(Clone, Default)]
pub struct PostgresTls(Option<Arc<ClientConfig>>);

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The text holds no certificate that can be read.
    #[error(
        "the root certificates cannot be read: give a file of PEM text, `-----BEGIN CERTIFICATE-----`"
    )]
    Roots,
    /// The TLS library refuses the settings.
    #[error("cannot set up TLS")]
    Settings(#[source] rustls::Error),
}

impl PostgresTls {
    /// Returns no encryption: a socket of this machine.
    pub fn off() -> Self {
        Self(None)
    }

    /// Returns encryption with whoever answers (`sslmode=require`): nobody can listen in, but somebody
    /// between could answer instead of the server.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn unverified() -> Result<Self, TlsError> {
        let provider = provider();
        let verifier = Arc::new(Anyone(Arc::clone(&provider)));
        let config = builder(provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(Self(Some(Arc::new(config.with_no_client_auth()))))
    }

    /// Returns encryption with a server whose certificate has its name and leads to a root
    /// (`sslmode=verify-full`): one of these PEM certificates, else one of the public authorities.
    ///
    /// # Errors
    /// When the certificates cannot be read.
    pub fn verified(roots: Option<&[u8]>) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        match roots {
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| TlsError::Roots)?;
                    store.add(certificate).map_err(|_| TlsError::Roots)?;
                }
            }
        }
        if store.is_empty() {
            return Err(TlsError::Roots);
        }
        let config = builder(provider())?.with_root_certificates(store);
        Ok(Self(Some(Arc::new(config.with_no_client_auth()))))
    }

    /// Returns what the connection's configuration must ask of the server.
    pub fn mode(&self) -> SslMode {
        if self.0.is_some() {
            SslMode::Require
        } else {
            SslMode::Disable
        }
    }
}

impl fmt::Debug for PostgresTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "on" } else { "off" })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Settings)
}

impl MakeTlsConnect<Socket> for PostgresTls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        Ok(Handshake {
            config: self.0.clone(),
            server: domain.to_owned(),
        })
    }
}

/// One connection's handshake.
pub struct Handshake {
    config: Option<Arc<ClientConfig>>,
    server: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let config = self
                .config
                .ok_or_else(|| io::Error::other("this connection is not to be encrypted"))?;
            let server = ServerName::try_from(self.server).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(server, stream).await?;
            Ok(Encrypted(stream))
        })
    }
}

/// An encrypted connection.
pub struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Believes every certificate, but still asks for proof that the server holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
