//! Where everything is: addresses, ports, certificates, the directory.

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the gateways listen. A loopback address of our own leaves the standard ports to whom they belong.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Where the backend listens.
pub const BACKEND: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 2);
pub const IMAP: u16 = 143;
pub const POP3: u16 = 110;
/// The port Dovecot proxies submission to unless told otherwise.
pub const SMTP: u16 = 587;
/// Where the backend says to nginx which server is behind it.
pub const AUTH_HTTP: u16 = 8080;

/// The name on the certificate.
pub const NAME: &str = "mail.example.net";

/// A port of the gateway.
pub fn gateway(port: u16) -> SocketAddr {
    (GATEWAY, port).into()
}

/// The files that a comparison needs.
pub struct Site {
    pub directory: PathBuf,
    pub roots: RootCertStore,
    issuer: Issuer<'static, KeyPair>,
    kept: Option<tempfile::TempDir>,
}

/// A certificate's files.
#[derive(Clone)]
pub struct Pair {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Site {
    /// Makes the directory, a CA, and the one certificate that every peer shows.
    pub fn new(keep: bool) -> Result<Self> {
        let mut kept = tempfile::Builder::new().prefix("gatepost-compare-").tempdir()?;
        kept.disable_cleanup(keep);
        let directory = kept.path().to_owned();
        // The gateways' own users pass through.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let mut parameters = CertificateParams::new(Vec::<String>::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "compare");
        let key = KeyPair::generate()?;
        let root = CertificateDer::from(parameters.self_signed(&key)?.der().to_vec());
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let site = Self { directory, roots, issuer: Issuer::new(parameters, key), kept: Some(kept) };
        site.certificate("mail", NAME)?;
        let Pair { chain, key } = site.pair();
        // HAProxy and hitch want both in one file.
        let both = [std::fs::read(chain)?, std::fs::read(key)?].concat();
        std::fs::write(site.both(), both).context("certificate")?;
        Ok(site)
    }

    /// The certificate all peers have.
    pub fn pair(&self) -> Pair {
        Pair { chain: self.directory.join("mail.chain.pem"), key: self.directory.join("mail.key.pem") }
    }

    /// Its chain and key in one file.
    pub fn both(&self) -> PathBuf {
        self.directory.join("mail.pem")
    }

    /// Issues a certificate of ECDSA P-256.
    pub fn certificate(&self, file: &str, name: &str) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![name.to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let pair = Pair {
            chain: self.directory.join(format!("{file}.chain.pem")),
            key: self.directory.join(format!("{file}.key.pem")),
        };
        std::fs::write(&pair.chain, certificate.pem())?;
        std::fs::write(&pair.key, key.serialize_pem())?;
        std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(0o600))?;
        Ok(pair)
    }

    /// Where log lines may be sent to as datagrams.
    pub fn log_socket(&self) -> PathBuf {
        self.directory.join("log.socket")
    }

    /// An empty directory for a peer.
    pub fn room(&self, name: &str) -> Result<PathBuf> {
        let room = self.directory.join(name);
        let _ = std::fs::remove_dir_all(&room);
        std::fs::create_dir(&room)?;
        std::fs::set_permissions(&room, std::fs::Permissions::from_mode(0o755))?;
        Ok(room)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take()
            && kept.path().exists()
        {
            drop(kept);
        }
    }
}

/// The last lines of a file, to show why a program would not run.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
