//! A small old mail server that speaks plaintext: just enough for a login and a mail. Everybody's password begins with `secret`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What it speaks.
#[derive(Clone, Copy)]
pub enum Speaks {
    Imap,
    Pop3,
    Smtp,
}

/// Begins to serve, for as long as the tests run, and says where.
pub fn serve(speaks: Speaks) -> SocketAddr {
    serve_at(speaks, ([127, 0, 0, 1], 0).into())
}

/// The same at an address.
pub fn serve_at(speaks: Speaks, address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever leaves in the middle has left.
            std::thread::spawn(move || converse(speaks, &client));
        }
    });
    address
}

fn converse(speaks: Speaks, client: &TcpStream) -> std::io::Result<()> {
    let mut client_out = client;
    let mut say = |text: &str| client_out.write_all(format!("{text}\r\n").as_bytes());
    say(match speaks {
        Speaks::Imap => "* OK [CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN] old server",
        Speaks::Pop3 => "+OK old server",
        Speaks::Smtp => "220 old.example.net ESMTP",
    })?;
    let mut lines = BufReader::new(client).lines();
    let mut in_data = false;
    while let Some(line) = lines.next().transpose()? {
        if in_data {
            in_data = line != ".";
            if !in_data {
                say("250 2.0.0 taken")?;
            }
            continue;
        }
        let ending = match speaks {
            Speaks::Imap => imap(&line, &mut say)?,
            Speaks::Pop3 => pop3(&line, &mut say)?,
            Speaks::Smtp => smtp(&line, &mut say)?,
        };
        match ending {
            After::More => {}
            After::Data => in_data = true,
            After::Idle => while lines.next().transpose()?.is_some_and(|line| line != "DONE") {},
            After::Response(tag) => {
                say("+ ")?;
                let response = lines.next().transpose()?.unwrap_or_default();
                say(&if is_of_another(&response) {
                    format!("{tag} NO [AUTHENTICATIONFAILED] no")
                } else {
                    format!("{tag} OK AUTHENTICATE done")
                })?;
            }
            After::Goodbye => break,
        }
    }
    Ok(())
}

/// What comes after a command.
enum After {
    More,
    Data,
    Idle,
    /// To AUTHENTICATE PLAIN, under this tag.
    Response(String),
    Goodbye,
}

type Say<'a> = &'a mut dyn FnMut(&str) -> std::io::Result<()>;

fn imap(line: &str, say: Say<'_>) -> std::io::Result<After> {
    let (tag, command) = line.split_once(' ').unwrap_or((line, ""));
    let verb = command.split(' ').next().unwrap_or_default().to_ascii_uppercase();
    match verb.as_str() {
        "CAPABILITY" => say("* CAPABILITY IMAP4rev1 IDLE AUTH=PLAIN")?,
        "LOGIN" if !command.contains("secret") => {
            say(&format!("{tag} NO [AUTHENTICATIONFAILED] no"))?;
            return Ok(After::More);
        }
        "AUTHENTICATE" => return Ok(After::Response(tag.to_owned())),
        "IDLE" => {
            say("+ idling")?;
            return Ok(After::Idle);
        }
        "LOGOUT" => {
            say("* BYE")?;
            say(&format!("{tag} OK done"))?;
            return Ok(After::Goodbye);
        }
        _ => {}
    }
    say(&format!("{tag} OK {verb} done"))?;
    Ok(After::More)
}

fn pop3(line: &str, say: Say<'_>) -> std::io::Result<After> {
    match line.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "CAPA" => say("+OK\r\nUSER\r\n.")?,
        "PASS" if !line.starts_with("PASS secret") => say("-ERR [AUTH] no")?,
        "QUIT" => {
            say("+OK bye")?;
            return Ok(After::Goodbye);
        }
        _ => say("+OK")?,
    }
    Ok(After::More)
}

fn smtp(line: &str, say: Say<'_>) -> std::io::Result<After> {
    match line.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "EHLO" => say("250-old.example.net\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME")?,
        "AUTH" if line.strip_prefix("AUTH PLAIN ").is_some_and(is_of_another) => say("535 5.7.8 no")?,
        "AUTH" => say("235 2.7.0 welcome")?,
        "DATA" => {
            say("354 go on")?;
            return Ok(After::Data);
        }
        "QUIT" => {
            say("221 2.0.0 bye")?;
            return Ok(After::Goodbye);
        }
        _ => say("250 2.0.0 ok")?,
    }
    Ok(After::More)
}

/// Whether a response for PLAIN brings a password that is not the one.
fn is_of_another(response: &str) -> bool {
    let response = BASE64_STANDARD.decode(response).unwrap_or_default();
    !response.rsplit(|byte| *byte == 0).next().is_some_and(|password| password.starts_with(b"secret"))
}
