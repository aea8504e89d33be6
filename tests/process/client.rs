//! A mail client in a few lines: over TLS or in the clear, a line at a time.

use super::outcome::PATIENCE;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// The name that clients expect on the certificate.
pub const NAME: &str = "mail.example.net";

/// A connection to the gateway.
pub struct Client(BufReader<Stream>);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// Connects in the clear.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(BufReader::new(Stream::Plain(connect(address)?))))
    }

    /// Connects with TLS and believes only `root` (PEM), for [`NAME`].
    pub fn tls(address: SocketAddr, root: &[u8]) -> io::Result<Self> {
        Self::tls_for(NAME, address, root)
    }

    /// The same for another name.
    pub fn tls_for(name: &str, address: SocketAddr, root: &[u8]) -> io::Result<Self> {
        Self::tls_as(None, name, address, root)
    }

    /// The same with a certificate and its key (PEM), up to the first octet under TLS: there a client of TLS 1.3 hears that it
    /// is not let in.
    pub fn tls_with(own: (&[u8], &[u8]), address: SocketAddr, root: &[u8]) -> io::Result<Self> {
        let mut client = Self::tls_as(Some(own), NAME, address, root)?;
        client.0.fill_buf()?;
        Ok(client)
    }

    fn tls_as(own: Option<(&[u8], &[u8])>, name: &str, address: SocketAddr, root: &[u8]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root).expect("a certificate in PEM")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate).expect("a certificate in PEM");
                let key = PrivateKeyDer::from_pem_slice(key).expect("a key in PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
        };
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = StreamOwned::new(connection, connect(address)?);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self(BufReader::new(Stream::Tls(Box::new(stream)))))
    }

    /// The next line, without its end; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line, or the end");
        line.trim_end().to_owned()
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            // The end of a killed peer.
            Ok(_) | Err(_) => String::from_utf8_lossy(&rest).into_owned(),
        }
    }

    /// Says a line and returns the lines up to and including the first that begins with `until`.
    #[track_caller]
    pub fn ask(&mut self, line: &str, until: &str) -> Vec<String> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("the gateway listens");
        let mut answer = Vec::new();
        loop {
            let line = self.line();
            let is_last = line.starts_with(until);
            let is_end = line.is_empty();
            answer.push(line);
            assert!(!is_end, "{line:?} was answered by {answer:?}", line = answer.join("\n"));
            if is_last {
                return answer;
            }
        }
    }

    /// Logs in by IMAP as `user`, from the greeting on.
    #[track_caller]
    pub fn imap_login(mut self, user: &str) -> Self {
        assert!(self.line().starts_with("* OK"), "no greeting");
        self.ask(&format!("a LOGIN {user} secret"), "a OK");
        self
    }

    /// Whether the session is alive: the server behind answers.
    #[track_caller]
    pub fn noop(&mut self) {
        self.ask("n NOOP", "n OK");
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

impl Stream {
    fn both(&mut self) -> &mut dyn Both {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut **stream,
        }
    }
}

trait Both: Read + Write {}
impl<S: Read + Write> Both for S {}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.both().read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.both().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.both().flush()
    }
}
