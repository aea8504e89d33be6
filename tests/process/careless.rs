//! A server under TLS that takes care of nothing: what stands behind STARTTLS in the clear it runs, or not, as it is told.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// What it speaks, line by line: the greeting, the answers to STARTTLS and QUIT (or LOGOUT), and the one to anything else.
#[derive(Clone, Copy)]
pub struct Words {
    pub greeting: &'static str,
    pub upgrade: &'static str,
    pub answer: fn(&str) -> String,
}

/// IMAP.
pub const IMAP: Words = Words {
    greeting: "* OK careless",
    upgrade: "s OK go on",
    answer: |line| {
        let (tag, command) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "CAPABILITY" => format!("* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n{tag} OK"),
            "LOGOUT" => format!("* BYE\r\n{tag} OK"),
            _ => format!("{tag} OK"),
        }
    },
};

/// POP3.
pub const POP3: Words = Words {
    greeting: "+OK careless",
    upgrade: "+OK go on",
    answer: |line| if line == "CAPA" { "+OK\r\nSTLS\r\nUIDL\r\n.".to_owned() } else { "+OK".to_owned() },
};

/// SMTP.
pub const SMTP: Words = Words {
    greeting: "220 careless",
    upgrade: "220 go on",
    answer: |line| match line.split(' ').next() {
        Some("EHLO") => "250-careless\r\n250-SIZE\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 STARTTLS".to_owned(),
        Some("QUIT") => "221 bye".to_owned(),
        Some("MAIL" | "RCPT") => "554 5.7.1 no".to_owned(),
        _ => "250 ok".to_owned(),
    },
};

/// Serves for as long as the tests run. `runs` says whether it runs what it read in the clear.
pub fn serve(words: Words, runs: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let config = config();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // Whoever leaves in the middle has left.
            std::thread::spawn(move || converse(words, runs, config, client));
        }
    });
    address
}

fn converse(words: Words, runs: bool, config: Arc<ServerConfig>, mut client: TcpStream) -> std::io::Result<()> {
    client.write_all(format!("{}\r\n", words.greeting).as_bytes())?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line.contains("STARTTLS") || line.contains("STLS") {
            client.write_all(format!("{}\r\n", words.upgrade).as_bytes())?;
            // The mistake that CVE-2011-0411 is: the buffer outlives the upgrade.
            let behind = if runs { reader.buffer().to_vec() } else { Vec::new() };
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            let mut stream = StreamOwned::new(connection, client);
            stream.conn.complete_io(&mut stream.sock)?;
            return answer(words, behind, stream);
        }
        client.write_all(format!("{}\r\n", (words.answer)(line.trim_end())).as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn answer(words: Words, mut input: Vec<u8>, mut stream: impl Read + Write) -> std::io::Result<()> {
    loop {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            stream.write_all(format!("{}\r\n", (words.answer)(&line)).as_bytes())?;
            stream.flush()?;
            if line.ends_with("LOGOUT") || line == "QUIT" {
                return Ok(());
            }
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        input.extend_from_slice(&buffer[..read]);
    }
}

fn config() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["mail.example.net".to_owned()]).expect("signs");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(made.cert)], key)
        .expect("a pair");
    Arc::new(config)
}
