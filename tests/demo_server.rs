//! The demo's mail server, driven by what people use: Python's mail modules and curl.

use gatepost::cli::demo::server::{MailServer, PASSWORD, USER};
use std::process::{Command, Output, Stdio};

#[tokio::test(flavor = "multi_thread")]
async fn imap_serves_a_mail_program() {
    let server = MailServer::start().await.expect("three ports on loopback");
    python(include_str!("demo_server/imap.py"), &[server.imap.port(), server.smtp.port()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pop3_and_smtp_serve_a_mail_program() {
    let server = MailServer::start().await.expect("three ports on loopback");
    python(include_str!("demo_server/pop3_and_smtp.py"), &[server.pop3.port(), server.smtp.port()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_lists_reads_and_sends() {
    let server = MailServer::start().await.expect("three ports on loopback");
    let (imap, pop3, smtp) = (server.imap.port(), server.pop3.port(), server.smtp.port());

    let folders = curl(&[&format!("imap://127.0.0.1:{imap}/")]).await;
    assert!(folders.contains("\"INBOX\"") && folders.contains("\\Trash"), "{folders}");
    let newest = curl(&[&format!("imap://127.0.0.1:{imap}/INBOX;MAILINDEX=*")]).await;
    assert!(newest.contains("what you are reading"), "{newest}");
    let envelopes = curl(&[&format!("imap://127.0.0.1:{imap}/INBOX"), "-X", "FETCH 1:* ENVELOPE"]).await;
    assert_eq!(envelopes.matches("ENVELOPE").count(), 4, "{envelopes}");
    let found = curl(&[&format!("imap://127.0.0.1:{imap}/INBOX?SUBJECT%20ports")]).await;
    assert_eq!(found.trim(), "* SEARCH 2");
    let listing = curl(&[&format!("pop3://127.0.0.1:{pop3}/")]).await;
    assert_eq!(listing.lines().count(), 4, "{listing}");
    let letter = curl(&[&format!("pop3://127.0.0.1:{pop3}/4")]).await;
    assert!(letter.contains("what you are reading"), "{letter}");

    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "Subject: by curl\r\n\r\nHello.\r\n").expect("a temporary file takes text");
    let path = file.path().to_str().expect("a plain path");
    let url = format!("smtp://127.0.0.1:{smtp}");
    curl(&[&url, "--mail-from", USER, "--mail-rcpt", USER, "--mail-rcpt", "world@example.com", "-T", path]).await;
    let arrived = curl(&[&format!("imap://127.0.0.1:{imap}/INBOX;MAILINDEX=5")]).await;
    assert!(arrived.contains("Subject: by curl\r\n\r\nHello.\r\n"), "{arrived}");
    let left = curl(&[&format!("imap://127.0.0.1:{imap}/Outbox%20(would%20have%20left);MAILINDEX=2")]).await;
    assert!(left.contains("X-Envelope-To: world@example.com"), "{left}");

    let appended = format!("imap://127.0.0.1:{imap}/Sent");
    curl(&[&appended, "-T", path]).await;
    let sent = curl(&[&format!("{appended};MAILINDEX=1")]).await;
    assert!(sent.contains("Subject: by curl"), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_is_gone() {
    let server = MailServer::start().await.expect("three ports on loopback");
    let address = server.imap;
    let mut client = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let mut greeting = [0; 4];
    tokio::io::AsyncReadExt::read_exact(&mut client, &mut greeting).await.expect("it greets");
    drop(server);
    let mut rest = Vec::new();
    // A reset ends it as well as a close does.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut rest).await;
    // The task that accepts ends when its thread comes to it, which is no sooner than the client's end.
    let closed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("the port is closed");
}

async fn python(script: &'static str, ports: &[u16]) {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args(ports.iter().map(ToString::to_string));
    let output = run(command).await;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim() == "done", "{said}\n{complained}");
}

async fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
    command.args(["--user", &format!("{USER}:{PASSWORD}")]).args(arguments);
    let output = run(command).await;
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program to its end; the server goes on meanwhile.
async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let program = command.get_program().to_owned();
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the thread ends");
    output.unwrap_or_else(|error| panic!("this test needs {}: {error}", program.display()))
}
