//! What sessions leave behind when they are over: nothing.

use crate::clients::python;
use crate::gatepost::{Backend, Gatepost};
use crate::kept::until;
use crate::servers::dovecot::Dovecot;
use std::net::Ipv4Addr;

/// Sessions that end well, badly and not at all; a user for each, since a POP3 session locks its mailbox.
const SESSIONS: &str = "
for i in range(10):
    m = imap(); m.login(f'i-a-{i}', 'secret'); m.select(); m.logout()
    m = imap('imap+starttls'); m.login(f'i-b-{i}', 'secret'); m.socket().close()
    refused(lambda: imap().login('stranger', f'wrong {i}'))
    p = pop3(); p.user(f'p-a-{i}'); p.pass_('secret'); p.sock.close()
    p = pop3('pop3+stls'); p.user(f'p-b-{i}'); p.pass_('secret'); p.quit()
    for port in (993, 995, 143, 110):
        s = socket.create_connection((GATE, port)); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); s.close()
        socket.create_connection((GATE, port)).close()
    r = Raw(993); r.send(f'a LOGIN i-c-{i} secret\\r\\n'.encode()); r.socket.close()
    r = Raw(995); r.send(f'USER p-c-{i}\\r\\nPASS secret\\r\\n'.encode()); r.socket.close()
";

#[test]
fn no_descriptor_and_no_connection_outlives_its_session() {
    let behind = Dovecot::start("");
    let gateway = Gatepost::start(Backend { imap: Some(behind.imap()), pop3: Some(behind.pop3()), smtp: None }, "");
    python(&gateway, SESSIONS);
    until("the first sessions to end", || (established(behind.address) == 0).then_some(()));
    let before = gateway.descriptors();

    python(&gateway, &SESSIONS.replace("-{i}", "-again-{i}"));
    until("the server's connections to end", || (established(behind.address) == 0).then_some(()));
    until(&format!("no more than the {before} descriptors of before"), || {
        (gateway.descriptors() <= before).then_some(())
    });
}

/// How many connections to `server` are open, by the kernel's own list.
fn established(server: Ipv4Addr) -> usize {
    const ESTABLISHED: &str = "01";
    let local = format!("{:08X}:", u32::from_ne_bytes(server.octets()));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.get(1).is_some_and(|at| at.starts_with(&local)) && row.get(3) == Some(&ESTABLISHED))
        .count()
}
