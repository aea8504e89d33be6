use super::*;

fn json(event: &Event) -> String {
    serde_json::to_string(event).expect("an event is plain data")
}

#[test]
fn tls_is_null_on_a_session_in_the_clear_and_absent_where_there_is_no_session() {
    let mut event = Event::new(Kind::AuthOk);
    event.session = Some(SessionId(0x1f));
    assert_eq!(json(&event), r#"{"event":"auth.ok","session":"000000000000001f","tls":null}"#);
    assert_eq!(json(&Event::new(Kind::ConfigReloaded)), r#"{"event":"config.reloaded"}"#);
}

#[test]
fn the_fields_have_the_contracts_names_and_order() {
    let mut event = Event::new(Kind::SessionClosed);
    event.session = Some(SessionId(1));
    event.listener = Some("imaps".into());
    event.protocol = Some(Service::Imap.into());
    event.client_ip = Some([192, 0, 2, 7].into());
    event.client_port = Some(40000);
    event.proxy_ip = Some([10, 0, 0, 9].into());
    event.tls = Some(Arc::new(TlsFacts {
        version: "1.3",
        cipher: "TLS13_AES_256_GCM_SHA384",
        group: Some("X25519MLKEM768"),
        sni: None,
        alpn: None,
        resumed: false,
        client: None,
    }));
    event.mechanism = Some(Mechanism::PLAIN);
    event.duration = Some(Duration::from_micros(1_234_567));
    event.bytes_in = Some(10);
    let expected = concat!(
        r#"{"event":"session.closed","session":"0000000000000001","listener":"imaps","protocol":"imap","#,
        r#""client_ip":"192.0.2.7","client_port":40000,"proxy_ip":"10.0.0.9","tls":{"version":"1.3","#,
        r#""cipher":"TLS13_AES_256_GCM_SHA384","group":"X25519MLKEM768","sni":null,"alpn":null,"resumed":false},"#,
        r#""mechanism":"PLAIN","duration_ms":1234,"bytes_in":10}"#
    );
    assert_eq!(json(&event), expected);
}

#[test]
fn a_line_is_what_serialising_would_write() {
    let mut event = Event::new(Kind::MessageAccepted);
    let same = |event: &Event| {
        let mut line = b"{\"x\":0".to_vec();
        event.write(&mut line);
        line.push(b'}');
        assert_eq!(String::from_utf8(line).expect("UTF-8"), json(event).replacen('{', "{\"x\":0,", 1));
    };
    same(&event);
    event.session = Some(SessionId(u64::MAX));
    same(&event);
    event.client_ip = Some("2001:db8::1".parse().expect("an address"));
    event.client_port = Some(0);
    event.protocol = Some(Service::Submission.into());
    event.tls = Some(Arc::new(TlsFacts {
        version: "1.2",
        cipher: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        group: None,
        sni: Some("\"\\ä\u{7f}".to_owned()),
        alpn: Some("smtp".to_owned()),
        resumed: true,
        client: Some(Box::new(Client { name: Some("joe".to_owned()), sha256: [7; 32] })),
    }));
    event.mechanism = Some(Mechanism::PLAIN);
    event.duration = Some(Duration::from_millis(u64::MAX));
    (event.bytes_in, event.bytes_out, event.size) = (Some(10), Some(u64::MAX), Some(1_234_567_890));
    same(&event);
    for text in ["", "plain", "\"", "\\", "a\"b\\c\"", "\r\n\0\u{1b}", "grüße\u{2028}\u{202e}\u{85}", &"ä".repeat(2000)]
    {
        let text = || Some(text.to_owned());
        (event.listener, event.user, event.login, event.backend) = (text(), text(), text(), text());
        (event.server, event.reason, event.reply, event.detail, event.from) = (text(), text(), text(), text(), text());
        same(&event);
    }
}

#[test]
fn who_has_shown_a_certificate_stands_within_tls() {
    let mut event = Event::new(Kind::AuthOk);
    let client = |name: Option<&str>| {
        let client = Client { name: name.map(str::to_owned), sha256: [0xab; 32] };
        Some(Arc::new(TlsFacts {
            version: "1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            group: None,
            sni: None,
            alpn: None,
            resumed: false,
            client: Some(Box::new(client)),
        }))
    };
    event.tls = client(Some("joe@example.net"));
    let sha256 = ["AB"; 32].join(":");
    let expected = format!(r#""resumed":false,"client":{{"name":"joe@example.net","sha256":"{sha256}"}}}}}}"#);
    assert!(json(&event).ends_with(&expected), "{}", json(&event));
    event.tls = client(None);
    assert!(json(&event).contains(r#""client":{"name":null,"#), "{}", json(&event));
    event.tls = client(Some("joe\u{202e}\u{85}ä"));
    assert!(!json(&event).chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", json(&event));
}

#[test]
fn a_name_from_the_network_cannot_break_or_turn_the_line() {
    let mut event = Event::new(Kind::AuthFailed);
    event.user = Some("eve\r\n{\"event\":\"auth.ok\"}\u{202e}\u{85}\u{1b}[2J".into());
    event.reply = Some("x".repeat(5000));
    let line = json(&event);
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line}");
    assert!(line.len() < 1300);
    event.user = Some("ä".repeat(200));
    let value: serde_json::Value = serde_json::from_str(&json(&event)).expect("valid JSON");
    assert_eq!(value["user"].as_str().map(str::len), Some(254));
}
