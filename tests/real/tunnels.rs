//! What is no mail: an old web server in the clear, curl in front, TLS and the client's address by the gateway.

use crate::clients::{client, curl, output_of, run};
use crate::gatepost::Gatepost;
use crate::kept::{Kept, directory, own_address, until, write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// nginx as a web server that believes a PROXY header, on port 80 of an address of its own.
fn web_server(large: &[u8]) -> (SocketAddr, Kept) {
    let (address, directory) = (own_address(), directory("web"));
    write(&directory.join("large"), large);
    let at = directory.display();
    let text = format!(
        "user root;\ndaemon off;\nworker_processes 1;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n access_log off;\n client_body_temp_path {at}/body;\n proxy_temp_path {at}/proxy;\n fastcgi_temp_path {at}/fastcgi;\n\
         uwsgi_temp_path {at}/uwsgi;\n scgi_temp_path {at}/scgi;\n\
         server {{\n listen {address}:80 proxy_protocol;\n root {at};\n client_max_body_size 64m;\n client_body_buffer_size 64m;\n\
         location /who {{ return 200 \"$proxy_protocol_addr\\n\"; }}\n\
         location /echo {{ proxy_pass http://{address}:81/; }}\n }}\n\
         server {{\n listen {address}:81;\n client_max_body_size 64m;\n location / {{ return 200 \"$content_length\\n\"; }}\n }}\n}}\n"
    );
    let configuration = directory.join("nginx.conf");
    write(&configuration, text);
    let arguments = [
        "-p".as_ref(),
        directory.as_os_str(),
        "-e".as_ref(),
        "stderr".as_ref(),
        "-c".as_ref(),
        configuration.as_os_str(),
    ];
    let kept = Kept::start("nginx", &arguments, &directory.join("said"), Some(&directory));
    until("nginx to listen", || TcpStream::connect((address, 80)).ok());
    ((address, 80).into(), kept)
}

/// curl from an address of its own, to the listener on port 443.
fn from(gateway: &Gatepost, source: Ipv4Addr) -> std::process::Command {
    let mut curl = curl(gateway);
    let to = format!("mail.example.net:443:{}", gateway.address);
    curl.args(["--fail", "--resolve", &to, "--interface", &source.to_string()]);
    curl
}

#[test]
fn curl_reads_an_old_web_server_over_tls_and_that_learns_who_asks() {
    let large: Vec<u8> = (0..20 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (server, web) = web_server(&large);
    let gateway = Gatepost::start_tunnel(server, "client_address: proxy-v2");
    let source = own_address();

    let mut who = from(&gateway, source);
    // Twice over one connection.
    who.args(["https://mail.example.net/who", "https://mail.example.net/who"]);
    assert_eq!(output_of(who, b""), format!("{source}\n{source}\n"), "{}", web.said());
    let closed = gateway.event_where("the end of it", |event| {
        event["event"] == "session.closed" && event["client_ip"] == source.to_string()
    });
    assert_eq!((&closed["protocol"], &closed["backend"]), (&"tcp".into(), &"main".into()), "{closed}");
    assert_eq!(closed["server"], server.to_string(), "{closed}");

    let there = directory("large");
    let mut download = from(&gateway, source);
    download.arg("--output").arg(there.join("got")).arg("https://mail.example.net/large");
    output_of(download, b"");
    assert!(std::fs::read(there.join("got")).expect("written") == large, "other octets came than there are");
    let mut upload = from(&gateway, source);
    upload.args(["--data-binary", "@-", "--header", "Expect:", "https://mail.example.net/echo"]);
    assert_eq!(output_of(upload, &large), format!("{}\n", large.len()));

    // Nothing of it goes without TLS.
    let mut plain = client("curl");
    plain.args(["--silent", &format!("http://{}:443/who", gateway.address)]);
    assert!(!run(plain, b"").ok);
    gateway.event_where("the refusal", |event| event["reason"] == "plaintext_on_tls_port");
    assert!(
        gateway.events().iter().all(|event| !event["event"].as_str().is_some_and(|kind| kind.starts_with("auth.")))
    );
}
