//! The transcripts against a running gateway over real sockets, twice: with every segment in one write, and with every
//! byte a write of its own, the bytes of TLS handshakes and of the backend too. All of a transcript is checked here: the
//! relay, the follower of mail, the events, and that nothing is left when it is over.
//!
//! Player and gateway share a thread, so that what was written before is also seen before.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::talk::{Cut, Talk};
use crate::transcript::{Act, Failure, Kind, Transcript, folder};
use gatepost::proto::{Capabilities, Mechanism, Mechanisms, Protocol, TlsRule};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many are played at once: most of a session is waiting.
const AT_ONCE: usize = 8;

#[tokio::test]
async fn imap_sessions_go_as_written_in_the_program() {
    play_all("imap", Cut::Whole).await;
}

#[tokio::test]
async fn pop3_sessions_go_as_written_in_the_program() {
    play_all("pop3", Cut::Whole).await;
}

#[tokio::test]
async fn smtp_sessions_go_as_written_in_the_program() {
    play_all("smtp", Cut::Whole).await;
}

#[tokio::test]
async fn imap_sessions_go_as_written_byte_by_byte() {
    play_all("imap", Cut::Bytes).await;
}

#[tokio::test]
async fn pop3_sessions_go_as_written_byte_by_byte() {
    play_all("pop3", Cut::Bytes).await;
}

#[tokio::test]
async fn smtp_sessions_go_as_written_byte_by_byte() {
    play_all("smtp", Cut::Bytes).await;
}

async fn play_all(name: &str, cut: Cut) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut plays = JoinSet::new();
    for transcript in folder(name).into_iter().filter(|transcript| cut == Cut::Whole || transcript.whole.is_none()) {
        let places = Arc::clone(&places);
        plays.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            let path = transcript.path.clone();
            let played = tokio::spawn(async move { Play::play(&transcript, cut).await }).await;
            played.map_err(|panic| format!("{}: {panic}", path.display()))?.map_err(|failure| failure.to_string())
        });
    }
    let played = plays.join_all().await;
    let failures: Vec<&String> = played.iter().filter_map(|played| played.as_ref().err()).collect();
    let text = failures.iter().map(|failure| failure.as_str()).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {}\n{text}", failures.len(), played.len());
}

/// A transcript being played.
struct Play {
    gateway: Gateway,
    backend: Backend,
    /// Gone for the length of a handshake alone.
    client: Option<Talk>,
    /// The backend's connections, the one in use last.
    dialogues: Vec<Talk>,
    /// The one in use has been ended by the backend, or never was.
    is_over: bool,
    /// The gateway has said something on it that the backend has not answered.
    is_asked: bool,
    /// The client has said something since the backend last spoke.
    client_spoke: bool,
    closed: bool,
    /// The event of its end was seen.
    is_over_for_good: bool,
}

impl Play {
    async fn play(transcript: &Transcript, cut: Cut) -> Result<(), Failure> {
        let mut play = Self::begin(transcript, cut).await.map_err(|got| transcript.failure(1, "a session", got))?;
        for act in &transcript.acts {
            play.act(&act.kind).await.map_err(|got| transcript.failure(act.line, act.kind.to_string(), got))?;
        }
        let last = transcript.acts.last().map_or(1, |act| act.line);
        play.finish().await.map_err(|got| transcript.failure(last, "nothing more", got))
    }

    async fn begin(transcript: &Transcript, cut: Cut) -> Result<Self, String> {
        let protocol = transcript.service.protocol();
        let backend = Backend::listen(cut).await;
        let mut setup = Setup::one(transcript.service, transcript.tls, backend.address);
        for (key, mechanisms) in [("mechanisms", &transcript.mechanisms), ("without_tls", &transcript.without_tls)] {
            if let Mechanisms::Only(names) = mechanisms {
                let names: Vec<&str> = names.iter().map(Mechanism::as_str).collect();
                setup = setup.with("auth", &format!("{key}: [{}]", names.join(", ")));
            }
        }
        let learning = async {
            let mut asked = backend.dialled().await;
            learn(&mut asked, transcript, protocol).await?;
            asked.rest().await
        };
        let (gateway, learned) = tokio::join!(setup.start(), learning);
        learned?;
        gateway.has_learned().await;
        let mut client = Talk::connect(gateway.address(), None, cut).await.map_err(|error| error.to_string())?;
        if transcript.tls == TlsRule::Implicit {
            client = client.start_tls(gateway.trust()).await.map_err(|error| error.to_string())?;
        }
        Ok(Self {
            gateway,
            backend,
            client: Some(client),
            dialogues: Vec::new(),
            is_over: true,
            is_asked: false,
            client_spoke: false,
            closed: false,
            is_over_for_good: false,
        })
    }

    async fn act(&mut self, act: &Kind) -> Result<(), String> {
        match act {
            Kind::FromClient(segment) => {
                self.client()?.say(segment).await;
                self.client_spoke = true;
                Ok(())
            }
            Kind::ToClient(pattern) => self.client()?.expect(pattern).await,
            Kind::FromBackend(segment) => {
                // An answer nobody waits for, after the client has said more, is the greeting of a new connection.
                if self.is_over || (self.client_spoke && !self.is_asked) {
                    self.dialled().await?;
                }
                (self.is_asked, self.client_spoke) = (false, false);
                self.dialogue()?.say(segment).await;
                Ok(())
            }
            Kind::ToBackend(pattern) => {
                self.is_asked = true;
                self.dialogue()?.expect(pattern).await
            }
            Kind::Tls => {
                let trust = self.gateway.trust();
                let client = self.client.take().ok_or("the handshake before this one failed")?;
                self.client = Some(client.start_tls(trust).await.map_err(|error| error.to_string())?);
                Ok(())
            }
            Kind::Event { name, fields } => {
                let fields: Vec<(&str, &str)> = fields.iter().map(|(key, value)| (&**key, &**value)).collect();
                self.is_over_for_good |= name == "session.closed";
                self.gateway.try_event(name, &fields).await.map(drop)
            }
            Kind::BackendDown => {
                self.backend.down();
                Ok(())
            }
            Kind::BackendCloses => {
                self.dialogues.pop();
                self.is_over = true;
                Ok(())
            }
            Kind::Closed => {
                self.closed = true;
                match self.client()?.rest().await? {
                    rest if rest.is_empty() => {}
                    rest => return Err(rest.escape_ascii().to_string()),
                }
                self.client()?.end().await;
                Ok(())
            }
        }
    }

    /// Waits for the next dial. The connection before it must have been given up then.
    async fn dialled(&mut self) -> Result<(), String> {
        let next = self.backend.dialled().await;
        if let Some(last) = self.dialogues.last_mut().filter(|_| !self.is_over) {
            match last.rest().await? {
                rest if rest.is_empty() => {}
                rest => return Err(format!("on the connection before: {}", rest.escape_ascii())),
            }
        }
        self.dialogues.push(next);
        self.is_over = false;
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Talk, String> {
        self.client.as_mut().ok_or_else(|| "a handshake failed".to_owned())
    }

    fn dialogue(&mut self) -> Result<&mut Talk, String> {
        self.dialogues.last_mut().ok_or_else(|| "no connection to a backend".to_owned())
    }

    /// The client goes; nothing is said that the transcript does not show, and nothing stays.
    async fn finish(mut self) -> Result<(), String> {
        self.client()?.end().await;
        for mut dialogue in std::mem::take(&mut self.dialogues) {
            match dialogue.rest().await? {
                rest if rest.is_empty() || rest == b"QUIT\r\n" => {}
                rest => return Err(format!("G {}", rest.escape_ascii())),
            }
        }
        if !self.closed {
            match self.client()?.rest().await? {
                rest if rest.is_empty() => {}
                rest => return Err(format!("S {}", rest.escape_ascii())),
            }
        }
        if !self.is_over_for_good {
            self.gateway.try_event("session.closed", &[]).await?;
        }
        self.gateway.is_empty().await;
        if self.backend.is_dialled().await {
            return Err("a dial that nothing shows".to_owned());
        }
        match self.gateway.left("session.closed").await.as_slice() {
            [] => Ok(()),
            more => Err(format!("{more:?}")),
        }
    }
}

/// Answers the gateway's own question: from this it learns what the transcript says is remembered. Where the backend is
/// dialled before the greeting, that dialogue is what was heard before, too.
async fn learn(asked: &mut Talk, transcript: &Transcript, protocol: Protocol) -> Result<(), String> {
    let early: Vec<&Act> = transcript
        .acts
        .iter()
        .take_while(|act| transcript.early && matches!(act.kind, Kind::FromBackend(_) | Kind::ToBackend(_)))
        .collect();
    if !early.is_empty() {
        for act in early {
            match &act.kind {
                Kind::FromBackend(segment) => asked.say(segment).await,
                Kind::ToBackend(pattern) => asked.expect(pattern).await?,
                _ => {}
            }
        }
        return Ok(());
    }
    let Capabilities { lines, apop, .. } = &transcript.remembered;
    match protocol {
        Protocol::Imap => asked.line(&format!("* OK [CAPABILITY {}] ready", lines.join(" "))).await,
        Protocol::Pop3 => {
            let stamp = apop.as_deref().or(transcript.early.then_some("<1.2@backend.example.net>")).unwrap_or_default();
            asked.line(&format!("+OK ready {stamp}")).await;
            asked.hear("CAPA").await;
            asked.line(&format!("+OK\r\n{}\r\n.", lines.join("\r\n"))).await;
        }
        Protocol::Smtp => {
            asked.line("220 old.example.net ESMTP").await;
            asked.hear("EHLO mail.example.net").await;
            let mut lines = lines.clone();
            if transcript.remembered == Capabilities::minimum(protocol) {
                lines.push("AUTH PLAIN LOGIN".to_owned());
            }
            let last = lines.pop().unwrap_or_default();
            let others: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
            asked.line(&format!("250-old.example.net\r\n{others}250 {last}")).await;
        }
    }
    Ok(())
}
