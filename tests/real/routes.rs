//! Several old servers behind one name, and nginx's mail proxy beside the gateway, both asking one service.

use crate::clients::{curl, output_of, python};
use crate::command::client;
use crate::gatepost::{Backend, Gatepost};
use crate::kept::{Kept, directory, own_address, until, write};
use crate::servers::{dovecot, first_line, postfix};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[test]
fn two_old_servers_stand_behind_one_name_and_each_user_finds_his_own() {
    let (main, shell) = (dovecot::shared(), dovecot::Dovecot::start(""));
    let (here, there) = (main.user("routed-here"), shell.user("routed-there"));
    main.deliver(here, "Subject: on main\r\n\r\nx\r\n");
    shell.deliver(there, "Subject: on shell\r\n\r\nx\r\n");
    let others =
        format!("  shell: {{ imap: \"{}\", pop3: \"{}\", health_interval: 5s }}\n", shell.imap(), shell.pop3());
    let routes = "  - { user: \"*@shell.example.net\", backend: shell, login: \"{local}\" }\n";
    let gateway = Gatepost::start_routed(Backend { smtp: None, ..Backend::usual() }, &others, routes);
    for (user, subject) in [(here.to_owned(), "on main"), (format!("{there}@shell.example.net"), "on shell")] {
        for url in ["imaps://mail.example.net/INBOX;UID=1", "pop3s://mail.example.net/1"] {
            let mut curl = curl(&gateway);
            curl.args(["--user", &format!("{user}:secret"), url]);
            assert!(output_of(curl, b"").contains(&format!("Subject: {subject}")), "{user} {url}");
        }
    }
    let login = gateway.event("auth.ok", "routed-there@shell.example.net");
    assert_eq!((&login["login"], &login["backend"]), (&there.into(), &"shell".into()), "{login}");
}

/// A million users: what a provider of the second rank has. The old ones are still served while the map is read again.
#[test]
fn a_map_of_a_million_users_is_read_and_every_user_in_it_is_found() {
    let dovecot = dovecot::shared();
    let folder = tempfile::tempdir().expect("a directory");
    let map = folder.path().join("users.map");
    let text: String = (0..1_000_000).map(|n| format!("customer{n}@example.net main routed-{n}\n")).collect();
    std::fs::write(&map, text).expect("written");
    let routes = format!("  - {{ file: {} }}\n", map.display());
    let backend = Backend { imap: Some(dovecot.imap()), ..Backend::default() };
    let gateway = Gatepost::start_routed(backend, "", &routes);
    for number in [0, 499_999, 999_999] {
        let mut curl = curl(&gateway);
        curl.args(["--user", &format!("Customer{number}@example.net:secret"), "imaps://mail.example.net/"]);
        assert!(output_of(curl, b"").contains("INBOX"));
        let login = gateway.event("auth.ok", &format!("Customer{number}@example.net"));
        assert_eq!(login["login"], format!("routed-{number}"), "{login}");
    }
}

/// A service as `auth_http.md` describes one: it knows where users are, keeps what it was asked, and has a word for some.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Service {
    fn start(imap: SocketAddr, pop3: SocketAddr, smtp: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            // Every other question of the patient is too early.
            let mut is_early = false;
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let lines: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let value = |name: &str| {
                    lines.iter().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
                };
                let server = match value("Auth-Protocol").as_str() {
                    "imap" => imap,
                    "pop3" => pop3,
                    _ => smtp,
                };
                let there =
                    format!("Auth-Status: OK\r\nAuth-Server: {}\r\nAuth-Port: {}\r\n", server.ip(), server.port());
                let answer = match value("Auth-User").as_str() {
                    "alias@example.net" => there + "Auth-User: nginx-alias\r\nAuth-Pass: secret\r\n",
                    "patient" if !is_early => {
                        is_early = true;
                        "Auth-Status: WAIT\r\nAuth-Wait: 1\r\n".to_owned()
                    }
                    "patient" => {
                        is_early = false;
                        there + "Auth-User: nginx-patient\r\n"
                    }
                    "busy" => "Auth-Status: Temporary server problem\r\nAuth-Error-Code: 451 4.3.0\r\nAuth-Wait: 1\r\n"
                        .to_owned(),
                    _ if value("Auth-Pass") != "secret" => {
                        "Auth-Status: Invalid login or password\r\nAuth-Wait: 1\r\n".to_owned()
                    }
                    _ => there,
                };
                kept.lock().expect("no panic").push(lines);
                // A client that has gone needs no answer.
                let _ = (&stream).write_all(format!("HTTP/1.0 200 OK\r\n{answer}\r\n").as_bytes());
            }
        });
        Self { address, asked }
    }

    /// What was asked since the last look.
    fn asked(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

/// nginx with the gateway's certificate, on the same ports of an address of its own.
fn nginx(gateway: &Gatepost, service: SocketAddr) -> (Ipv4Addr, Kept) {
    let (address, directory) = (own_address(), directory("nginx"));
    let at = directory.display();
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_mail_module.so;\nuser root;\ndaemon off;\nworker_processes 1;\npid {at}/pid;\n\
         error_log {at}/log info;\nevents {{ worker_connections 100; }}\nmail {{\n server_name mail.example.net;\n\
         \x20auth_http {service}/auth;\n auth_http_header X-Auth-Key hunter2;\n proxy_smtp_auth on;\n xclient off;\n\
         \x20proxy_pass_error_message on;\n smtp_auth plain login;\n imap_auth plain login;\n pop3_auth plain;\n\
         \x20ssl_certificate {};\n ssl_certificate_key {};\n ssl_protocols TLSv1.3;\n",
        gateway.certificate(0).display(),
        gateway.key(0).display(),
    );
    for (port, protocol) in [(993, "imap"), (995, "pop3"), (465, "smtp")] {
        text += &format!(" server {{ listen {address}:{port} ssl; protocol {protocol}; }}\n");
    }
    text += "}\n";
    let configuration = directory.join("nginx.conf");
    write(&configuration, text);
    let arguments = ["-c".as_ref(), configuration.as_os_str(), "-p".as_ref(), directory.as_os_str()];
    let kept = Kept::start("nginx", &arguments, &directory.join("said"), Some(&directory));
    until("nginx to listen", || TcpStream::connect((address, 993)).ok());
    (address, kept)
}

/// Prints what came of each login: in, or the class of the refusal.
const LOGINS: &str = include_str!("clients/logins.py");

#[test]
fn nginx_and_gatepost_ask_one_service_the_same_and_come_to_the_same() {
    let (dovecot, postfix) = (dovecot::shared(), postfix::shared());
    for user in ["nginx-joe", "nginx-alias", "nginx-patient"] {
        dovecot.user(user);
    }
    let service = Service::start(dovecot.imap(), dovecot.pop3(), postfix.smtp());
    let routes = format!(
        "  - {{ auth_http: \"http://{}/auth\", headers: {{ X-Auth-Key: hunter2 }} }}\nlimits: {{ failure_delay: 500ms }}\n",
        service.address
    );
    let gateway = Gatepost::start_routed(Backend::usual(), "", &routes);
    assert!(first_line(gateway.at(143)).is_some());
    let (address, nginx) = nginx(&gateway, service.address);

    let ours = python(&gateway, LOGINS);
    let asked_by_us = service.asked();
    let mut python = client("/usr/bin/python3");
    python.args(["-c", &format!("{}\n{LOGINS}", include_str!("clients/prelude.py"))]);
    python.env("GATE", address.to_string()).env("AUTHORITY", gateway.authority());
    let theirs = output_of(python, b"");
    let asked_by_nginx = service.asked();

    assert_eq!(ours, theirs, "nginx said:\n{}", nginx.said());
    assert_eq!(ours.lines().filter(|line| line.ends_with(" in")).count(), 11, "{ours}");
    assert_eq!(asked_by_us.len(), asked_by_nginx.len());
    for (us, nginx) in asked_by_us.iter().zip(&asked_by_nginx) {
        assert_eq!(us, nginx);
    }
    assert!(!gateway.log().contains("hunter2") && !gateway.log().contains("se%cr"));
}
