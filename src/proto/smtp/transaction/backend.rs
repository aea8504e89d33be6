//! The backend's side: its replies, in the order in which it was asked.

use super::super::data::DataScanner;
use super::super::reply::SmtpReply;
use super::super::words;
use super::{Due, Envelope, Message, Over, Phase, Progress, Refused, Stage, Transaction};
use crate::proto::BackFault;
use bytes::BytesMut;

impl Transaction {
    /// Takes what the backend sent. A reply is passed on as it is, control bytes made harmless; one that nobody waits
    /// for, or that does not fit the command, ends the session: the two sides would no longer mean the same.
    pub fn backend(&mut self, input: &mut BytesMut, to_backend: &mut BytesMut, to_client: &mut BytesMut) -> Progress {
        loop {
            if let Some(over) = self.over() {
                return over;
            }
            if self.abandoned || matches!(self.phase, Phase::Over) {
                input.clear();
                return Progress::More;
            }
            let progress = match self.replies.next(input) {
                Ok(None) => return Progress::More,
                Ok(Some(reply)) => self.reply(&reply, to_backend, to_client),
                Err(fault) => Some(self.fault(fault, to_client)),
            };
            if let Some(progress) = progress {
                return progress;
            }
        }
    }

    fn reply(&mut self, reply: &SmtpReply, to_backend: &mut BytesMut, to_client: &mut BytesMut) -> Option<Progress> {
        if matches!(self.phase, Phase::Data(_)) {
            return self.early(reply, to_backend);
        }
        if matches!(self.phase, Phase::DataEnd) && !to_backend.is_empty() {
            return Some(self.before_the_dot(reply, to_backend, to_client));
        }
        let Some(due) = self.due.pop_front() else {
            if reply.code() != 421 {
                return Some(self.fault(BackFault::Unsolicited, to_client));
            }
            reply.write(to_client);
            self.ending = Some(closing(reply));
            return None;
        };
        let fits = if matches!(due, Due::Data) { !reply.is_positive() } else { !reply.is_intermediate() };
        if !fits || reply.is_intermediate() && reply.code() != 354 {
            return Some(self.fault(BackFault::Garbage("SMTP", reply.summary().to_line()), to_client));
        }
        match &due {
            Due::Hello(answer) if reply.code() != 421 => to_client.extend_from_slice(answer),
            _ => reply.write(to_client),
        }
        if reply.code() == 421 {
            // The connection ends: what else was asked will not be answered.
            self.due.clear();
            self.ending = Some(closing(reply));
        }
        let progress = self.settle(due, reply);
        self.speak_up(to_client);
        progress
    }

    /// What a reply means for the message under way.
    fn settle(&mut self, due: Due, reply: &SmtpReply) -> Option<Progress> {
        match due {
            Due::Mail(from) if reply.is_positive() => {
                self.envelope = Some(Envelope { from, recipients: 0 });
                None
            }
            Due::Mail(from) => {
                self.fruitless += 1;
                Some(Progress::Refused(Refused { stage: Stage::Sender, from, reason: None, reply: reply.summary() }))
            }
            Due::Rcpt(_) if reply.is_positive() => {
                self.envelope.get_or_insert_default().recipients += 1;
                None
            }
            Due::Rcpt(to) => {
                self.refused_recipients += 1;
                Some(Progress::Refused(self.refused(Stage::Recipient(to), None, reply.summary())))
            }
            Due::Rset | Due::Hello(_) => {
                self.envelope = None;
                None
            }
            Due::Data if reply.is_intermediate() => {
                let scanner = DataScanner::new(self.settings.bare_newline, self.settings.max_message);
                self.phase = Phase::Data(scanner);
                Some(Progress::Data)
            }
            Due::Data => {
                self.fruitless += 1;
                // MAIL and RCPT stay taken: another recipient and another DATA may follow.
                self.phase = Phase::Commands;
                let recipients = self.envelope.as_ref().map_or(0, |envelope| envelope.recipients);
                let stage = Stage::Message { recipients, size: 0 };
                Some(Progress::Refused(self.refused(stage, None, reply.summary())))
            }
            Due::Message(size) => {
                self.phase = Phase::Commands;
                Some(if reply.is_positive() {
                    (self.errors, self.fruitless) = (0, 0);
                    let envelope = self.envelope.take().unwrap_or_default();
                    Progress::Accepted(Message { envelope, size, reply: reply.summary() })
                } else {
                    Progress::Refused(self.refused_message(size, None, reply.summary()))
                })
            }
            Due::Noop | Due::Ours(_) => None,
        }
    }

    /// Says what stood behind the reply that has just come.
    fn speak_up(&mut self, to_client: &mut BytesMut) {
        while let Some(Due::Ours(answer)) = self.due.front() {
            to_client.extend_from_slice(answer);
            self.due.pop_front();
        }
        if self.due.is_empty() {
            (self.unanswered, self.hold) = (0, false);
        }
    }

    /// A reply before the message is at its end: the backend will not take it (452, 421, 554), or believes it has it
    /// all (2yz). Either way nothing more of the message may reach it.
    fn early(&mut self, reply: &SmtpReply, to_backend: &mut BytesMut) -> Option<Progress> {
        let Phase::Data(scanner) = std::mem::replace(&mut self.phase, Phase::Commands) else { return None };
        let mut answer = BytesMut::new();
        if reply.code() >= 400 {
            reply.write(&mut answer);
        } else {
            words::line(words::MAIL_UNAVAILABLE, &mut answer);
        }
        let ending = (reply.code() == 421).then(|| closing(reply));
        Some(self.abandon(scanner, (None, reply.summary()), answer, ending, to_backend))
    }

    /// The same where the client has ended its message, but the backend cannot have heard so: its end is still to be
    /// written. A yes is not for this message, or not for all of it.
    fn before_the_dot(&mut self, reply: &SmtpReply, to_backend: &mut BytesMut, to_client: &mut BytesMut) -> Progress {
        let size = match self.due.pop_front() {
            Some(Due::Message(size)) => size,
            _ => 0,
        };
        if reply.code() >= 400 {
            reply.write(to_client);
        } else {
            words::line(words::MAIL_UNAVAILABLE, to_client);
        }
        self.speak_up(to_client);
        self.ending = (reply.code() == 421).then(|| closing(reply));
        to_backend.clear();
        self.abandoned = true;
        self.errors += 1;
        self.phase = Phase::Commands;
        Progress::Abandon(self.refused_message(size, None, reply.summary()))
    }

    fn fault(&mut self, fault: BackFault, to_client: &mut BytesMut) -> Progress {
        self.due.clear();
        self.phase = Phase::Over;
        words::line(words::BACKEND_LOST, to_client);
        Progress::Over(Over::Backend(fault))
    }
}

fn closing(reply: &SmtpReply) -> Over {
    Over::Backend(BackFault::TurnedAway(reply.summary().to_line()))
}
