//! An authority by the hand of openssl, and certificates that are good or as bad as a test wants them.

use crate::command::{client, output_of};
use crate::kept::{directory, write};
use std::path::{Path, PathBuf};

/// A CA in a directory of its own, which goes with it.
pub struct Authority(PathBuf);

/// What is signed.
pub struct Order<'a> {
    /// The names in the certificate.
    pub names: &'a str,
    /// As `openssl req -newkey` takes it, with its options.
    pub key: &'a str,
    pub digest: &'a str,
    /// The first and the last moment, as `openssl ca` takes them.
    pub dates: (&'a str, &'a str),
    /// What it is for: serverAuth, clientAuth.
    pub usage: &'a str,
}

impl Order<'_> {
    /// What everybody takes.
    pub const GOOD: Self = Self {
        names: "DNS:mail.example.net",
        key: "ec -pkeyopt ec_paramgen_curve:P-256",
        digest: "sha256",
        dates: ("200101000000Z", "490101000000Z"),
        usage: "serverAuth",
    };
}

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let authority = Self(directory("authority"));
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=Authority -keyout ca.key \
             -out ca.pem -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign",
        );
        write(
            &authority.0.join("ca.cnf"),
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\nserial=serial\ncrlnumber=crlnumber\nunique_subject=no\npolicy=any\n\
             [any]\ncommonName=supplied\n",
        );
        write(&authority.0.join("index.txt"), "");
        write(&authority.0.join("serial"), "01\n");
        // Lists are of version 2 with it.
        write(&authority.0.join("crlnumber"), "01\n");
        authority
    }

    /// The root, for who is to trust it.
    pub fn root(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Its own certificate and key: signed by itself, and for no name.
    pub fn own(&self) -> (PathBuf, PathBuf) {
        (self.root(), self.0.join("ca.key"))
    }

    /// Signs a new key, and says where certificate and key are.
    pub fn sign(&self, name: &str, order: &Order<'_>) -> (PathBuf, PathBuf) {
        let Order { names, key, digest, dates: (begin, end), usage } = order;
        write(
            &self.0.join("extensions"),
            format!("subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\n"),
        );
        self.openssl(&format!("req -new -newkey {key} -nodes -subj /CN=server -keyout {name}.key -out {name}.req"));
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -md {digest} -startdate {begin} -enddate {end} \
             -extfile extensions -in {name}.req -out {name}.pem"
        ));
        (self.0.join(format!("{name}.pem")), self.0.join(format!("{name}.key")))
    }

    /// Revokes what it has signed under this name, and gives the list of all that is revoked, PEM.
    pub fn revoked(&self, name: &str) -> String {
        let ca = "ca -config ca.cnf -cert ca.pem -keyfile ca.key -md sha256";
        self.openssl(&format!("{ca} -revoke {name}.pem"));
        self.openssl(&format!("{ca} -gencrl -crldays 30 -out list.pem"));
        std::fs::read_to_string(self.0.join("list.pem")).expect("a list")
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = client("openssl");
        openssl.current_dir(&self.0).args(arguments.split_whitespace());
        output_of(openssl, b"");
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Dovecot's settings for a certificate.
pub fn of_dovecot((chain, key): &(PathBuf, PathBuf)) -> String {
    format!("ssl_cert = <{}\nssl_key = <{}\n", chain.display(), key.display())
}

/// Postfix's settings for a certificate.
pub fn of_postfix((chain, key): &(PathBuf, PathBuf)) -> String {
    let show = |path: &Path| path.display().to_string();
    format!("smtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\n", show(chain), show(key))
}
